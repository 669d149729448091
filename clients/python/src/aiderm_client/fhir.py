"""An Assessment as a FHIR R4 DiagnosticReport with its Observations: a pure function, no network and no clock.

Codes are HL7's own for category, interpretation and absent data, and UCUM's for units. LOINC and SNOMED CT are not known to
have codes for what this model measures, so those codings are local (``CODE_SYSTEM``, ``CLASS_SYSTEM``) and come with a
text; a site that has agreed on other codes can map them.

The Python client has this module too: ``clients/generate.py`` copies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from aiderm_client.response_models import Assessment, ClassProbability, Decision, Quality
from aiderm_client.response_models import Lesion as LesionOut

Json = dict[str, Any]

CODE_SYSTEM: Final = "urn:uuid:5a9a0355-5dea-465b-9afa-331230aeec55"
"""Identifies the codes of observations and decisions."""
CLASS_SYSTEM: Final = "urn:uuid:22de2c75-86db-430d-933d-763270046d0c"
"""Identifies the codes of a model's classes, which are the ids of its labels."""
REQUEST_SYSTEM: Final = "urn:uuid:1bf803b0-db9c-4da6-9509-2dd94a0d5db1"
"""Identifies the system of the report's identifier, which is the request's id."""
UCUM: Final = "http://unitsofmeasure.org"
HL7: Final = "http://terminology.hl7.org/CodeSystem/"

_CODES: Final = {
    "report": "Dermoscopic image assessed by the AI Dermatologist",
    "malignancy": "Calibrated probability of malignancy",
    "threshold": "Threshold at and above which the image counts as suspicious",
    "uncertain": "Band of probabilities in which no side is taken",
    "prevalence": "Share of malignant lesions that the probability assumes",
    "classes": "Calibrated probability of each class of the model",
    "novelty": "Distance of the image from the images that the model was trained on",
    "novelty_limit": "Distance above which an image is not assessed",
    "quality": "Quality of the assessed region of the image",
    "sharpness": "Variance of the Laplacian of the luminance",
    "brightness": "Mean luminance",
    "contrast": "Standard deviation of the luminance",
    "underexposed": "Share of the region that is black",
    "overexposed": "Share of the region that is white",
    "glare": "Share of the region under reflections",
    "resolution": "Pixels on each side of the region",
    "hair": "Share of the region under hair",
    "ruler": "Contrast of a ruler's marks",
    "ink": "Share of the region under pen marks or another colour",
    "off_centre": "Distance of the lesion from the middle of the region, in sides of it",
    "lesion": "The lesion's outline and what lies inside: observations, of which no decision depends on any",
    "area": "Share of the region that the lesion covers",
    "diameter": "Longest distance between two points of the lesion, in sides of the region",
    "area_mm2": "Area of the lesion",
    "diameter_mm": "Longest distance between two points of the lesion",
    "asymmetry": "Share of the lesion without a counterpart when mirrored at its principal axes",
    "border": "Squared perimeter of the lesion by 4 pi times its area",
}
_UNITS: Final = {"area_mm2": "mm2", "diameter_mm": "mm"}
_INTERVAL: Final = "Interval that held a hand-drawn outline's value for 95% of lesions: "
_COLOUR: Final = "Share of the lesion that is nearest to the colour "
_DECISIONS: Final = {
    Decision.LOW_SUSPICION: "Low suspicion",
    Decision.SUSPICIOUS: "Suspicious",
    Decision.UNCERTAIN: "Uncertain",
    Decision.REJECTED: "Not assessed",
}
# HL7's flags. None for low suspicion: its "normal" would say that the lesion is benign, which no answer of the model does.
_FLAGS: Final = {Decision.SUSPICIOUS: ("A", "Abnormal"), Decision.UNCERTAIN: ("IND", "Indeterminate")}
_NOT_BENIGN: Final = "Below the threshold is not the same as benign: the model misses some malignant lesions."


