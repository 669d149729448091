"""Computes the loss for partly labelled rows, and the validation score that guides training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.table import Row


def negative_log_likelihood(logits: Any, possible: Any) -> Any:
    """Negative log of the probability of each row's possible classes.

    Binary cross-entropy for one sigmoid unit; for a softmax, minus the log of the summed probability of the classes that
    a row may belong to (Cour, Sapp, Taskar: "Learning from Partial Labels", JMLR 2011).

    Args:
        logits: ``[N, 1]`` or ``[N, C]``.
        possible: ``[N, C]``, 1 where a row may belong to a class.

    Returns:
        float32 ``[N]``.
    """
    if logits.shape[-1] == 1:
        logit, label = logits[:, 0], possible[:, 1]
        return ops.maximum(logit, 0.0) - logit * label + ops.log1p(ops.exp(-ops.abs(logit)))
    allowed = ops.where(possible > 0, logits, ops.full_like(logits, -1e9))
    return ops.logsumexp(logits, axis=-1) - ops.logsumexp(allowed, axis=-1)


def with_offset(logits: Any, offset: Any, malignant: Any) -> Any:
    """Adds the log-odds of malignancy in a row's domain to the logits, in training only: see ``data.balance``.

    Args:
        logits: ``[N, 1]`` or ``[N, C]``.
        offset: ``[N]``, log-odds of malignancy in the domain.
        malignant: ``[C]``, 1 for malignant classes; ignored for one unit.

    Returns:
        logits of the same shape.
    """
    if logits.shape[-1] == 1:
        return logits + offset[:, None]
    return logits + offset[:, None] * malignant[None, :]


def distilled(loss: Any, logits: Any, taught: Any, weight: float) -> Any:
    """Mixes a loss with the cross-entropy to a teacher's probabilities, for the rows that have any.

    Args:
        loss: ``[N]``.
        logits: ``[N, 1]`` or ``[N, C]``.
        taught: ``[N, C]``, zeros for a row without a teacher.
        weight: of the teacher, 0..1.

    Returns:
        float32 ``[N]``.
    """
    if logits.shape[-1] == 1:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    share = weight * ops.sum(taught, axis=-1)
    return (1.0 - share) * loss - weight * ops.sum(taught * ops.log_softmax(logits, axis=-1), axis=-1)


def log_odds(logits: Any, malignant: Any) -> Any:
    """Log-odds of malignancy of a batch, in the backend's tensors.

    Args:
        logits: ``[N, 1]`` or ``[N, C]``.
        malignant: ``[C]``, 1 for malignant classes; ignored for one unit.

    Returns:
        ``[N]``.
    """
    if logits.shape[-1] == 1:
        return logits[:, 0]
    sick = ops.where(malignant[None] > 0, logits, -1e9)
    well = ops.where(malignant[None] > 0, -1e9, logits)
    return ops.logsumexp(sick, axis=-1) - ops.logsumexp(well, axis=-1)


def inconsistency(logits: Any, malignant: Any) -> Any:
    """How much the scores of two views of one image differ, a scalar: the Huber loss of the difference of their log-odds.

    It is linear for large differences, so that a view that has lost the lesion does not dominate the step.

    Args:
        logits: ``[2 N, C]``, the views of one image side by side.
        malignant: see ``log_odds``.
    """
    pair = ops.reshape(log_odds(logits, malignant), (-1, 2))
    return ops.mean(_huber(pair[:, 0] - pair[:, 1]))


def misfit(logits: Any, taught: Any, malignant: Any) -> Any:
    """How much rows' scores differ from their teachers', ``[N]``: the Huber loss of the difference of the log-odds.

    Args:
        logits: ``[N, 1]`` or ``[N, C]``.
        taught: teachers' probabilities ``[N, C]``, zeros for a row without teachers; such rows give 0.
        malignant: ``[C]``, 1 for malignant classes.
    """
    total = ops.sum(taught, axis=-1)
    sick = ops.sum(taught * malignant[None], axis=-1)
    wanted = ops.log(ops.maximum(sick, 1e-5)) - ops.log(ops.maximum(total - sick, 1e-5))
    return ops.where(total > 0, _huber(log_odds(logits, malignant) - wanted), 0.0)


def _huber(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.where(size < 1.0, 0.5 * size**2, size - 0.5)


def full_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of all classes: a single unit ``[N, 1]`` becomes ``[N, 2]`` with 0 for the first class."""
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits


def malignant_log_odds(logits: NDArray[np.float32], labels: Sequence[Label]) -> NDArray[np.float64]:
    """Log-odds of malignancy, float64 ``[N]``, from logits ``[N, C]``."""
    malignant = np.array([label.malignant for label in labels])
    logits = logits.astype(np.float64)
    return np.asarray(np.logaddexp.reduce(logits[:, malignant], axis=1) - np.logaddexp.reduce(logits[:, ~malignant], axis=1))


def within_domain_auc(score: NDArray[np.float64], rows: Sequence[Row]) -> float:
    """The mean ROC AUC within domains, on biopsied lesions: recognising the camera does not improve it.

    Benign rows that are known not to be biopsied are left out; a row without a domain counts under its source. A domain with
    m malignant and b benign rows has the weight m b / (m + b), which is about the inverse variance of its AUC, so that chance in
    a small domain does not choose the epoch. Domains with fewer than five rows of either label are left out; if none is left,
    all rows count as one domain.
    """
    malignant = np.array([bool(row.malignant) for row in rows])
    domain = np.array([row.domain or row.source for row in rows])
    counted = np.array([bool(row.malignant) or row.biopsied is not False for row in rows])
    aucs, cases = [], []
    for name in np.unique(domain):
        here = (domain == name) & counted
        sick, well = int(malignant[here].sum()), int((~malignant[here]).sum())
        if min(sick, well) >= 5:
            aucs.append(roc_auc_score(malignant[here], score[here]))
            cases.append(sick * well / (sick + well))
    if not aucs:
        return float(roc_auc_score(malignant, score)) if 0 < malignant.sum() < len(rows) else 0.5
    return float(np.average(aucs, weights=cases))
