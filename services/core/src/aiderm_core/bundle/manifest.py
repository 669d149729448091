"""Defines the manifest of a bundle: everything that a server must know about a model besides its graph."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SCHEMA_VERSION: Final = 1
MANIFEST_FILE = "manifest.json"
# The largest losses allowed for a variant of reduced precision.
MAX_AUC_LOSS: Final = 0.003
MAX_FLIPPED: Final = 0.005
PRIOR_ROUNDING: Final = 1e-6

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
VersionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Paths inside a bundle are relative, use forward slashes and cannot leave the folder.
# (No segment is "." or "..". Pydantic's regex engine has no look-ahead.)
_SEGMENT = r"(?:[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.\.[^/\\\x00-\x1f]+)"
BundlePath = Annotated[str, Field(pattern=rf"^{_SEGMENT}(?:/{_SEGMENT})*$")]


class ManifestError(ValueError):
    """A manifest is missing or unreadable, or breaks the schema."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Section):
    """The graph's input: uint8 RGB ``[N, size, size, 3]``, cut from an image by ``geometry``."""

    size: Annotated[int, Field(ge=16, le=2048)]
    geometry: Literal["center_square"] = "center_square"


class Label(_Section):
    """One class that the graph distinguishes."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    name: Annotated[str, Field(min_length=1, max_length=120)]
    malignant: bool


class DecisionRule(_Section):
    """Threshold and uncertain band, in calibrated malignancy at ``calibration.prevalence``.

    Inside ``uncertain``, the closed interval [low, high], the decision is "uncertain".
    """

    threshold: Probability
    target_sensitivity: Probability
    uncertain: tuple[Probability, Probability]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.uncertain
        if not low <= self.threshold <= high:
            raise ValueError(f"the uncertain band must hold the threshold. Received: {self.uncertain=}, {self.threshold=}")
        return self


class Calibration(_Section):
    """How logits are turned into probabilities; the graph already contains this.

    ``malignant_shift`` is added to the log-odds of malignancy after the temperature.
    ``prevalence`` is the share of malignant lesions that the probabilities assume.
    """

    method: str
    temperature: Annotated[float, Field(gt=0)]
    malignant_shift: float = 0.0
    prevalence: Annotated[float, Field(gt=0.0, lt=1.0)]
    ece_before: Probability
    ece_after: Probability
    coverage: dict[str, float] = {}


class Novelty(_Section):
    """Images with a novelty above ``limit`` are not assessed. ``false_rejection_rate``: share of real lesions above it."""

    limit: float
    false_rejection_rate: Probability
    method: str = ""
    evaluation: dict[str, float] = {}


class QualityLimit(_Section):
    """Bounds of one quality metric; ``worse`` is the bad side of a bound. None: no bound.

    Beyond ``warn`` a warning is shown, beyond ``doubt`` low suspicion is also ruled out, and beyond ``reject`` the image is not
    assessed. If a manifest does not name ``doubt``, it equals ``warn``.
    """

    worse: Literal["low", "high"]
    warn: float | None = None
    doubt: float | None = None
    reject: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _doubt_is_warn(cls, data: Any) -> Any:
        return {**data, "doubt": data.get("warn")} if isinstance(data, dict) and "doubt" not in data else data

    @model_validator(mode="after")
    def _doubt_is_warned_of(self) -> Self:
        if self.doubt is not None and (self.warn is None or self.beyond(self.warn, self.doubt)):
            raise ValueError(f"doubt must lie at warn or beyond it. Received: {self.worse=}, {self.warn=}, {self.doubt=}")
        return self

    def beyond(self, value: float, bound: float | None) -> bool:
        """Whether ``value`` lies on the bad side of ``bound``."""
        if bound is None:
            return False
        return value < bound if self.worse == "low" else value > bound


class Thorough(_Section):
    """Test-time augmentation: its own decision rule, its measured gain, and how the views are pooled.

    ``pool``: the mean of the views' ``probability`` or of their ``log_odds``; see ``aiderm_core.tta``.
    """

    decision: DecisionRule
    gain: dict[str, float]
    pool: Literal["probability", "log_odds"] = "probability"


class OutlineInfo(_Section):
    """How well the graph's outline agrees with hand-drawn ones.

    Attributes:
        errors: for each measure of ``aiderm_core.outline``, the 2.5% and 97.5% quantiles of the ratio or difference between the
            hand-drawn outline's value and the model's on calibration images.
        images: number of those calibration images.
    """

    errors: dict[str, tuple[float, float]]
    images: Annotated[int, Field(ge=1)]


class Histogram(_Section):
    """Counts between consecutive edges."""

    edges: list[float]
    counts: list[int]

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} counts need {len(self.counts) + 1} edges. Received: {len(self.edges)}")
        return self


class Reference(_Section):
    """Distributions on calibration images, for drift monitoring."""

    score: Histogram
    novelty: Histogram


class Metric(_Section):
    """A value with its 95% confidence interval, if one was computed."""

    value: float
    ci95: tuple[float, float] | None = None


class Data(_Section):
    """The data that the model was trained on. ``fingerprint``: SHA-256 of the SPLIT.csv that was used."""

    sources: list[str]
    fingerprint: Sha256
    counts: dict[str, int]
    licence: str


class Training(_Section):
    """How the model was trained, so that training can be repeated.

    Attributes:
        config: settings of the run, or of each ensemble member.
        seed: seed of the random numbers.
        revision: git commit of the code.
        seconds: duration of the training; None if it was not measured.
    """

    config: dict[str, Any]
    seed: int
    revision: str
    seconds: float | None


class GoldenCase(_Section):
    """A synthetic lesion in the bundle and the answer that the graph must give for it."""

    path: BundlePath
    probability: list[Probability]
    malignancy: Probability
    novelty: float


class Golden(_Section):
    """Self-test of a bundle: the answers that the graph must give, within ``tolerance``."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-3
    cases: Annotated[list[GoldenCase], Field(min_length=1)]