def diagnostic_report(
    assessment: Assessment,
    *,
    subject: str | Mapping[str, Any] | None = None,
    effective: datetime | None = None,
    issued: datetime | None = None,
) -> Json:
    """A DiagnosticReport resource (R4, 4.0.1) as JSON, with its Observations and the model (a Device) contained.

    Its status is ``preliminary``: nobody has verified what the model says. A rejected image's report holds no number at
    all: the probability's Observation is ``cancelled`` with a reason for the absent value, and the others say in words
    what stood in the way. The heatmap is not part of the report.

    Args:
        assessment: what the service answered.
        subject: the patient, as a reference such as ``Patient/123`` or a whole Reference.
        effective: when the image was taken; with a time zone.
        issued: when this report was made; with a time zone.

    Raises:
        ValueError: a time without a zone, which FHIR does not allow.
    """
    context: Json = {}
    if subject is not None:
        context["subject"] = {"reference": subject} if isinstance(subject, str) else dict(subject)
    if effective is not None:
        context["effectiveDateTime"] = _instant("effective", effective)
    if issued is not None:
        context["issued"] = _instant("issued", issued)
    observations = [
        {"resourceType": "Observation", "device": {"reference": "#model"}, **context, **part}
        for part in _observations(assessment)
    ]
    conclusion = _conclusion(assessment)
    return {
        "resourceType": "DiagnosticReport",
        "language": "en",
        "text": _narrative(conclusion),
        "contained": [_device(assessment), *observations],
        "identifier": [{"system": REQUEST_SYSTEM, "value": assessment.request_id}],
        "status": "preliminary",
        "category": [{"text": "Dermoscopy"}],
        "code": _code("report"),
        **context,
        "result": [{"reference": f"#{item['id']}", "display": item["code"]["text"]} for item in observations],
        "conclusion": " ".join(conclusion),
        "conclusionCode": [_decision(assessment.decision)],
    }


def _observations(assessment: Assessment) -> Iterable[Json]:
    """The Observations without their common fields; an image that was not assessed has no classes."""
    yield _observation("malignancy", _malignancy(assessment))
    if assessment.classes:
        yield _observation("classes", {"component": [_class(item) for item in assessment.classes]})
    yield _observation("novelty", _novelty(assessment))
    yield _observation("quality", _quality(assessment))
    if assessment.lesion is not None:
        yield _observation("lesion", _lesion(assessment.lesion))


def _malignancy(assessment: Assessment) -> Json:
    notes = [{"text": reason.text} for reason in assessment.reasons]
    malignancy = assessment.malignancy
    if malignancy is None:
        absent = _concept(HL7 + "data-absent-reason", "not-performed", "Not Performed")
        return {"status": "cancelled", "dataAbsentReason": absent, "note": notes}
    low, high = malignancy.uncertain
    interpretation = _decision(assessment.decision)
    if flag := _FLAGS.get(assessment.decision):
        interpretation["coding"].append(_coding(HL7 + "v3-ObservationInterpretation", *flag))
    return {
        "valueQuantity": _quantity(malignancy.probability),
        "interpretation": [interpretation],
        "note": notes,
        "component": [
            _component("threshold", valueQuantity=_quantity(malignancy.threshold)),
            _component("uncertain", valueRange={"low": _quantity(low), "high": _quantity(high)}),
            _component("prevalence", valueQuantity=_quantity(malignancy.prevalence)),
        ],
    }


def _class(item: ClassProbability) -> Json:
    name = f"{item.name} ({'malignant' if item.malignant else 'not malignant'})"
    code = {**_concept(CLASS_SYSTEM, item.id, item.name), "text": name}
    return {"code": code, "valueQuantity": _quantity(item.probability)}


def _novelty(assessment: Assessment) -> Json:
    novelty = assessment.novelty
    if assessment.decision is Decision.REJECTED:
        return {"valueString": "Beyond the limit." if novelty.score > novelty.limit else "Within the limit."}
    limit = _component("novelty_limit", valueQuantity=_quantity(novelty.limit))
    return {"valueQuantity": _quantity(novelty.score), "component": [limit]}


