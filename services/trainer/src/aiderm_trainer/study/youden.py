"""Chooses the threshold of a trial on its inner validation rows, on which no result is reported."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from aiderm_trainer.evaluation.metrics import sweep


def youden_threshold(positive: ArrayLike, score: ArrayLike) -> float:
    """Returns the midpoint of the score that maximises sensitivity + specificity (Youden 1950) and the next lower score.

    Args:
        positive: 0/1 ``[N]``, both present.
        score: ``[N]``, higher means more suspicious.

    Raises:
        ValueError: only one label is present.
    """
    counts = sweep(positive, score)
    if not (counts.positives[0] and counts.negatives[0]):
        raise ValueError(f"a threshold takes both labels. Received: {counts.positives[0]:.0f} of {np.size(positive)} positive")
    gain = counts.true_positive[0] / counts.positives[0] - counts.false_positive[0] / counts.negatives[0]
    best = int(np.argmax(gain))
    lower = counts.threshold[best + 1] if best + 1 < len(counts.threshold) else counts.threshold[best]
    middle = (counts.threshold[best] + lower) / 2
    # Adjacent floats have no midpoint: it would be rounded to the lower score, which would then count as positive too.
    return float(middle if middle > lower else counts.threshold[best])
