"""Estimates the class shares that a model's probabilities assume, so that they can be divided out again.

Training shows rare classes more often than they occur, and calibration moves only malignant against benign classes. So the
shares among malignant and among benign classes are neither those of training nor those of any table; they are estimated from
the model's answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from aiderm_core.bundle.manifest import Label

Floats = NDArray[np.float64]
FLOOR = 1e-12
MIN_CLASSES = 3  # with two classes the malignancy is enough


def fit_class_prior(probability: ArrayLike, class_index: ArrayLike, labels: Sequence[Label]) -> dict[str, float] | None:
    """Finds the shares that, divided out, maximise the likelihood of rows of equally common classes.

    This is a calibration with one bias per class (Alexandari, Kundaje, Shrikumar, "Maximum Likelihood with Bias-Corrected
    Calibration is Hard-to-Beat at Label Shift Adaptation", ICML 2020) on rows that are weighted so that all classes count
    equally. Each bias is regularised towards the class's share among these rows, more weakly the more rows the class has.

    Args:
        probability: calibrated, ``[N, C]``.
        class_index: ``[N]``, -1 where the class is unknown; those rows are ignored.
        labels: the classes.

    Returns:
        A share above 0 for each label, summing to 1; None for fewer than three classes or if a class has no row.
    """
    index = np.asarray(class_index)
    known = index >= 0
    counts = np.bincount(index[known], minlength=len(labels)).astype(np.float64)
    if len(labels) < MIN_CLASSES or not counts.all():
        return None
    logs = np.log(np.maximum(np.asarray(probability, np.float64)[known], FLOOR))
    index = index[known]
    weights = 1.0 / counts[index]
    observed = -np.log(counts / counts.sum())

    def loss(bias: Floats) -> tuple[float, Floats]:
        corrected = logs + bias
        corrected = corrected - logsumexp(corrected, axis=1, keepdims=True)
        slope = (weights[:, None] * np.exp(corrected)).sum(axis=0) - 1.0  # the weights of each class's rows sum to 1
        away = (bias - observed) / counts
        value = -weights @ corrected[np.arange(len(index)), index] + 0.5 * float((away * (bias - observed)).sum())
        return float(value), slope + away

    bias = minimize(loss, observed, jac=True, method="L-BFGS-B").x
    share = np.exp(-bias - logsumexp(-bias))
    return {label.id: float(value) for label, value in zip(labels, share / share.sum(), strict=True)}


def move_class_prior(
    prior: dict[str, float] | None, labels: Sequence[Label], ratio: float, old_shift: float, new_shift: float
) -> dict[str, float] | None:
    """Returns the shares after a graph's temperature and malignant shift have changed; the most likely class stays the same.

    Args:
        prior: shares before the change.
        labels: the classes.
        ratio: old temperature over new.
        old_shift: shift of the malignant log-odds, before.
        new_shift: the same, after.
    """
    if prior is None:
        return None
    malignant = np.array([label.malignant for label in labels])
    logs = np.log([prior[label.id] for label in labels])
    moved = (logs - old_shift * malignant) * ratio + new_shift * malignant
    share = np.exp(moved - logsumexp(moved))
    return {label.id: float(value) for label, value in zip(labels, share / share.sum(), strict=True)}
