"""The API's answers. Fields that a newer service adds are ignored; a missing field or another type is an error."""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from aiderm_client.client_errors import Problem, ProblemError


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Decision(StrEnum):
    """The decision about an image. ``LOW_SUSPICION`` is not "benign": the model misses some cancers."""

    LOW_SUSPICION = "low_suspicion"
    SUSPICIOUS = "suspicious"
    UNCERTAIN = "uncertain"
    REJECTED = "rejected"


class ModelRef(_Answer):
    """The model that answered."""

    name: str
    version: str


class Reason(_Answer):
    """Why the decision was taken: a stable code for programs, a sentence for people."""

    code: str
    text: str


class Malignancy(_Answer):
    """Calibrated probability of malignancy, which assumes the given ``prevalence``; ``uncertain`` is a closed interval."""

    probability: float
    threshold: float
    uncertain: tuple[float, float]
    prevalence: float


class ClassProbability(_Answer):
    """Calibrated probability of one class of the model."""

    id: str
    name: str
    malignant: bool
    probability: float


class QualityWarning(_Answer):
    """A metric of the image beyond its usual range, and what to do about it.

    An ``advisory`` warning is for information only; the others also rule out a low suspicion.
    """

    code: str
    text: str
    advisory: bool


class Quality(_Answer):
    """Measures of the assessed region: ``resolution`` in pixels, ``sharpness`` a variance, the others shares of 1."""

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
    warnings: tuple[QualityWarning, ...]


class Novelty(_Answer):
    """Distance from the training images; above the limit an image is not assessed."""

    score: float
    limit: float


class Region(_Answer):
    """The part of the upright image that was assessed, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Image(_Answer):
    """The upright image as it was decoded; notes are codes such as ``first_frame``."""

    width: int
    height: int
    format: str
    notes: tuple[str, ...]
    pixel_spacing_mm: tuple[float, float] | None = None


class Measure(_Answer):
    """A measured value and its 95% interval; of a lesion, the interval held a hand-drawn outline's value in 95% of cases."""

    value: float
    low: float
    high: float


class Colour(_Answer):
    """A colour of the ABCD rule, and the share of the lesion's pixels that are nearest to it."""

    name: str
    share: float


class Lesion(_Answer):
    """The lesion's outline, in pixels of the upright image, and observations on what lies inside; no decision depends on them.

    ``area`` is a share of the region, ``diameter`` a share of its side, ``asymmetry`` lies in 0..1, ``border`` is 1 for a circle.
    For a DICOM file that states the size of a pixel, area and diameter are also given in square millimetres and millimetres.
    """

    outline: tuple[tuple[float, float], ...]
    area: Measure
    diameter: Measure
    asymmetry: Measure
    border: Measure
    area_mm2: Measure | None = None
    diameter_mm: Measure | None = None
    colours: tuple[Colour, ...]


class Timing(_Answer):
    """Milliseconds; queue is the wait for a worker, and the total counts from the complete upload."""

    queue: float
    decode: float
    quality: float
    forward: float
    total: float


class MostLikely(_Answer):
    """The class that fits the image best if all classes were equally common."""

    id: str
    name: str
    probability_at_even_prevalence: float
    note: str


def _png(uri: str | None) -> bytes | None:
    return None if uri is None else base64.b64decode(uri.partition(",")[2])


class _Assessed(_Answer):
    request_id: str
    model: ModelRef
    thorough: bool
    decision: Decision
    reasons: tuple[Reason, ...]
    malignancy: Malignancy | None
    classes: tuple[ClassProbability, ...]
    most_likely: MostLikely | None
    disclaimer: str


class Assessment(_Assessed):
    """The assessment of one image. A rejected image has no malignancy, classes, heatmap or lesion."""

    quality: Quality
    novelty: Novelty
    region: Region
    image: Image
    heatmap: str | None
    lesion: Lesion | None = None
    timing_ms: Timing

    def heatmap_png(self) -> bytes | None:
        """The heatmap's PNG file (RGBA, to lay over the region); None unless ``explain=True`` asked for it."""
        return _png(self.heatmap)


class BatchItem(_Answer):
    """One file's answer, an assessment or a problem; ``index`` is the file's 0-based place in the request."""

    index: int
    assessment: Assessment | None
    problem: Problem | None

    def result(self) -> Assessment:
        """The assessment.

        Raises:
            ProblemError: this file has no assessment; each code has its own subclass.
        """
        if self.assessment is None:
            if self.problem is None:
                raise ValueError(f"item {self.index} holds neither an assessment nor a problem")
            raise ProblemError.of(self.problem)
        return self.assessment


