"""An answer as a clinic's systems take it: FHIR R4 and DICOM."""
