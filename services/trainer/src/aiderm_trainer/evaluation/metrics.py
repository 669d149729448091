"""Computes metrics of a malignancy score with pure functions on arrays.

Every function takes ``weights`` ``[B, N]`` (how often each row counts in each of B bootstrap replicates; None: every row
once, B = 1) and returns ``[B]``. A value that is undefined for a replicate (for example, no malignant row is left) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ECE_BINS = 15
# Newton steps of the calibration line: it converges in about 6 from the identity; the rest only guard against odd replicates.
NEWTON_STEPS = 25
LOGIT_CLIP = 1e-6
NULL_DRAWS = 1000
_NULL_BLOCK = 50  # simulated label sets at a time: 8 MB at 20,000 rows


def unit_weights(count: int) -> Floats:
    """Weights ``[1, count]`` that count every row once."""
    return np.ones((1, count))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element-wise quotient, NaN where the denominator is 0."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _prepare(positive: ArrayLike, score: ArrayLike, weights: Floats | None) -> tuple[NDArray[np.bool_], Floats, Floats]:
    y, s = np.asarray(positive).astype(bool), np.asarray(score, dtype=np.float64)
    w = unit_weights(len(y)) if weights is None else weights
    if y.ndim != 1 or s.shape != y.shape or w.ndim != 2 or w.shape[1] != len(y) or len(y) == 0:
        raise ValueError(f"labels and scores must be [N], N > 0, weights [B, N]. Received: {y.shape}, {s.shape}, {w.shape}")
    if not np.isfinite(s).all():
        raise ValueError(f"scores must be finite. Received: {int((~np.isfinite(s)).sum())} that are not")
    return y, s, w


@dataclass(frozen=True)
class Sweep:
    """Counts at each distinct score taken as the threshold, from the highest score down.

    Attributes:
        threshold: ``[K]``, descending; a row is called positive at or above it.
        true_positive: ``[B, K]`` weighted positives at or above the threshold.
        false_positive: ``[B, K]`` weighted negatives at or above it.
        positives: ``[B]``.
        negatives: ``[B]``.
    """

    threshold: Floats
    true_positive: Floats
    false_positive: Floats
    positives: Floats
    negatives: Floats


def sweep(positive: ArrayLike, score: ArrayLike, weights: Floats | None = None) -> Sweep:
    """Sorts once and counts for every threshold and replicate.

    Args:
        positive: 0/1 ``[N]``.
        score: ``[N]``, higher means more suspect.
        weights: ``[B, N]`` or None.
    """
    y, s, w = _prepare(positive, score, weights)
    order = np.argsort(-s, kind="stable")
    y, s, w = y[order], s[order], w[:, order]
    starts = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))  # ties move together
    true_positive = np.cumsum(np.add.reduceat(w * y, starts, axis=1), axis=1)
    false_positive = np.cumsum(np.add.reduceat(w * ~y, starts, axis=1), axis=1)
    return Sweep(s[starts], true_positive, false_positive, true_positive[:, -1], false_positive[:, -1])


def roc_auc(positive: ArrayLike, score: ArrayLike, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: the weighted Mann-Whitney statistic, ties count half."""
    return roc_auc_of(sweep(positive, score, weights))


def roc_auc_of(counts: Sweep) -> Floats:
    """Computes ``roc_auc`` from counts."""
    step_tp = np.diff(counts.true_positive, axis=1, prepend=0.0)
    step_fp = np.diff(counts.false_positive, axis=1, prepend=0.0)
    below = counts.negatives[:, None] - counts.false_positive
    return ratio((step_tp * (below + 0.5 * step_fp)).sum(axis=1), counts.positives * counts.negatives)


def pr_auc(positive: ArrayLike, score: ArrayLike, weights: Floats | None = None) -> Floats:
    """Average precision: precision summed over the steps of recall, without interpolation."""
    return pr_auc_of(sweep(positive, score, weights))


def pr_auc_of(counts: Sweep) -> Floats:
    """Computes ``pr_auc`` from counts."""
    precision = np.nan_to_num(ratio(counts.true_positive, counts.true_positive + counts.false_positive))
    gained = np.diff(counts.true_positive, axis=1, prepend=0.0)
    return ratio((precision * gained).sum(axis=1), counts.positives)