class BatchAnswer(_Answer):
    """One item per file, in the order of the request."""

    results: tuple[BatchItem, ...]


class Spread(_Answer):
    """How far the images that count lie apart: the lowest and the highest of each, and the standard deviation of the log-odds."""

    log_odds_sd: float
    log_odds: tuple[float, float]
    probability: tuple[float, float]


class Disagreement(_Answer):
    """0-based indices of the images that do not agree: ``lower`` are below the uncertain band, ``higher`` are not."""

    higher: tuple[int, ...]
    lower: tuple[int, ...]


class LeftOut(_Answer):
    """An image that does not count, and why."""

    index: int
    reasons: tuple[Reason, ...]


class LesionAssessment(_Assessed):
    """One answer for several images of one lesion; ``counted`` holds the 0-based indices of the images that it rests on."""

    counted: tuple[int, ...]
    left_out: tuple[LeftOut, ...]
    spread: Spread | None
    disagreement: Disagreement | None
    images: tuple[BatchItem, ...]


class Colours(_Answer):
    """Names of the colours that only one of the two images shows."""

    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


class Registration(_Answer):
    """How the later image lies on the earlier one: ``matrix`` maps its pixels there, ``rotation`` is in degrees."""

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    scale: float
    rotation: float
    based_on: str


class Outlines(_Answer):
    """The lesion in either image, both in pixels of the earlier upright image."""

    earlier: tuple[tuple[float, float], ...]
    later: tuple[tuple[float, float], ...]


class Comparison(_Answer):
    """What has changed between two images of one lesion. ``growth`` is in percent of the earlier area."""

    request_id: str
    model: ModelRef
    result: Literal["changed", "no_change_found", "not_comparable"]
    reasons: tuple[Reason, ...]
    advice: str
    growth: Measure | None
    colour_change: Measure | None
    colours: Colours | None
    registration: Registration | None
    outlines: Outlines | None
    overlay: str | None
    overlay_region: Region | None
    images: tuple[Assessment, Assessment]
    disclaimer: str

    def overlay_png(self) -> bytes | None:
        """The later image on the earlier one's ``overlay_region`` (RGBA); None unless ``explain=True`` asked for it."""
        return _png(self.overlay)


class ModelHealth(_Answer):
    """State of one model. A serving model with a reason could not be replaced by a newer version."""

    state: Literal["serving", "standby", "loading", "failed"]
    version: str | None
    runtime: str
    precision: str | None
    reason: str | None


class Health(_Answer):
    """ok; degraded when something other than the default model fails; unavailable when the default model does not serve."""

    status: Literal["ok", "degraded", "unavailable"]
    models: dict[str, ModelHealth]
    version: str


class Label(_Answer):
    """One class that a model tells apart."""

    id: str
    name: str
    malignant: bool


class DecisionRule(_Answer):
    """Threshold and uncertain band, in calibrated malignancy."""

    threshold: float
    target_sensitivity: float
    uncertain: tuple[float, float]


class Input(_Answer):
    """Side of the graph's square input in pixels, and how it is cut from an image."""

    size: int
    geometry: str


class NoveltyRule(_Answer):
    """The limit of the novelty score, and the share of real lesions beyond it."""

    limit: float
    false_rejection_rate: float
    method: str
    evaluation: dict[str, float]


class Calibration(_Answer):
    """How logits became probabilities. ``prevalence``: the share of malignant lesions that the probabilities assume."""

    method: str
    temperature: float
    malignant_shift: float
    prevalence: float
    ece_before: float
    ece_after: float
    coverage: dict[str, float]


class Thorough(_Answer):
    """Decision rule and measured gain of ``thorough=True``."""

    decision: DecisionRule
    gain: dict[str, float]
    pool: str


class ModelSummary(_Answer):
    """A serving model, as its manifest describes it."""

    name: str
    version: str
    default: bool
    architecture: str
    labels: tuple[Label, ...]
    decision: DecisionRule
    input: Input
    novelty: NoveltyRule
    calibration: Calibration
    thorough: Thorough | None


class ModelList(_Answer):
    """The models that serve, and which of them answers when a request names none."""

    default: str
    models: tuple[ModelSummary, ...]


class Metric(_Answer):
    """A value with its 95% confidence interval, if one was computed."""

    value: float
    ci95: tuple[float, float] | None


class Data(_Answer):
    """What a model was trained on."""

    sources: tuple[str, ...]
    fingerprint: str
    counts: dict[str, int]
    licence: str


class ModelDetail(ModelSummary):
    """A model with its metrics and its model card in Markdown."""

    metrics: dict[str, dict[str, Metric]]
    data: Data
    intended_use: str
    limitations: tuple[str, ...]
    card: str
