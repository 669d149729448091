"""Converts answers to the formats of clinical systems: FHIR R4 and DICOM."""
