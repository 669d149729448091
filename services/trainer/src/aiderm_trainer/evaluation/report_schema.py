"""Defines the versioned schema of report.json, the data behind the plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED, replicate_weights
from aiderm_trainer.evaluation.findings import NO_FINDINGS, Findings
from aiderm_trainer.evaluation.metrics import Floats, Sweep, equal_mass_bins, sweep
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.worst_errors import WorstError

MAX_POINTS = 200
HISTOGRAM_BINS = 40
# Threshold probabilities at which an excision might be weighed; above them nobody would wait.
DECISION_THRESHOLDS = tuple(round(0.01 * i, 2) for i in range(1, 76))

Points = Annotated[list[float], Field(max_length=MAX_POINTS)]
Flags = NDArray[np.bool_]


class RocCurve(ReportPart):
    """Operating points from the strictest to the laxest threshold (None: nothing is called malignant)."""

    false_positive_rate: Points
    true_positive_rate: Points
    threshold: Annotated[list[float | None], Field(max_length=MAX_POINTS)]


class PrCurve(ReportPart):
    """Precision against recall (sensitivity); ``base_rate`` is the precision of calling everything malignant."""

    recall: Points
    precision: Points
    threshold: Points
    base_rate: float


class ReliabilityBin(ReportPart):
    """One equal-mass bin of malignancy; ``ci95`` is Wilson's interval of ``observed``."""

    count: int
    mean_probability: float
    observed: float
    ci95: tuple[float, float]


class DecisionCurve(ReportPart):
    """Net benefit = TP/n - FP/n x t/(1-t) at threshold probability t (Vickers and Elkin 2006); treating no one has 0.

    ``low`` and ``high`` are the model's pointwise 95% bootstrap interval; empty in reports of earlier versions.
    """

    threshold: Points
    model: Points
    treat_all: Points
    low: Points = Field(default_factory=list)
    high: Points = Field(default_factory=list)


class ScoreHistogram(ReportPart):
    """Counts of malignancy by label; ``edges`` has one entry more than each list of counts."""

    edges: Points
    malignant: list[int]
    benign: list[int]


class ConfusionMatrix(ReportPart):
    """Rows are the true class, columns the most probable one; only rows whose exact class is known and modelled."""

    labels: list[str]
    counts: list[list[int]]


class DecisionCounts(ReportPart):
    """How many malignant and benign rows got each decision."""

    malignant: dict[str, int]
    benign: dict[str, int]


class Segment(ReportPart):
    """One split, or one source inside it; a curve is None if a label that it needs is missing."""

    count: int
    malignant: int
    roc: RocCurve | None
    pr: PrCurve | None
    reliability: list[ReliabilityBin]
    decision_curve: DecisionCurve
    histogram: ScoreHistogram
    confusion: ConfusionMatrix | None
    decisions: DecisionCounts


class Bootstrap(ReportPart):
    """How the intervals were made. ``undefined``: segment -> metric -> replicates in which the metric was undefined."""

    unit: Literal["group"] = "group"
    method: Literal["percentile"] = "percentile"
    replicates: int
    seed: int
    undefined: dict[str, dict[str, int]]


class EvaluationReport(ReportPart):
    """report/report.json of a bundle.

    Keys of ``metrics`` and ``segments`` are ``SPLIT`` or ``SPLIT/source=NAME``. Curves are thinned to ``MAX_POINTS``.
    ``history`` is the training log: a mapping of numbers for each epoch.
    """

    schema_version: Literal[2] = 2
    name: str
    version: str
    main: str
    threshold: float
    uncertain: tuple[float, float]
    bootstrap: Bootstrap
    metrics: dict[str, dict[str, Metric]]
    segments: dict[str, Segment]
    history: list[dict[str, float | str | None]]
    findings: Findings = NO_FINDINGS
    errors: list[WorstError] = Field(default_factory=list)


def _thin(counts: Sweep) -> NDArray[np.intp]:
    """Selects at most MAX_POINTS - 1 thresholds, evenly along the ROC curve's path, both ends kept."""
    path = np.cumsum(np.diff(_rate(counts.true_positive, counts.positives), prepend=0.0))
    path = path + np.cumsum(np.diff(_rate(counts.false_positive, counts.negatives), prepend=0.0))
    if len(path) < MAX_POINTS:
        return np.arange(len(path))
    wanted = np.linspace(path[0], path[-1], MAX_POINTS - 1)
    picked = np.searchsorted(path, wanted - 1e-12).clip(0, len(path) - 1)
    return np.unique(np.concatenate([[0], picked[1:-1], [len(path) - 1]])).astype(np.intp)


def _rate(part: Floats, whole: Floats) -> Floats:
    return part[0] / max(whole[0], 1.0)


def roc_and_pr(positive: Flags, score: Floats) -> tuple[RocCurve | None, PrCurve | None]:
    """Both curves; None where a label is missing (PR needs positives only)."""
    counts = sweep(positive, score)
    index = _thin(counts)
    tp, fp, threshold = counts.true_positive[0, index], counts.false_positive[0, index], counts.threshold[index]
    positives, negatives = counts.positives[0], counts.negatives[0]
    roc = pr = None
    if positives and negatives:
        roc = RocCurve(
            false_positive_rate=[0.0, *(fp / negatives).tolist()],
            true_positive_rate=[0.0, *(tp / positives).tolist()],
            threshold=[None, *threshold.tolist()],
        )
    if positives:
        pr = PrCurve(
            recall=(tp / positives).tolist(),
            precision=(tp / (tp + fp)).tolist(),
            threshold=threshold.tolist(),
            base_rate=float(positives / (positives + negatives)),
        )
    return roc, pr


def reliability(positive: Flags, probability: Floats) -> list[ReliabilityBin]:
    """Observed share of positives in each equal-mass bin, with Wilson's 95% interval (1927)."""
    number = equal_mass_bins(probability)
    out = []
    for bin_number in np.unique(number):
        member = number == bin_number
        n, observed = int(member.sum()), float(positive[member].mean())
        wilson = stats.binomtest(int(positive[member].sum()), n).proportion_ci(method="wilson")
        interval = (min(float(wilson.low), observed), max(float(wilson.high), observed))  # contains ``observed`` despite rounding
        mean = float(probability[member].mean())
        out.append(ReliabilityBin(count=n, mean_probability=mean, observed=observed, ci95=interval))
    return out


def decision_curve(
    positive: Flags, probability: Floats, groups: Sequence[str], replicates: int = REPLICATES, seed: int = SEED
) -> DecisionCurve:
    """Net benefit of acting on the score, with its bootstrap interval over ``groups``, and of treating everyone."""
    threshold = np.array(DECISION_THRESHOLDS)
    odds = threshold / (1 - threshold)
    called = probability[:, None] >= threshold
    benefit = called * (positive[:, None] - odds * ~positive[:, None])  # [N, T]: what each row adds
    drawn = np.concatenate([(w @ benefit) / w.sum(axis=1, keepdims=True) for w in replicate_weights(groups, replicates, seed)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return DecisionCurve(
        threshold=threshold.tolist(),
        model=benefit.mean(axis=0).tolist(),
        treat_all=(positive.mean() - odds * (~positive).mean()).tolist(),
        low=low.tolist(),
        high=high.tolist(),
    )


def histogram(positive: Flags, probability: Floats) -> ScoreHistogram:
    """Counts malignancies by label in equal-width bins over 0..1."""
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    malignant, benign = (np.histogram(probability[flag], edges)[0].tolist() for flag in (positive, ~positive))
    return ScoreHistogram(edges=edges.tolist(), malignant=malignant, benign=benign)