def _quality(assessment: Assessment) -> Json:
    quality = assessment.quality
    codes = ", ".join(warning.code for warning in quality.warnings)
    parts: Json = {"valueString": f"Warnings: {codes}." if codes else "No warnings."}
    if codes:
        parts["note"] = [{"text": warning.text} for warning in quality.warnings]
    if assessment.decision is not Decision.REJECTED:
        parts["component"] = _measures(quality)
    return parts


def _measures(quality: Quality) -> list[Json]:
    units = {"resolution": ("pixels", "{pixels}")}
    return [
        _component(name, valueQuantity=_quantity(getattr(quality, name), *units.get(name, ())))
        for name in type(quality).model_fields
        if name != "warnings"
    ]


def _lesion(lesion: LesionOut) -> Json:
    components = []
    for name in ("area", "diameter", "asymmetry", "border", "area_mm2", "diameter_mm"):
        measure = getattr(lesion, name)
        if measure is None:
            continue
        unit = _UNITS.get(name, "1")
        value, low, high = (_quantity(each, unit, unit) for each in (measure.value, measure.low, measure.high))
        bounds = f"{name}_span" if name in _UNITS else f"{name}_bounds"  # a code of DICOM has 16 characters at most
        interval = _concept(CODE_SYSTEM, bounds, _INTERVAL + name)
        components += [_component(name, valueQuantity=value), {"code": interval, "valueRange": {"low": low, "high": high}}]
    for colour in lesion.colours:
        concept = _concept(CODE_SYSTEM, colour.name, _COLOUR + colour.name.replace("_", " "))
        components.append({"code": concept, "valueQuantity": _quantity(colour.share)})
    names = ", ".join(colour.name.replace("_", " ") for colour in lesion.colours)
    return {"valueString": f"Colours: {names}." if names else "No colour covers 5% of the lesion.", "component": components}


def _device(assessment: Assessment) -> Json:
    return {
        "resourceType": "Device",
        "id": "model",
        "deviceName": [{"name": f"AI Dermatologist, model {assessment.model.name}", "type": "model-name"}],
        "version": [{"value": assessment.model.version}],
        "note": [{"text": assessment.disclaimer}],
    }


def _conclusion(assessment: Assessment) -> list[str]:
    sentences = [f"{_DECISIONS[assessment.decision]}.", *(reason.text for reason in assessment.reasons)]
    if malignancy := assessment.malignancy:
        sentences.append(
            f"Probability of malignancy {malignancy.probability:.3g} at an assumed prevalence of {malignancy.prevalence:.3g}; "
            f"threshold {malignancy.threshold:.3g}."
        )
    if assessment.decision is Decision.LOW_SUSPICION:
        sentences.append(_NOT_BENIGN)
    return [*sentences, assessment.disclaimer]


def _narrative(sentences: Iterable[str]) -> Json:
    paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'}


def _observation(code: str, parts: Json) -> Json:
    category = [_concept(HL7 + "observation-category", "imaging", "Imaging")]
    return {"id": code, "status": "preliminary", "category": category, "code": _code(code), **parts}


def _component(code: str, **value: Any) -> Json:
    return {"code": _code(code), **value}


def _code(code: str) -> Json:
    return _concept(CODE_SYSTEM, code, _CODES[code])


def _decision(decision: Decision) -> Json:
    return _concept(CODE_SYSTEM, decision.value, _DECISIONS[decision])


def _concept(system: str, code: str, display: str) -> Json:
    return {"coding": [_coding(system, code, display)], "text": display}


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": system, "code": code, "display": display}


def _quantity(value: float, unit: str = "1", code: str = "1") -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": code}


def _instant(name: str, value: datetime) -> str:
    offset = value.utcoffset()
    if offset is None:
        raise ValueError(f"{name} needs a time zone. Received: {value!r}")
    whole_minutes = offset.total_seconds() % 60 == 0  # FHIR allows no others; offsets from before standard time had seconds
    return (value if whole_minutes else value.astimezone(UTC)).isoformat(timespec="milliseconds")
