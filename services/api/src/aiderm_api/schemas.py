"""The bodies of the HTTP API, exactly as clients see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aiderm_api import DISCLAIMER, VERSION
from aiderm_api.problems import Problem
from aiderm_core.decision import Decision
from aiderm_core.manifest import Calibration, Data, DecisionRule, Input, Label, Metric, Novelty, Thorough

Share = Annotated[float, Field(ge=0.0, le=1.0)]

_EXAMPLE: dict[str, Any] = {
    "request_id": "5f2c0c1c8b7a4a5f9a3a0d4c1b2e3f40",
    "model": {"name": "melanoma", "version": "1"},
    "thorough": False,
    "decision": "suspicious",
    "reasons": [{"code": "threshold", "text": "The estimate lies at or above the threshold."}],
    "malignancy": {"probability": 0.62, "threshold": 0.2, "uncertain": [0.15, 0.25], "prevalence": 0.3},
    "classes": [
        {"id": "mel", "name": "Melanoma", "malignant": True, "probability": 0.58},
        {"id": "nv", "name": "Melanocytic naevus", "malignant": False, "probability": 0.42},
    ],
    "quality": {
        "sharpness": 212.3,
        "brightness": 0.61,
        "contrast": 0.14,
        "underexposed": 0.0,
        "overexposed": 0.0,
        "glare": 0.01,
        "resolution": 450.0,
        "warnings": [],
    },
    "novelty": {"score": 1.2, "limit": 9.0},
    "region": {"x": 75, "y": 0, "width": 450, "height": 450},
    "image": {"width": 600, "height": 450, "format": "jpeg", "notes": []},
    "heatmap": "data:image/png;base64,iVBORw0KGgo=",
    "timing_ms": {"decode": 3.1, "queue": 0.1, "forward": 9.0, "total": 12.9},
    "disclaimer": DISCLAIMER,
}


class ModelRef(BaseModel):
    """Which model answered."""

    name: str
    version: str


class ReasonOut(BaseModel):
    """Why the decision was taken: a stable code for programs, a sentence for people."""

    code: Annotated[str, Field(description="threshold, band, quality, novelty or quality_<metric>")]
    text: str


class Malignancy(BaseModel):
    """Calibrated probability of malignancy, which assumes the prevalence beside it."""

    probability: Share
    threshold: Share
    uncertain: tuple[Share, Share]
    prevalence: Share


class ClassProbability(BaseModel):
    """Calibrated probability of one class of the model."""

    id: str
    name: str
    malignant: bool
    probability: Share


class QualityWarningOut(BaseModel):
    """A metric of the picture that lies beyond its usual range, and what to do about it."""

    code: str
    text: str


class Quality(BaseModel):
    """Measures of the judged region, see aiderm_core.quality, and warnings about them."""

    sharpness: float
    brightness: float
    contrast: float
    underexposed: float
    overexposed: float
    glare: float
    resolution: float
    warnings: list[QualityWarningOut]


class NoveltyOut(BaseModel):
    """Distance from the training images; above the limit a picture is not assessed."""

    score: float
    limit: float


class RegionOut(BaseModel):
    """The part of the upright picture that was judged, in pixels."""

    x: int
    y: int
    width: int
    height: int


class ImageOut(BaseModel):
    """The upright picture as it was decoded; notes are codes such as first_frame."""

    width: int
    height: int
    format: str
    notes: list[str]


class Timing(BaseModel):
    """Milliseconds. Total counts from the complete upload."""

    decode: float
    queue: float
    forward: float
    total: float


class Assessment(BaseModel):
    """What the model says of one picture. A rejected picture has no malignancy, classes or heatmap."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    request_id: str
    model: ModelRef
    thorough: Annotated[bool, Field(description="judged from eight orientations, by a threshold and band of their own")]
    decision: Decision
    reasons: list[ReasonOut]
    malignancy: Malignancy | None
    classes: Annotated[list[ClassProbability], Field(description="highest probability first")]
    quality: Quality
    novelty: NoveltyOut
    region: RegionOut
    image: ImageOut
    heatmap: Annotated[str | None, Field(description="PNG data URI (RGBA) to lay over the region; only with explain=true")]
    timing_ms: Timing
    disclaimer: str = DISCLAIMER


class BatchItem(BaseModel):
    """One file's answer: an assessment or a problem."""

    index: Annotated[int, Field(ge=0, description="place of the file in the request")]
    assessment: Assessment | None
    problem: Problem | None


class BatchAnswer(BaseModel):
    """One item a file, in the order of the request."""

    model_config = ConfigDict(json_schema_extra={"example": {"results": [{"index": 0, "assessment": _EXAMPLE, "problem": None}]}})

    results: list[BatchItem]


class ModelHealth(BaseModel):
    """State of one model. A serving model with a reason could not be replaced by a newer version."""

    state: Literal["serving", "loading", "failed"]
    version: str | None
    runtime: str
    precision: str | None
    reason: str | None


class Health(BaseModel):
    """ok; degraded when something other than the default model fails; unavailable when the default model does not serve."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ok",
                "models": {
                    "melanoma": {"state": "serving", "version": "1", "runtime": "openvino", "precision": "f32", "reason": None}
                },
                "version": VERSION,
            }
        }
    )

    status: Literal["ok", "degraded", "unavailable"]
    models: dict[str, ModelHealth]
    version: str = VERSION


class Live(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Pictures can be assessed."""

    status: Literal["ready"] = "ready"


class ModelSummary(BaseModel):
    """A serving model, as its manifest describes it."""

    name: str
    version: str
    default: bool
    architecture: str
    labels: list[Label]
    decision: DecisionRule
    input: Input
    novelty: Novelty
    calibration: Calibration
    thorough: Annotated[
        Thorough | None, Field(description="threshold, band and measured gain of thorough=true; null where it is not offered")
    ]


class ModelList(BaseModel):
    """The models that serve, and which of them answers when a request names none."""

    default: str
    models: list[ModelSummary]


class ModelDetail(ModelSummary):
    """Also what it was measured to do, and its card in Markdown."""

    metrics: dict[str, dict[str, Metric]]
    data: Data
    intended_use: str
    limitations: list[str]
    card: str