def sensitivity_at_specificity(counts: Sweep, specificity: float) -> Floats:
    """Highest sensitivity of any threshold whose specificity is at least ``specificity``."""
    kept = ratio(counts.false_positive, counts.negatives[:, None]) <= 1.0 - specificity + 1e-12
    best = np.where(kept, counts.true_positive, 0.0).max(axis=1)
    return np.where(counts.negatives > 0, ratio(best, counts.positives), np.nan)


def specificity_at_sensitivity(counts: Sweep, sensitivity: float) -> Floats:
    """Highest specificity of any threshold whose sensitivity is at least ``sensitivity``."""
    reached = ratio(counts.true_positive, counts.positives[:, None]) >= sensitivity - 1e-12
    fewest = np.where(reached, counts.false_positive, np.inf).min(axis=1)
    defined = (counts.positives > 0) & (counts.negatives > 0)
    return np.where(defined, 1.0 - ratio(np.where(defined, fewest, 0.0), counts.negatives), np.nan)


def at_threshold(positive: ArrayLike, score: ArrayLike, threshold: float, weights: Floats | None = None) -> dict[str, Floats]:
    """Computes the metrics of calling a row positive at ``score >= threshold``.

    Returns:
        accuracy, balanced_accuracy, f1, precision, sensitivity, specificity and mcc (Matthews correlation), each ``[B]``.
    """
    y, s, w = _prepare(positive, score, weights)
    called = s >= threshold
    # One matrix product for all cells: BLAS processes all replicates at once.
    cells = np.stack([y & called, ~y & called, y & ~called, ~y & ~called], axis=1).astype(np.float64)
    tp, fp, fn, tn = (w @ cells).T
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "mcc": ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    }


def predictive_values(sensitivity: Floats, specificity: Floats, prevalence: float) -> tuple[Floats, Floats]:
    """Positive and negative predictive value at a stated prevalence, by Bayes' rule."""
    sick, well = prevalence, 1.0 - prevalence
    ppv = ratio(sensitivity * sick, sensitivity * sick + (1 - specificity) * well)
    npv = ratio(specificity * well, specificity * well + (1 - sensitivity) * sick)
    return ppv, npv


def brier(positive: ArrayLike, probability: ArrayLike, weights: Floats | None = None) -> Floats:
    """Mean squared distance between probability and outcome (0/1)."""
    y, p, w = _prepare(positive, probability, weights)
    return ratio(w @ (p - y) ** 2, w.sum(axis=1))


