"""Converts an answer to DICOM with highdicom: a structured report after TID 1500, a segmentation and a secondary capture.

The segmentation is the lesion's outline, the secondary capture the heatmap. The report is derived from the FHIR report, so that
both say the same: each Observation's values become measurements, its
interpretation a qualitative evaluation, and the sentences of the conclusion one comment.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import cv2
import numpy as np

from aiderm_api import DISCLAIMER
from aiderm_api.reports.fhir import CODE_SYSTEM, Json, diagnostic_report
from aiderm_api.schemas import Assessment

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept, Measurement
    from pydicom.dataset import Dataset

SCHEME = "99AIDERM"
_MANUFACTURER = "AI Dermatologist (open-source research software)"
_LONGEST = 64  # maximum length of a code's meaning and of a description
_DECISION = {"code": "decision", "display": "Decision"}
_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.4"  # Multi-frame True Color Secondary Capture
_SERIES = {"report": 9_601, "heatmap": 9_602, "outline": 9_603}


def structured_report(assessment: Assessment, source: Dataset, evidence: Sequence[Dataset] = ()) -> Dataset:
    """A Comprehensive SR on the image ``source``: complete, neither verified nor final.

    Its UIDs are derived from the image, the model and the use of test-time augmentation, so that a second report with the same
    settings replaces the first.

    Args:
        assessment: the answer.
        source: references of the image.
        evidence: segmentation and secondary capture, to which the report then refers.

    Raises:
        ImportError: highdicom is not installed.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    report = diagnostic_report(assessment)
    model = assessment.model
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid("device", model.name, model.version),
        name="AI Dermatologist", manufacturer_name=_MANUFACTURER, model_name=_cut(f"{model.name} {model.version}"),
    )  # fmt: skip
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    frames = [1] if source.SOPClassUID == _MULTI_FRAME else None  # images of other classes must not name frames
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid("tracking", *_key(assessment, source)), identifier="Assessed image"),
        algorithm_id=sr.AlgorithmIdentification(
            name="AI Dermatologist", version=f"{model.name} {model.version}", parameters=[f"tta={assessment.thorough}".lower()]
        ),
        measurements=list(_measurements(report)),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_concept(_DECISION), _concept(_coding(report["conclusionCode"][0]))),
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=source.SOPClassUID, referenced_sop_instance_uid=source.SOPInstanceUID,
                referenced_frame_numbers=frames,
            )
        ],
    )  # fmt: skip
    comment = sr.TextContentItem(codes.DCM.Comment, report["conclusion"], sr.RelationshipTypeValues.CONTAINS)
    group[0].ContentSequence.append(comment)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.DermoscopicPhotography,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    found = sr.ComprehensiveSR(
        evidence=[source, *evidence],
        content=content[0],
        is_complete=True, is_final=False, is_verified=False,
        specific_character_set="ISO_IR 192", **_instance("report", assessment, source),
    )  # fmt: skip
    _describe_scheme(found)
    return found


def segmentation(assessment: Assessment, source: Dataset) -> Dataset:
    """The inside of the lesion's outline as a Segmentation of the image ``source`` with one binary segment.

    Raises:
        ImportError: highdicom is not installed.
        ValueError: the answer has no outline.
    """
    from highdicom import AlgorithmIdentificationSequence, seg
    from pydicom.sr.codedict import codes

    if assessment.lesion is None:
        raise ValueError("the answer has no outline")
    image, model = assessment.image, assessment.model
    mask = np.zeros((1, image.height, image.width), np.uint8)
    # The outline counts from the corner of the first pixel, OpenCV from its centre.
    cv2.fillPoly(mask[0], [np.rint(np.array(assessment.lesion.outline) - 0.5).astype(np.int32)], 1)
    segment = seg.SegmentDescription(
        segment_number=1, segment_label="Lesion", algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure, segmented_property_type=codes.SCT.Lesion,
        algorithm_identification=AlgorithmIdentificationSequence(
            "AI Dermatologist", codes.DCM.ArtificialIntelligence, f"{model.name} {model.version}"
        ),
    )  # fmt: skip
    segmented = copy(source)
    segmented.Rows, segmented.Columns, segmented.Modality = image.height, image.width, "XC"
    found = seg.Segmentation(
        source_images=[segmented], pixel_array=mask, segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        content_description=_cut(DISCLAIMER), **_instance("outline", assessment, source),
    )  # fmt: skip
    found.add_new("PatientOrientation", "CS", None)
    return found


