"""Examples of every answer for the OpenAPI document; those of problems are defined with their classes, see problems."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from aiderm_api import DISCLAIMER, VERSION
from aiderm_api.errors.problems import EXAMPLE, EXAMPLE_REQUEST_ID, MEDIA_TYPE
from aiderm_api.reports.fhir_bundle import fhir_bundle
from aiderm_api.schemas import Assessment
from aiderm_api.serving.comparison import ADVICE, NO_CHANGE, SAME_FILE, SEE_A_DOCTOR, SUSPICIOUS_ALONE
from aiderm_core.most_likely import NOTE

_MODEL = {"name": "melanoma", "version": "2"}
_RULE = {"threshold": 0.032, "target_sensitivity": 0.95, "uncertain": [0.032, 0.176]}
_LABELS: list[dict[str, Any]] = [
    {"id": "mel", "name": "Melanoma", "malignant": True},
    {"id": "nv", "name": "Melanocytic naevus", "malignant": False},
]
_QUALITY = {
    "sharpness": 212.3,
    "brightness": 0.61,
    "contrast": 0.14,
    "underexposed": 0.0,
    "overexposed": 0.0,
    "glare": 0.01,
    "resolution": 450.0,
    "hair": 0.004,
    "ruler": 0.0,
    "ink": 0.0,
    "off_centre": 0.06,
    "warnings": [],
}
_BLURRED = {
    "code": "sharpness",
    "text": "The picture is blurred. Hold the dermatoscope still on the skin, let the camera focus, and take it again.",
    "advisory": False,
}


def _most_likely(melanoma: float) -> dict[str, Any]:
    odds = melanoma / 0.26, (1 - melanoma) / 0.74
    best = 0 if odds[0] >= odds[1] else 1
    even = round(odds[best] / sum(odds), 3)
    return {"id": _LABELS[best]["id"], "name": _LABELS[best]["name"], "probability_at_even_prevalence": even, "note": NOTE}


def _assessment(decision: str, melanoma: float | None, reason: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """An answer of a model with two classes; ``melanoma`` is its probability, None for a rejected image."""
    classes = [] if melanoma is None else zip(_LABELS, (melanoma, round(1 - melanoma, 3)), strict=True)
    answer = {
        "request_id": EXAMPLE_REQUEST_ID,
        "model": _MODEL,
        "thorough": False,
        "decision": decision,
        "reasons": [{"code": reason[0], "text": reason[1]}],
        "malignancy": None
        if melanoma is None
        else {
            "probability": melanoma,
            "threshold": _RULE["threshold"],
            "uncertain": _RULE["uncertain"],
            "prevalence": 0.26,
        },
        "classes": sorted(
            ({**label, "probability": probability} for label, probability in classes), key=lambda item: -item["probability"]
        ),
        "most_likely": None if melanoma is None else _most_likely(melanoma),
        "quality": _QUALITY,
        "novelty": {"score": 1.2, "limit": 1.72},
        "region": {"x": 75, "y": 0, "width": 450, "height": 450},
        "image": {"width": 600, "height": 450, "format": "jpeg", "notes": []},
        "heatmap": None,
        "lesion": None,
        "timing_ms": {"queue": 0.1, "decode": 3.1, "quality": 0.8, "forward": 9.0, "total": 13.7},
        "disclaimer": DISCLAIMER,
    }
    return answer | changes


_OUTLINE: dict[str, Any] = {
    "outline": [[210.0, 140.0], [300.0, 118.0], [388.0, 150.0], [402.0, 250.0], [330.0, 322.0], [225.0, 290.0]],
    "area": {"value": 0.152, "low": 0.102, "high": 0.215},
    "diameter": {"value": 0.49, "low": 0.377, "high": 0.598},
    "asymmetry": {"value": 0.081, "low": 0.006, "high": 0.124},
    "border": {"value": 1.21, "low": 1.0, "high": 1.428},
    "colours": [{"name": "dark_brown", "share": 0.64}, {"name": "light_brown", "share": 0.31}],
}
SUSPICIOUS = _assessment(
    "suspicious",
    0.62,
    ("threshold", "The estimate lies at or above the threshold."),
    lesion=_OUTLINE,
    heatmap="data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==",
)
REJECTED = _assessment(
    "rejected",
    None,
    ("novelty", "The picture does not resemble the dermoscopic pictures that the model was trained on."),
    novelty={"score": 2.54, "limit": 1.72},
)
_ASSESSMENTS = {
    "suspicious": ("At or above the threshold; with explain=true", SUSPICIOUS),
    "low_suspicion": (
        "Below the threshold, which is not the same as benign",
        _assessment("low_suspicion", 0.011, ("threshold", "The estimate lies below the threshold.")),
    ),
    "uncertain": (
        "Inside the uncertain band; the image is blurred as well",
        _assessment(
            "uncertain",
            0.09,
            ("band", "The estimate lies too close to the threshold to take a side."),
            quality={**_QUALITY, "sharpness": 8.4, "warnings": [_BLURRED]},
        ),
    ),
    "rejected": ("Not assessed: there is no probability", REJECTED),
}
_FAILED_ITEM = {**EXAMPLE, "retry_after": None}
_LESION: dict[str, Any] = {
    **{key: SUSPICIOUS[key] for key in ("request_id", "model", "thorough")},
    "decision": "uncertain",
    "reasons": [
        {
            "code": "disagreement",
            "text": "The pictures disagree: the estimate is low for picture 2 alone, but not for picture 1 alone.",
        }
    ],
    "malignancy": {**SUSPICIOUS["malignancy"], "probability": 0.119},
    "classes": [
        {**_LABELS[1], "probability": 0.881},
        {**_LABELS[0], "probability": 0.119},
    ],
    "most_likely": _most_likely(0.119),
    "counted": [0, 1],
    "left_out": [{"index": 2, "reasons": [{"code": EXAMPLE["code"], "text": EXAMPLE["detail"]}]}],
    "spread": {"log_odds_sd": 3.527, "log_odds": [-4.499, 0.49], "probability": [0.011, 0.62]},
    "disagreement": {"higher": [0], "lower": [1]},
    "images": [
        {"index": 0, "assessment": {**SUSPICIOUS, "heatmap": None, "lesion": None}, "problem": None},
        {"index": 1, "assessment": _ASSESSMENTS["low_suspicion"][1], "problem": None},
        {"index": 2, "assessment": None, "problem": _FAILED_ITEM},
    ],
    "disclaimer": DISCLAIMER,
}
_COMPARED = {"request_id": EXAMPLE_REQUEST_ID, "model": _MODEL, "disclaimer": DISCLAIMER}
_NO_NUMBERS = dict.fromkeys(("growth", "colour_change", "colours", "registration", "outlines", "overlay", "overlay_region"))
_CHANGED: dict[str, Any] = {
    **_COMPARED,
    "result": "changed",
    "reasons": [
        {"code": "growth", "text": "The spot covers 27% more skin than before (95% interval: 15% to 40%)."},
        {
            "code": "colour",
            "text": "The colour of the spot has changed against the skin around it. Colours that appeared: black.",
        },
    ],
    "advice": f"{SUSPICIOUS_ALONE} {SEE_A_DOCTOR}",
    "growth": {"value": 27.3, "low": 15.1, "high": 40.2},
    "colour_change": {"value": 6.4, "low": 3.1, "high": 9.7},
    "colours": {"appeared": ["black"], "vanished": []},
    "registration": {
        "matrix": [[0.97, 0.05, 4.2], [-0.05, 0.97, 11.8]],
        "scale": 0.971,
        "rotation": -2.95,
        "based_on": "texture",
    },
    "outlines": {
        "earlier": [[228.0, 152.0], [301.0, 133.0], [371.0, 160.0], [380.0, 241.0], [322.0, 302.0], [236.0, 276.0]],
        "later": [[215.2, 138.1], [304.2, 112.4], [391.8, 139.0], [406.7, 235.3], [339.9, 309.0], [236.5, 283.2]],
    },
    "overlay": SUSPICIOUS["heatmap"],
    "overlay_region": SUSPICIOUS["region"],
    "images": [_ASSESSMENTS["low_suspicion"][1], SUSPICIOUS],
}
_NO_CHANGE = {
    **_COMPARED,
    **_NO_NUMBERS,
    **{key: _CHANGED[key] for key in ("registration", "outlines")},
    "result": "no_change_found",
    "reasons": [{"code": NO_CHANGE.code, "text": NO_CHANGE.text}],
    "advice": ADVICE["no_change_found"],
    "growth": {"value": 1.8, "low": -5.9, "high": 10.1},
    "colour_change": {"value": 0.9, "low": 0.0, "high": 3.4},
    "colours": {"appeared": [], "vanished": []},
    "images": [_ASSESSMENTS["low_suspicion"][1]] * 2,
}
_NOT_COMPARABLE = {
    **_COMPARED,
    **_NO_NUMBERS,
    "result": "not_comparable",
    "reasons": [{"code": SAME_FILE.code, "text": SAME_FILE.text}],
    "advice": ADVICE["not_comparable"],
    "images": [_ASSESSMENTS["low_suspicion"][1]] * 2,
}
_SERVING = {"state": "serving", "version": "2", "runtime": "openvino", "precision": "f32", "reason": None}
_BROKEN = "version 3: golden/0.png: malignancy differs by 0.2; allowed 0.001"


def _health(status: str, **model: Any) -> dict[str, Any]:
    return {"status": status, "models": {"melanoma": _SERVING | model}, "version": VERSION}


_SUMMARY = {
    **_MODEL,
    "default": True,
    "architecture": "mobilenet_v2",
    "labels": _LABELS,
    "decision": _RULE,
    "input": {"size": 224, "geometry": "center_square"},
    "novelty": {"limit": 1.72, "false_rejection_rate": 0.009, "method": "Mahalanobis distance", "evaluation": {}},
    "calibration": {
        "method": "temperature",
        "temperature": 1.34,
        "malignant_shift": 0.0,
        "prevalence": 0.26,
        "ece_before": 0.048,
        "ece_after": 0.023,
        "coverage": {},
    },
    "thorough": None,
}
_DETAIL = {
    **_SUMMARY,
    "metrics": {"test": {"roc_auc": {"value": 0.942, "ci95": [0.922, 0.957]}, "n": {"value": 1815, "ci95": None}}},
    "data": {
        "sources": ["ham10000"],
        "fingerprint": "39570db7683b4d59401d65c9d886ec716ae03c43acf6949af5a37a5917c0fc9b",
        "counts": {"train/benign": 7881, "train/malignant": 3528},
        "licence": "Non-commercial research only.",
    },
    "intended_use": "Research on computer-aided reading of dermoscopic images of single skin lesions.",
    "limitations": ["Assesses only dermoscopic images of a single lesion."],
    "card": "# Model card: melanoma 2\n",
}
_REPORT = {"schema_version": 1, **_MODEL, "main": "test", "threshold": 0.032, "metrics": {"test": {"roc_auc": {"value": 0.942}}}}
_METRICS = '# HELP aiderm_decisions_total Assessments\n# TYPE aiderm_decisions_total counter\naiderm_decisions_total{decision="suspicious",model="melanoma",version="2"} 1.0\n'  # noqa: E501

# (operation, status) -> name -> (summary, value)
ANSWERS: dict[tuple[str, str], dict[str, tuple[str, Any]]] = {
    ("POST /predict", "200"): _ASSESSMENTS,
    ("POST /predict/batch", "200"): {
        "mixed": (
            "One image assessed, one file refused",
            {
                "results": [
                    {"index": 0, "assessment": {**SUSPICIOUS, "heatmap": None}, "problem": None},
                    {"index": 1, "assessment": None, "problem": _FAILED_ITEM},
                ]
            },
        )
    },
    ("POST /predict/lesion", "200"): {
        "disagreement": ("Two images disagree; a third file is none", _LESION),
    },
    ("POST /compare", "200"): {
        "changed": ("The spot has grown and has another colour; with explain=true", _CHANGED),
        "no_change_found": ("No change was found, which rules nothing out", _NO_CHANGE),
        "not_comparable": ("The images cannot be compared", _NOT_COMPARABLE),
    },
    ("GET /health", "200"): {
        "ok": ("All models serve", _health("ok")),
        "degraded": ("A newer version failed to load; the old one keeps serving", _health("degraded", reason=_BROKEN)),
    },
    ("GET /health", "503"): {
        "unavailable": (
            "The default model is not served",
            _health("unavailable", state="failed", version=None, precision=None, reason=_BROKEN),
        )
    },
    ("GET /health/live", "200"): {"alive": ("The process answers", {"status": "alive"})},
    ("GET /health/ready", "200"): {"ready": ("Images can be assessed", {"status": "ready"})},
    ("GET /models", "200"): {"one": ("One model serves", {"default": "melanoma", "models": [_SUMMARY]})},
    ("GET /models/{name}", "200"): {"melanoma": ("Shortened", _DETAIL)},
    ("GET /models/{name}/report", "200"): {"melanoma": ("Shortened", _REPORT)},
    ("GET /metrics", "200"): {"text": ("Shortened", _METRICS)},
}


def attach(document: dict[str, Any]) -> None:
    """Adds the examples of answers to an OpenAPI document, in place.

    FastAPI would drop every null in them, and with it the difference between "no heatmap" and a field that is missing.
    """
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                named = ANSWERS.get((f"{method.upper()} {path}", status), {})
                for media_type, content in response.get("content", {}).items():
                    if content["schema"].get("format") == "binary":
                        continue
                    if media_type == "application/fhir+json":
                        summary, value = next(iter(named.values()))
                        bundle = fhir_bundle(Assessment.model_validate(value), now=datetime(2026, 3, 1, 9, 30, tzinfo=UTC))
                        content["examples"] = {"bundle": {"summary": summary, "value": bundle}}
                    elif named and media_type != MEDIA_TYPE:
                        content["examples"] = {
                            name: {"summary": summary, "value": copy.deepcopy(value)} for name, (summary, value) in named.items()
                        }