def equal_mass_bins(score: ArrayLike) -> NDArray[np.intp]:
    """Bin number ``[N]`` of each row: ``ECE_BINS`` bins hold equal counts of rows, and equal scores share a bin."""
    s = np.asarray(score, dtype=np.float64)
    ordered = np.sort(s)
    edges = np.unique(ordered[(np.arange(1, ECE_BINS) * len(s)) // ECE_BINS])
    return np.searchsorted(edges, s, side="right")


def expected_calibration_error(positive: ArrayLike, probability: ArrayLike, weights: Floats | None = None) -> Floats:
    """Expected calibration error over equal-mass bins: the mean of |share of positives - mean probability|, by bin weight.

    The bins are those of the unweighted rows, the same in each replicate.
    """
    y, p, w = _prepare(positive, probability, weights)
    number = equal_mass_bins(p)
    member = number[:, None] == np.arange(number.max() + 1)
    gap = w @ (member * (p - y)[:, None])  # bin weight x (mean probability - share of positives)
    return ratio(np.abs(gap).sum(axis=1), w.sum(axis=1))


def ece_bound(probability: ArrayLike, draws: int = NULL_DRAWS, seed: int = 0) -> float:
    """The value that the expected calibration error of perfect probabilities stays below in 95% of draws.

    An estimated error is above 0 even if every probability is correct (Bröcker and Smith 2007, doi:10.1175/WAF993.1). This
    draws labels from the probabilities themselves, independently for each row, and scores them in the same way.

    Args:
        probability: ``[N]``.
        draws: simulated sets of labels.
        seed: seed of the draws.
    """
    p = np.asarray(probability, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"probabilities must be [N], N > 0, in 0..1. Received: {p.shape}")
    rng = np.random.default_rng(seed)
    number = equal_mass_bins(p)
    member = (number[:, None] == np.arange(number.max() + 1)).astype(np.float64)
    found = []
    for start in range(0, draws, _NULL_BLOCK):
        labels = rng.random((min(_NULL_BLOCK, draws - start), len(p))) < p
        found.append(np.abs((p - labels) @ member).sum(axis=1) / len(p))
    return float(np.quantile(np.concatenate(found), 0.95))


def calibration_line(positive: ArrayLike, probability: ArrayLike, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Slope and intercept of the logistic regression of the outcome on the probability's log-odds (Cox 1958).

    A slope of 1 and an intercept of 0 are perfect; a slope below 1 means overconfidence. NaN where the outcome is separable
    by the probability or only one label is left, since no finite line exists there.
    """
    y, p, w = _prepare(positive, probability, weights)
    clipped = np.clip(p, LOGIT_CLIP, 1 - LOGIT_CLIP)
    x = np.log(clipped) - np.log1p(-clipped)
    slope, intercept = np.ones(len(w)), np.zeros(len(w))
    step = np.full(len(w), np.inf)
    for _ in range(NEWTON_STEPS):
        mean = 1.0 / (1.0 + np.exp(-np.clip(slope[:, None] * x + intercept[:, None], -50, 50)))
        residual, curvature = w * (y - mean), w * mean * (1 - mean)
        g1, g0 = residual @ x, residual.sum(axis=1)
        h11, h01, h00 = curvature @ (x * x), curvature @ x, curvature.sum(axis=1)
        determinant = h11 * h00 - h01 * h01
        d1, d0 = ratio(h00 * g1 - h01 * g0, determinant), ratio(h11 * g0 - h01 * g1, determinant)
        slope, intercept = slope + np.clip(d1, -1, 1), intercept + np.clip(d0, -2, 2)
        step = np.maximum(np.abs(d1), np.abs(d0))
        if not (step > 1e-9).any():  # NaN counts as finished
            break
    defined = step < 1e-6
    return np.where(defined, slope, np.nan), np.where(defined, intercept, np.nan)


def share(flag: ArrayLike, weights: Floats | None = None, among: ArrayLike | None = None) -> Floats:
    """Share of rows with ``flag`` among the rows with ``among`` (all rows when None)."""
    f = np.asarray(flag).astype(bool)
    a = np.ones_like(f) if among is None else np.asarray(among).astype(bool)
    w = unit_weights(len(f)) if weights is None else weights
    return ratio(w @ (f & a).astype(np.float64), w @ a.astype(np.float64))


def confusion(true_class: ArrayLike, predicted_class: ArrayLike, classes: int, weights: Floats | None = None) -> Floats:
    """Confusion matrices ``[B, classes, classes]``: rows are the true class, columns the predicted one.

    Rows with ``true_class`` -1 (unknown) do not count.
    """
    true, predicted = np.asarray(true_class), np.asarray(predicted_class)
    w = unit_weights(len(true)) if weights is None else weights
    known = true >= 0
    cell = (true[known] * classes + predicted[known])[:, None] == np.arange(classes * classes)
    return (w[:, known] @ cell.astype(np.float64)).reshape(-1, classes, classes)


def multiclass(matrix: Floats) -> dict[str, Floats]:
    """Balanced accuracy (mean recall of the classes that occur) and macro F1 (classes that occur or are predicted).

    Args:
        matrix: ``[B, C, C]``, the result of ``confusion``.
    """
    hits = np.einsum("bcc->bc", matrix)
    occurs, called = matrix.sum(axis=2), matrix.sum(axis=1)
    return {
        "multiclass_balanced_accuracy": _mean_of_defined(ratio(hits, occurs)),
        "multiclass_macro_f1": _mean_of_defined(ratio(2 * hits, occurs + called)),
    }


def _mean_of_defined(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
