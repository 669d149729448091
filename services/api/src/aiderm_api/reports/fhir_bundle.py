"""Builds a FHIR R4 Bundle: the DiagnosticReport, its Observations and Device, the ImagingStudy of a DICOM file, and a Provenance.

Every resource that the model has written carries HL7's security label AIAST (artificial intelligence asserted), as
in the implementation guide AI Transparency on FHIR.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from aiderm_api.reports.fhir import CODE_SYSTEM, HL7, Json, diagnostic_report
from aiderm_api.schemas import Assessment

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_WRITTEN = {"DiagnosticReport", "Observation", "Provenance"}


def fhir_bundle(assessment: Assessment, source: Dataset | None = None, now: datetime | None = None) -> Json:
    """A Bundle of type ``collection``.

    Args:
        assessment: the answer.
        source: references of the assessed DICOM file; its patient's identifier names the subject.
        now: when the report is issued; the current time by default.
    """
    now = now or datetime.now(UTC)
    subject = _subject(source)
    report = diagnostic_report(assessment, subject=subject, issued=now)
    urls = {f"#{part['id']}": _url(assessment, part["id"]) for part in report["contained"]}
    parts = [
        (urls[f"#{part['id']}"], {key: value for key, value in part.items() if key != "id"}) for part in report.pop("contained")
    ]
    urls |= {name: _url(assessment, name) for name in ("report", "study", "provenance")}
    if source is not None:
        report["imagingStudy"] = [{"reference": urls["study"]}]
        parts.append((urls["study"], _study(source, subject or {})))
    parts = [(urls["report"], report), *parts, (urls["provenance"], _provenance(urls, source is not None, now))]
    security = [{"system": f"{HL7}v3-ObservationValue", "code": "AIAST", "display": "Artificial Intelligence asserted"}]
    tag = [{"system": CODE_SYSTEM, "code": "research", "display": assessment.disclaimer}]
    entries = []
    for url, part in parts:
        if part["resourceType"] in _WRITTEN:
            part = {**part, "meta": {"security": security, "tag": tag}}
        entries.append({"fullUrl": url, "resource": _referring(part, urls)})
    return {
        "resourceType": "Bundle", "meta": {"security": security, "tag": tag}, "type": "collection",
        "timestamp": report["issued"], "entry": entries,
    }  # fmt: skip


def _subject(source: Dataset | None) -> Json | None:
    if source is None:
        return None
    if source.PatientID:
        return {"identifier": {"value": str(source.PatientID)}}
    return {"display": "The patient of the image, who has no identifier in it"}


def _study(source: Dataset, subject: Json) -> Json:
    instance = {
        "uid": str(source.SOPInstanceUID), "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{source.SOPClassUID}"}
    }  # fmt: skip
    modality = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "XC", "display": "External-camera Photography"}
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{source.StudyInstanceUID}"}],
        "status": "available",
        "subject": subject,
        "series": [{"uid": str(source.SeriesInstanceUID), "modality": modality, "instance": [instance]}],
    }


def _provenance(urls: dict[str, str], of_study: bool, now: datetime) -> Json:
    image: Json = {"reference": urls["study"]} if of_study else {"display": "The image that was sent with the request"}
    kind = {"coding": [{"system": f"{HL7}provenance-participant-type", "code": "assembler", "display": "Assembler"}]}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": urls["report"]}],
        "recorded": now.isoformat(timespec="milliseconds"),
        "agent": [{"type": kind, "who": {"reference": urls["#model"]}}],
        "entity": [{"role": "source", "what": image}],
    }


def _url(assessment: Assessment, name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{CODE_SYSTEM}/{assessment.request_id}/{name}')}"


def _referring(node: Any, urls: dict[str, str]) -> Any:
    """Copies a node; its references then point to the entries of the Bundle."""
    if isinstance(node, dict):
        return {
            key: urls.get(value, value) if key == "reference" and isinstance(value, str) else _referring(value, urls)
            for key, value in node.items()
        }
    return [_referring(each, urls) for each in node] if isinstance(node, list) else node