def secondary_capture(assessment: Assessment, source: Dataset) -> Dataset:
    """The heatmap of the assessed region in colour on black, as a Secondary Capture of the image ``source``.

    Raises:
        ImportError: highdicom is not installed.
        ValueError: the answer has no heatmap.
    """
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    if assessment.heatmap is None:
        raise ValueError("the answer has no heatmap")
    encoded = base64.b64decode(assessment.heatmap.partition(",")[2])
    rgba = np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED))
    colours = (rgba[..., 2::-1].astype(np.uint16) * rgba[..., 3:] // 255).astype(np.uint8)
    found = SCImage(
        pixel_array=colours, photometric_interpretation="RGB", bits_allocated=8, coordinate_system="PATIENT",
        study_instance_uid=source.StudyInstanceUID,
        patient_id=source.PatientID, patient_name=source.PatientName, patient_birth_date=source.PatientBirthDate or None,
        patient_sex=source.PatientSex or None, accession_number=source.AccessionNumber, study_id=source.StudyID,
        study_date=source.StudyDate or None, study_time=source.StudyTime or None,
        referring_physician_name=source.ReferringPhysicianName, patient_orientation=("L", "F"),
        specific_character_set="ISO_IR 192", **_instance("heatmap", assessment, source),
    )  # fmt: skip
    region, reference = assessment.region, Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    found.SourceImageSequence = [reference]
    found.DerivationDescription = (
        f"Heatmap of the region of {region.width} x {region.height} pixels at column {region.x}, row {region.y}. {DISCLAIMER}"
    )
    found.add_new("PatientOrientation", "CS", None)  # unknown; only highdicom requires a value
    found.add_new("Laterality", "CS", None)
    found.BurnedInAnnotation = "NO"
    return found


def written(found: Dataset) -> bytes:
    """A data set as a DICOM file."""
    import pydicom

    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


def _measurements(report: Json) -> Iterator[Measurement]:
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    def measurement(code: Json, quantity: Json, derivation: Any = None) -> Measurement:
        unit = (
            codes.UCUM.NoUnits
            if quantity["code"] == "1"
            else _concept({"code": quantity["code"], "display": quantity["unit"]}, "UCUM")
        )
        return Measurement(_concept(_coding(code)), quantity["value"], unit, derivation=derivation)

    for observation in (item for item in report["contained"] if item["resourceType"] == "Observation"):
        for part in (observation, *observation.get("component", ())):
            if "valueQuantity" in part:
                yield measurement(part["code"], part["valueQuantity"])
            elif "valueRange" in part:
                yield measurement(part["code"], part["valueRange"]["low"], codes.SCT.Minimum)
                yield measurement(part["code"], part["valueRange"]["high"], codes.SCT.Maximum)


def _coding(concept: Json) -> Json:
    coding: Json = concept["coding"][0]
    return coding


def _concept(coding: Json, scheme: str = SCHEME) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(coding["code"], scheme, _cut(coding["display"]))


def _describe_scheme(found: Dataset) -> None:
    from pydicom.dataset import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeUID = f"2.25.{UUID(CODE_SYSTEM).int}"
    scheme.CodingSchemeName = "What the AI Dermatologist observes and decides"
    found.CodingSchemeIdentificationSequence = [scheme]


def _instance(kind: str, assessment: Assessment, source: Dataset) -> dict[str, Any]:
    """The attributes that identify an object, in a separate series, and what made it."""
    model = assessment.model
    return {
        "series_instance_uid": _uid(f"{kind} series", *_key(assessment, source)),
        "series_number": _SERIES[kind],
        "series_description": _cut(DISCLAIMER),
        "sop_instance_uid": _uid(kind, *_key(assessment, source)),
        "instance_number": 1,
        "manufacturer": _MANUFACTURER,
        "manufacturer_model_name": "AI Dermatologist",
        "software_versions": _cut(f"{model.name} {model.version}"),
        "device_serial_number": f"{model.name}-{model.version}"[:_LONGEST],
    }


def _key(assessment: Assessment, source: Dataset) -> tuple[str, ...]:
    return (source.SOPInstanceUID, assessment.model.name, assessment.model.version, str(assessment.thorough))


def _uid(kind: str, *key: str) -> str:
    return f"2.25.{uuid5(NAMESPACE_URL, '/'.join([CODE_SYSTEM, kind, *key])).int}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