class Variant(_Section):
    """One way to run the graph, with its own evaluation. Variants of reduced precision that lose too much are not offered.

    Attributes:
        path: relative to the bundle: the SavedModel's folder, or an OpenVINO graph.
        auc_loss: loss of within-domain AUC of malignancy against f32 on biopsied lesions of validation rows; negative if better.
        flipped: share of validation rows whose decision differs from that in f32, by the variant's own rule.
        decision: its own threshold and uncertain band, fitted on calibration rows; the manifest's when None.
        golden: the answers that it must give for the golden inputs; the manifest's when None.
        evaluation: the numbers behind ``auc_loss`` and ``flipped``.
    """

    runtime: Literal["openvino", "tensorflow"]
    precision: Literal["f32", "bf16", "int8"]
    path: Literal["."] | BundlePath = "."
    auc_loss: float = 0.0
    flipped: Probability = 0.0
    decision: DecisionRule | None = None
    golden: Golden | None = None
    evaluation: dict[str, float] = {}

    @model_validator(mode="after")
    def _harmless(self) -> Self:
        if self.auc_loss > MAX_AUC_LOSS or self.flipped > MAX_FLIPPED:
            raise ValueError(
                f"{self.runtime}/{self.precision} may lose {MAX_AUC_LOSS:g} of AUC and flip {MAX_FLIPPED:.1%} of decisions at "
                f"most. Received: {self.auc_loss:.4f} and {self.flipped:.2%}"
            )
        return self


