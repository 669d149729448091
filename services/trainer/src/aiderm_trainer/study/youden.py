"""Chooses the threshold of a trial on its inner validation rows, on which no result is reported."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aiderm_trainer.evaluation.metrics import sweep


def youden_threshold(positive: ArrayLike, score: ArrayLike) -> float:
    """The score that maximises sensitivity + specificity (Youden 1950), half way to the next lower one.

    Args:
        positive: 0/1 ``[N]``, both present.
        score: ``[N]``, higher means more suspect.

    Raises:
        ValueError: only one label is there.
    """
    counts = sweep(positive, score)
    if not (counts.positives[0] and counts.negatives[0]):
        raise ValueError(f"a threshold takes both labels. Received: {counts.positives[0]:.0f} of {np.size(positive)} positive")
    gain = counts.true_positive[0] / counts.positives[0] - counts.false_positive[0] / counts.negatives[0]
    best = int(np.argmax(gain))
    lower = counts.threshold[best + 1] if best + 1 < len(counts.threshold) else counts.threshold[best]
    middle = (counts.threshold[best] + lower) / 2
    # Between neighbouring floats there is no middle: it would be the lower one, which is called positive too.
    return float(middle if middle > lower else counts.threshold[best])
