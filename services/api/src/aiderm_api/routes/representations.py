"""Chooses the form of an answer by the request's header Accept: JSON, FHIR R4 or DICOM."""

from __future__ import annotations

import json
import secrets
from enum import StrEnum
from importlib.util import find_spec

from fastapi import Request

from aiderm_api import schemas
from aiderm_api.errors.problems import NotAcceptable
from aiderm_core.imaging.formats import sniff


class Form(StrEnum):
    """A media type in which an assessment can be answered."""

    JSON = "application/json"
    FHIR = "application/fhir+json"
    DICOM = "application/dicom"
    DICOM_PARTS = 'multipart/related; type="application/dicom"'


DESCRIPTIONS = {
    Form.FHIR: "a Bundle: DiagnosticReport, Observations, Device, Provenance and, for a DICOM file, its ImagingStudy",
    Form.DICOM: "for a DICOM file: a structured report (TID 1500)",
    Form.DICOM_PARTS: "the same, and with explain=true the outline as a segmentation and the heatmap as a secondary capture",
}


def wanted(request: Request) -> Form:
    """Returns the form that a request asks for; JSON if it names none of them.

    Raises:
        NotAcceptable: the request asks for DICOM, which this installation cannot write.
    """
    ranges = ",".join(request.headers.getlist("accept")).lower().split(",")
    form = max(
        ((_quality(each), form) for each in ranges if (form := _form(each))), key=lambda pair: pair[0], default=(1, Form.JSON)
    )[1]
    if form in (Form.DICOM, Form.DICOM_PARTS) and find_spec("highdicom") is None:
        raise NotAcceptable(
            f"Received: 'Accept: {form}'. Allowed: {Form.JSON} or {Form.FHIR}; DICOM needs the package highdicom, which is not "
            "installed here (the extra [dicom] of aiderm-api)."
        )
    return form


def represented(answer: schemas.Assessment, form: Form, data: bytes) -> tuple[bytes, str]:
    """Converts an answer to FHIR or DICOM.

    Args:
        answer: the assessment.
        form: FHIR or DICOM.
        data: the image file.

    Returns:
        The body and its media type.

    Raises:
        NotAcceptable: DICOM for an image that is not a DICOM file, or a DICOM file without the UIDs that a report has to name.
    """
    from aiderm_api.reports.source import source_of

    source = source_of(data)
    if form is Form.FHIR:
        from aiderm_api.reports.fhir_bundle import fhir_bundle

        return json.dumps(fhir_bundle(answer, source), ensure_ascii=False).encode(), form
    if source is None:
        kind = str(sniff(data)).upper()
        raise NotAcceptable(
            f"Received: a {kind} file and 'Accept: {form}'. Allowed: a DICOM file, which such a report refers to."
        )
    from aiderm_api.reports.dicom import secondary_capture, segmentation, structured_report, written

    images = []
    if form is Form.DICOM_PARTS:
        if answer.lesion is not None and "first_frame" not in answer.image.notes:  # one frame of several cannot be segmented
            images.append(segmentation(answer, source))
        if answer.heatmap is not None:
            images.append(secondary_capture(answer, source))
    found = [structured_report(answer, source, images), *images]
    if form is Form.DICOM:
        return written(found[0]), form
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: {Form.DICOM}\r\n\r\n".encode()
    body = b"".join(head + written(each) + b"\r\n" for each in found)
    return body + f"--{boundary}--\r\n".encode(), f"{form}; boundary={boundary}"


def _form(media_range: str) -> Form | None:
    name = media_range.partition(";")[0].strip()
    if name == "multipart/related":
        return Form.DICOM_PARTS if Form.DICOM in media_range else None
    return next((form for form in (Form.JSON, Form.FHIR, Form.DICOM) if name == form), None)


def _quality(media_range: str) -> float:
    for parameter in media_range.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