class Manifest(_Section):
    """The content of ``models/<name>/<version>/manifest.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    version: VersionName
    created_at: datetime
    architecture: str
    input: Input
    labels: Annotated[list[Label], Field(min_length=2)]
    class_map: dict[str, str] = {}
    decision: DecisionRule
    calibration: Calibration
    # Share of each label in the population that the probabilities assume; None in bundles that do not state it.
    class_prior: dict[str, Annotated[float, Field(gt=0.0, lt=1.0)]] | None = None
    # Orientations of an image that the graph itself averages over; with 8, quarter turns and mirroring do not change the answer.
    orientations: Literal[1, 8] = 1
    # Whether the graph turns each image to a standard orientation, which does not depend on how the camera was held.
    upright: bool = False
    novelty: Novelty
    quality: dict[str, QualityLimit]
    thorough: Thorough | None = None
    # None if the graph draws no outline, or its accuracy was not measured.
    outline: OutlineInfo | None = None
    reference: Reference
    forms: Annotated[list[Variant], Field(min_length=1)]
    # split, split/source=NAME, split/stress=NAME or split/outlines -> metric -> value with its bootstrap 95% interval
    metrics: dict[str, dict[str, Metric]]
    data: Data
    training: Training
    golden: Golden
    files: dict[BundlePath, Sha256]
    intended_use: Annotated[str, Field(min_length=1)]
    limitations: list[str]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [label.id for label in self.labels]
        if len(set(ids)) != len(ids):
            raise ValueError(f"label ids must differ. Received: {ids}")
        if len({label.malignant for label in self.labels}) != 2:
            raise ValueError("there must be at least one malignant and one other label")
        for case in (case for golden in self._goldens() for case in golden.cases):
            if len(case.probability) != len(ids):
                raise ValueError(f"{case.path}: {len(case.probability)} probabilities for {len(ids)} labels")
        if self.class_prior is not None:
            if set(self.class_prior) != set(ids):
                raise ValueError(f"class_prior must name each label once. Received: {sorted(self.class_prior)}, labels: {ids}")
            if abs(sum(self.class_prior.values()) - 1.0) > PRIOR_ROUNDING:
                raise ValueError(f"class_prior must sum to 1. Received: {sum(self.class_prior.values())}")
        if (self.orientations > 1 or self.upright) and self.thorough is not None:
            raise ValueError("a graph whose answer does not depend on the orientation has no test-time augmentation besides")
        unknown = set(self.class_map.values()) - set(ids)
        if unknown:
            raise ValueError(f"class_map names labels that do not exist: {sorted(unknown)}")
        return self

    def _goldens(self) -> list[Golden]:
        return [self.golden, *(variant.golden for variant in self.forms if variant.golden is not None)]

    def golden_paths(self) -> set[str]:
        """The paths of all golden inputs, including those of the variants."""
        return {case.path for golden in self._goldens() for case in golden.cases}

    def variant(self, runtime: str, precision: str) -> Variant:
        """Returns the variant with this runtime and precision.

        Raises:
            ManifestError: the bundle has no such variant.
        """
        for variant in self.forms:
            if (variant.runtime, variant.precision) == (runtime, precision):
                return variant
        offered = ", ".join(f"{f.runtime}/{f.precision}" for f in self.forms)
        raise ManifestError(f"{self.name} {self.version} has no variant {runtime}/{precision}; it offers: {offered}")

    @classmethod
    def load(cls, bundle: Path) -> Manifest:
        """Reads ``bundle/manifest.json``.

        Raises:
            ManifestError: the file is missing, unreadable or not JSON, or breaks the schema.
        """
        return cls.parse(read_manifest(bundle), bundle / MANIFEST_FILE)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Manifest:
        """Reads a manifest from the bytes of a manifest.json; errors name ``path``.

        Raises:
            ManifestError: the bytes are not JSON, or break the schema.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ManifestError(f"{path}: {error.error_count()} problem(s), first at '{where}': {first['msg']}") from error

    def dump(self) -> str:
        """Returns the manifest as the text of manifest.json."""
        return self.model_dump_json(indent=2) + "\n"


def read_manifest(bundle: Path) -> bytes:
    """Reads the bytes of ``bundle/manifest.json``.

    Raises:
        ManifestError: the file is missing or unreadable.
    """
    path = bundle / MANIFEST_FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
