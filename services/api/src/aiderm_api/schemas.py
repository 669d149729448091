"""The request and response bodies of the HTTP API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aiderm_api import DISCLAIMER, VERSION
from aiderm_api.errors.problems import Problem
from aiderm_core.bundle.manifest import Calibration, Data, DecisionRule, Input, Label, Metric, Novelty, Thorough
from aiderm_core.decision import Decision

Share = Annotated[float, Field(ge=0.0, le=1.0)]
ColourName = Literal["white", "red", "light_brown", "dark_brown", "blue_grey", "black"]
Outline = Annotated[
    list[tuple[float, float]],
    Field(description="closed line, x and y in pixels of an upright image; its start is not repeated"),
]


class ModelRef(BaseModel):
    """Which model answered."""

    name: str
    version: str


class ReasonOut(BaseModel):
    """Why the decision was made: a stable code for programs, a sentence for people."""

    code: Annotated[
        str,
        Field(
            description="threshold, band, quality, novelty or quality_<metric>; of a lesion also disagreement or no_image; of a "
            "comparison growth, colour or no_change, or what is in its way"
        ),
    ]
    text: str


class Malignancy(BaseModel):
    """Calibrated probability of malignancy, which assumes the given prevalence."""

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


class MostLikelyOut(BaseModel):
    """The class that fits the image best if all classes were equally common; a rare class seldom has the highest probability."""

    id: str
    name: str
    probability_at_even_prevalence: Share
    note: Annotated[str, Field(description="what this is, in one sentence for people")]


class QualityWarningOut(BaseModel):
    """A quality metric of the image outside its usual range, and what to do about it."""

    code: Annotated[str, Field(description="a metric of quality")]
    text: str
    advisory: Annotated[bool, Field(description="for information only; when false, the warning also rules out a low suspicion")]


class Quality(BaseModel):
    """Quality metrics of the assessed region, see aiderm_core.quality.measurements, and warnings about them."""

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
    """Distance from the training images; above the limit an image is not assessed."""

    score: float
    limit: float


class RegionOut(BaseModel):
    """The part of the upright image that was assessed, in pixels."""

    x: int
    y: int
    width: int
    height: int


class ImageOut(BaseModel):
    """The upright image as it was decoded; notes are codes such as first_frame."""

    width: int
    height: int
    format: str
    notes: list[str]
    pixel_spacing_mm: Annotated[
        tuple[float, float] | None,
        Field(
            description="millimetres between the rows and between the columns; null where the file does not say (only DICOM does)"
        ),
    ] = None


class MeasureOut(BaseModel):
    """A measured value and its 95% interval."""

    value: float
    low: float
    high: float


class ColourOut(BaseModel):
    """One of the six colours of the ABCD rule, and the share of the lesion's pixels that are nearest to it."""

    name: ColourName
    share: Share


class LesionOut(BaseModel):
    """The lesion's outline and what was measured inside: observations, of which no decision depends on any. Each interval held
    the value of a hand-drawn outline for 95% of lesions.
    """

    outline: Outline
    area: Annotated[MeasureOut, Field(description="share of the assessed region")]
    diameter: Annotated[MeasureOut, Field(description="longest distance between two points, as a share of the region's side")]
    asymmetry: Annotated[
        MeasureOut, Field(description="share of the area without a counterpart when mirrored at the principal axes, 0 to 1")
    ]
    border: Annotated[MeasureOut, Field(description="squared perimeter by 4 pi times the area: 1 for a circle")]
    area_mm2: Annotated[
        MeasureOut | None, Field(description="square millimetres; null where the file does not say how large a pixel is")
    ] = None
    diameter_mm: Annotated[MeasureOut | None, Field(description="diameter in millimetres; null as above")] = None
    colours: Annotated[list[ColourOut], Field(description="colours that cover at least 5% of the lesion, largest share first")]


class Timing(BaseModel):
    """Milliseconds. Queue is the wait for a worker; total starts at the complete upload."""

    queue: float
    decode: float
    quality: float
    forward: float
    total: float


class Assessment(BaseModel):
    """The assessment of one image. A rejected image has no malignancy, classes, most likely class, heatmap or lesion."""

    request_id: str
    model: ModelRef
    thorough: Annotated[bool, Field(description="averaged over eight orientations, with a threshold and band of its own")]
    decision: Decision
    reasons: list[ReasonOut]
    malignancy: Malignancy | None
    classes: Annotated[list[ClassProbability], Field(description="highest probability first")]
    most_likely: Annotated[
        MostLikelyOut | None, Field(description="null where the image is rejected, or the model does not state its class shares")
    ]
    quality: Quality
    novelty: NoveltyOut
    region: RegionOut
    image: ImageOut
    heatmap: Annotated[str | None, Field(description="PNG data URI (RGBA) to lay over the region; only with explain=true")]
    lesion: Annotated[
        LesionOut | None,
        Field(description="only with explain=true; null where the model draws no outline or finds no lesion"),
    ] = None
    timing_ms: Timing
    disclaimer: str = DISCLAIMER


class BatchItem(BaseModel):
    """One file's answer: an assessment or a problem."""

    index: Annotated[int, Field(ge=0, description="0-based place of the file in the request")]
    assessment: Assessment | None
    problem: Problem | None


class BatchAnswer(BaseModel):
    """One item for each file, in the order of the request."""

    results: list[BatchItem]


