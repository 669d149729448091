"""Intervals and paired tests for cross-validated results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from aiderm_trainer.evaluation.bootstrap import replicate_weights
from aiderm_trainer.evaluation.metrics import Floats, roc_auc

REPLICATES = 2000
SEED = 20_031_101


def corrected_error(values: ArrayLike, ratio: float) -> float:
    """Standard error of the mean over folds, corrected for their shared training rows.

    The variance over folds is multiplied by 1/K + ratio instead of 1/K (Nadeau and Bengio: "Inference for the
    Generalization Error", Machine Learning 52, 2003; for cross-validation Bouckaert and Frank, PAKDD 2004).

    Args:
        values: one for each of K folds, K >= 2; average the seeds of a fold first, as they are not independent evidence.
        ratio: held-out rows divided by rows used in training.

    Raises:
        ValueError: fewer than two values, or a ratio that is not positive.
    """
    v = np.asarray(values, np.float64)
    if v.ndim != 1 or len(v) < 2 or ratio <= 0:
        raise ValueError(f"there must be at least two folds and a positive ratio. Received: {v.shape}, {ratio=}")
    return float(np.sqrt((1 / len(v) + ratio) * v.var(ddof=1)))


def corrected_interval(values: ArrayLike, ratio: float, bounds: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, float]:
    """95% t interval of the mean with ``corrected_error``, clipped to ``bounds``."""
    v = np.asarray(values, np.float64)
    reach = float(stats.t.ppf(0.975, len(v) - 1)) * corrected_error(v, ratio)
    return max(bounds[0], float(v.mean()) - reach), min(bounds[1], float(v.mean()) + reach)


def corrected_t_test(differences: ArrayLike, ratio: float) -> float:
    """Two-sided p-value of the corrected resampled t-test for a mean difference of 0.

    Args:
        differences: paired, one for each of K folds.
        ratio: held-out rows divided by rows used in training.
    """
    d = np.asarray(differences, np.float64)
    error = corrected_error(d, ratio)
    if error == 0:
        return 1.0 if d.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1))


def normal_test(difference: float, error: float) -> float:
    """Two-sided p-value of a difference with a standard error, from the normal distribution."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))


def bootstrap_auc(
    malignant: NDArray[np.bool_], group: NDArray[np.int32], scores: Mapping[str, Sequence[Floats]], seed: int
) -> dict[str, Floats]:
    """ROC AUC of several scores of the same rows in paired bootstrap replicates of their groups.

    Args:
        malignant: ``[N]``.
        group: ``[N]``, the unit that is resampled.
        scores: by name, one ``[N]`` for each seed; their AUCs are averaged.
        seed: of the draws.

    Returns:
        By name, ``[REPLICATES]``; NaN where a replicate contains only one label.
    """
    drawn: dict[str, list[Floats]] = {name: [] for name in scores}
    for weights in replicate_weights([str(g) for g in group], REPLICATES, seed):
        for name, seeds in scores.items():
            drawn[name].append(np.mean([roc_auc(malignant, score, weights) for score in seeds], axis=0))
    return {name: np.concatenate(blocks) for name, blocks in drawn.items()}
