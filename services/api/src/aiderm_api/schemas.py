"""The bodies of the HTTP API, exactly as clients see them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aiderm_api import DISCLAIMER, VERSION
from aiderm_api.errors.problems import Problem
from aiderm_core.bundle.manifest import Calibration, Data, DecisionRule, Input, Label, Metric, Novelty, Thorough
from aiderm_core.decision import Decision

Share = Annotated[float, Field(ge=0.0, le=1.0)]


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

    code: Annotated[str, Field(description="a metric of quality")]
    text: str
    advisory: Annotated[bool, Field(description="shown only; when false it also withholds a low suspicion")]


class Quality(BaseModel):
    """Measures of the judged region, see aiderm_core.quality.measurements, and warnings about them."""

    sharpness: float
    brightness: float
    contrast: float
    underexposed: float
    overexposed: float
    glare: float
    resolution: float
    hair: float
    ruler: float
    ink: float
    off_centre: float
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
    """Milliseconds. Queue is the wait for a worker; quality is measured during forward; total counts from the complete upload."""

    queue: float
    decode: float
    quality: float
    forward: float
    total: float


class Assessment(BaseModel):
    """What the model says of one picture. A rejected picture has no malignancy, classes or heatmap."""

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

    results: list[BatchItem]


class ModelHealth(BaseModel):
    """State of one model. One that stands by is loaded by the first request that names it; a serving one with a reason could not
    be replaced by a newer version."""

    state: Literal["serving", "standby", "loading", "failed"]
    version: str | None
    runtime: str
    precision: str | None
    reason: str | None


class Health(BaseModel):
    """ok; degraded when something other than the default model fails; unavailable when the default model does not serve."""

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
