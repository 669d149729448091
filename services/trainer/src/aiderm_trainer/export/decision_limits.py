"""Chooses threshold, uncertain band and novelty limit as conformal quantiles of calibration rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiderm_core.bundle.manifest import DecisionRule

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Below this many positives a domain's 5% quantile is one of its few smallest scores, and one odd image must not move the
# threshold for everybody.
MIN_POSITIVES = 60
# Below this many lesions a domain's own quantile is little more than its largest value.
MIN_LESIONS = 200
ALPHA_MALIGNANT = 0.025
ALPHA_BENIGN = 0.20
# Thresholds are rounded down to this grid: float32 graphs differ in the seventh digit, which must not lose a case.
GRID = 1e-6


def choose_decision(
    malignancy: ArrayLike,
    malignant: ArrayLike,
    is_melanoma: ArrayLike,
    domain: ArrayLike,
    target_sensitivity: float = 0.95,
) -> tuple[DecisionRule, dict[str, float]]:
    """Chooses threshold and uncertain band by conformal quantiles.

    The threshold is the lowest of the quantiles that give the target sensitivity for all malignant rows and, where there are
    at least ``MIN_POSITIVES`` of them, for all melanomas and for both inside each domain. With n positives a quantile is the
    k-th smallest score, k = floor((n + 1)(1 - target)), at least 1: a new exchangeable positive falls below it with
    probability at most k / (n + 1), stated as ``miss_bound``.

    The band is label-conditional conformal prediction (Vovk 2005; Angelopoulos and Bates 2021) over all domains together:
    at most ``ALPHA_MALIGNANT`` of malignant rows lie below it and at most ``ALPHA_BENIGN`` of benign rows above it; it is
    widened, if needed, to contain the threshold.

    Args:
        malignancy: calibrated, ``[N]``.
        malignant: ``[N]``, 0/1.
        is_melanoma: ``[N]``, true where the row is known to be a melanoma.
        domain: ``[N]``, camera, clinic or collection.
        target_sensitivity: between 0 and 1, both excluded.

    Returns:
        The rule, and its effects on these rows: levels, bounds, shares and sensitivities (also per domain).

    Raises:
        ValueError: shapes that do not fit, one label only, or a target out of range.
    """
    score = np.asarray(malignancy, dtype=np.float64)
    sick, melanoma = np.asarray(malignant).astype(bool), np.asarray(is_melanoma).astype(bool)
    origin = np.asarray(domain)
    _check(score, sick, melanoma, origin, target_sensitivity)
    alpha = 1.0 - target_sensitivity
    threshold, bound, binding = _quantile(score[sick], alpha), _bound(int(sick.sum()), alpha), 0
    for cases in (sick, melanoma & sick):
        for inside in (cases, *(cases & (origin == name) for name in np.unique(origin))):
            if inside.sum() >= MIN_POSITIVES:
                threshold = min(threshold, _quantile(score[inside], alpha))
                bound = max(bound, _bound(int(inside.sum()), alpha))
                binding += 1
    low = min(_quantile(score[sick], ALPHA_MALIGNANT), threshold)
    high = max(-_quantile(-score[~sick], ALPHA_BENIGN), threshold)
    # Rounding to the grid may itself err in the other direction by the last digit.
    threshold, low = (min(value, np.floor(value / GRID) * GRID) for value in (threshold, low))
    high = min(1.0, max(high, np.ceil(high / GRID) * GRID))
    rule = DecisionRule(threshold=float(threshold), target_sensitivity=target_sensitivity, uncertain=(float(low), float(high)))
    coverage = {
        "alpha_malignant": ALPHA_MALIGNANT,
        "alpha_benign": ALPHA_BENIGN,
        "miss_bound": bound,
        "sets_that_bind": float(binding),
        **_effects(score, sick, melanoma & sick, origin, rule),
    }
    return rule, coverage


def _check(score: Floats, sick: Flags, melanoma: Flags, origin: NDArray[np.generic], target_sensitivity: float) -> None:
    if not 0.0 < target_sensitivity < 1.0:
        raise ValueError(f"target_sensitivity must lie between 0 and 1. Received: {target_sensitivity}")
    if score.ndim != 1 or not len(score) == len(sick) == len(melanoma) == len(origin):
        raise ValueError(f"all arrays must be [N]. Received lengths: {len(score)}, {len(sick)}, {len(melanoma)}, {len(origin)}")
    if sick.all() or not sick.any():
        raise ValueError(f"both labels are needed. Received: {int(sick.sum())} malignant of {len(sick)} rows")
    if not ((score >= 0) & (score <= 1)).all():  # also refuses NaN
        raise ValueError("malignancy must lie in 0..1")


def fit_novelty_limit(novelty: ArrayLike, domain: ArrayLike, max_false_rejection: float = 0.01) -> tuple[float, dict[str, float]]:
    """Chooses the limit that at most ``max_false_rejection`` of each large domain's lesions exceed.

    It is the largest conformal quantile of all rows and of each domain. A domain with fewer than ``MIN_LESIONS`` rows counts
    only in the quantile of all rows: its own would be its most unusual image, and one odd image would let every photograph
    through.

    Args:
        novelty: novelty of real lesions, ``[N]``.
        domain: ``[N]``, camera, clinic or collection.
        max_false_rejection: share of lesions that may be rejected.

    Returns:
        The limit, and the share of these rows beyond it: ``all`` and ``domain=NAME``.

    Raises:
        ValueError: shapes that do not fit, no rows, values that are not finite, or a share out of range.
    """
    values, origin = np.asarray(novelty, dtype=np.float64), np.asarray(domain)
    if values.ndim != 1 or len(values) == 0 or len(values) != len(origin):
        raise ValueError(f"novelty and domain must be [N], N > 0. Received: {values.shape}, {origin.shape}")
    if not np.isfinite(values).all():
        raise ValueError("novelty must be finite")
    if not 0.0 < max_false_rejection < 1.0:
        raise ValueError(f"max_false_rejection must lie between 0 and 1. Received: {max_false_rejection}")
    names = np.unique(origin)
    large = [values[origin == name] for name in names if (origin == name).sum() >= MIN_LESIONS]
    limit = max(-_quantile(-part, max_false_rejection) for part in [values, *large])
    rates = {"all": float((values > limit).mean())}
    rates |= {f"domain={name}": float((values[origin == name] > limit).mean()) for name in names}
    return float(limit), rates


def _rank(count: int, alpha: float) -> int:
    # The small term keeps 0.05 * 20 from becoming 0.9999...
    return max(1, int(np.floor((count + 1) * alpha + 1e-9)))


def _quantile(score: Floats, alpha: float) -> float:
    """The k-th smallest score: at most k - 1 of these rows lie below it."""
    k = _rank(len(score), alpha)
    return float(np.partition(score, k - 1)[k - 1])


def _bound(count: int, alpha: float) -> float:
    return _rank(count, alpha) / (count + 1)


def _effects(score: Floats, sick: Flags, melanoma: Flags, origin: NDArray[np.generic], rule: DecisionRule) -> dict[str, float]:
    """Effects of the rule on the rows that it was chosen on."""
    low, high = rule.uncertain
    called, uncertain = score >= rule.threshold, (score >= low) & (score <= high)
    shares = {
        "share_uncertain": uncertain,
        "share_uncertain_malignant": uncertain[sick],
        "share_uncertain_benign": uncertain[~sick],
        "malignant_below_band": score[sick] < low,
        "benign_above_band": score[~sick] > high,
        "sensitivity": called[sick],
        "sensitivity_melanoma": called[melanoma],
        "specificity": ~called[~sick],
        "sensitivity_answered": called[sick & ~uncertain],
        "specificity_answered": ~called[~sick & ~uncertain],
    }
    for name in np.unique(origin):
        inside = origin == name
        shares[f"sensitivity/domain={name}"] = called[sick & inside]
        shares[f"sensitivity_melanoma/domain={name}"] = called[melanoma & inside]
        shares[f"share_uncertain/domain={name}"] = uncertain[inside]
    return {key: float(flags.mean()) for key, flags in shares.items() if len(flags)}