class SpreadOut(BaseModel):
    """How far the images that count lie apart."""

    log_odds_sd: Annotated[float, Field(ge=0.0, description="standard deviation of the log-odds of malignancy, with n - 1")]
    log_odds: Annotated[tuple[float, float], Field(description="the lowest and the highest")]
    probability: Annotated[tuple[Share, Share], Field(description="the lowest and the highest malignancy")]


class DisagreementOut(BaseModel):
    """0-based indices of the images that do not agree."""

    higher: Annotated[list[int], Field(description="not below the uncertain band")]
    lower: Annotated[list[int], Field(description="below the uncertain band")]


class LeftOut(BaseModel):
    """An image that does not count, and why."""

    index: Annotated[int, Field(ge=0, description="0-based place of the file in the request")]
    reasons: Annotated[
        list[ReasonOut],
        Field(description="why it was rejected, its quality, or same_file; of a file that was refused its problem's code"),
    ]


class LesionAssessment(BaseModel):
    """One answer for several images of one lesion. A rejected lesion has no malignancy, classes or most likely class."""

    request_id: str
    model: ModelRef
    thorough: Annotated[bool, Field(description="averaged over eight orientations, with a threshold and band of its own")]
    decision: Decision
    reasons: list[ReasonOut]
    malignancy: Annotated[Malignancy | None, Field(description="by the mean of the log-odds of the images that count")]
    classes: Annotated[list[ClassProbability], Field(description="highest probability first")]
    most_likely: MostLikelyOut | None
    counted: Annotated[list[int], Field(description="0-based indices of the images that the answer rests on")]
    left_out: Annotated[list[LeftOut], Field(description="the other images")]
    spread: Annotated[SpreadOut | None, Field(description="null where fewer than two images count")]
    disagreement: Annotated[DisagreementOut | None, Field(description="null where the images that count agree")]
    images: Annotated[list[BatchItem], Field(description="each image on its own, in the order of the request")]
    disclaimer: str = DISCLAIMER


class ColoursOut(BaseModel):
    """Colours that cover at least 5% of the lesion in only one of two images."""

    appeared: list[ColourName]
    vanished: list[ColourName]


Row = tuple[float, float, float]


class RegistrationOut(BaseModel):
    """How the later image lies on the earlier one."""

    matrix: Annotated[
        tuple[Row, Row],
        Field(
            description="[[a, b, c], [d, e, f]]: the later upright image's x, y lie at ax + by + c, dx + ey + f of the earlier's"
        ),
    ]
    scale: Annotated[float, Field(gt=0.0, description="pixels of the earlier image for one of the later")]
    rotation: Annotated[float, Field(description="degrees from the x to the y axis")]
    based_on: Annotated[
        Literal["texture", "spacing"],
        Field(
            description="what the scale rests on: the skin's texture in both images, or the pixel spacing that both files name"
        ),
    ]


class OutlinesOut(BaseModel):
    """The lesion's outline in either image, both in pixels of the earlier upright image."""

    earlier: Outline
    later: Outline


class Comparison(BaseModel):
    """What has changed between two images of one lesion.

    Any change is a reason to see a doctor; that none was found rules nothing out.
    """

    request_id: str
    model: ModelRef
    result: Literal["changed", "no_change_found", "not_comparable"]
    reasons: Annotated[list[ReasonOut], Field(description="growth or colour; no_change; or why the images cannot be compared")]
    advice: Annotated[str, Field(description="what to do now, in a sentence for people")]
    growth: Annotated[
        MeasureOut | None, Field(description="change of the area in percent of the earlier area; negative where it shrank")
    ]
    colour_change: Annotated[
        MeasureOut | None,
        Field(description="colour difference (CIELAB) between the lesions, each relative to the skin around it"),
    ]
    colours: ColoursOut | None
    registration: RegistrationOut | None
    outlines: OutlinesOut | None
    overlay: Annotated[
        str | None,
        Field(
            description="PNG data URI (RGBA) to lay over overlay_region of the earlier image: the assessed part of the later "
            "one, transparent where that does not reach; only with explain=true"
        ),
    ]
    overlay_region: RegionOut | None
    images: Annotated[tuple[Assessment, Assessment], Field(description="each on its own, the earlier first, as /predict answers")]
    disclaimer: str = DISCLAIMER


class ModelHealth(BaseModel):
    """State of one model. A model on standby is loaded by the first request that names it; a serving model with a reason could
    not be replaced by a newer version."""

    state: Literal["serving", "standby", "loading", "failed"]
    version: str | None
    runtime: str
    precision: str | None
    reason: str | None


class Health(BaseModel):
    """ok; degraded when anything but the default model failed to load; unavailable when the default model is not served."""

    status: Literal["ok", "degraded", "unavailable"]
    models: dict[str, ModelHealth]
    version: str = VERSION


class Live(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Images can be assessed."""

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
        Thorough | None,
        Field(description="threshold, band and measured gain of test-time augmentation (tta=true); null where it is not offered"),
    ]


class ModelList(BaseModel):
    """The serving models, and which of them answers when a request names none."""

    default: str
    models: list[ModelSummary]


class ModelDetail(ModelSummary):
    """Also its metrics and its model card in Markdown."""

    metrics: dict[str, dict[str, Metric]]
    data: Data
    intended_use: str
    limitations: list[str]
    card: str
