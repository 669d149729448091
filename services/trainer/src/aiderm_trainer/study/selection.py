"""Greedy ensemble selection: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.evaluation.metrics import Floats

ROUNDS = 30
_GAIN = 1e-6  # anything smaller is rounding, not a gain


class Step(NamedTuple):
    """One round: the member that was added, and the average's score with it."""

    member: str
    score: float


@dataclass(frozen=True)
class Selection:
    """What greedy selection chose.

    Attributes:
        weights: of each chosen member, by times taken; they sum to 1.
        steps: taken, up to the best.
    """

    weights: dict[str, float]
    steps: tuple[Step, ...]


def select(
    outputs: Mapping[str, NDArray[np.floating]],
    score: Callable[[Floats], float],
    rounds: int = ROUNDS,
    fits: Callable[[Sequence[str]], bool] = lambda _: True,
) -> Selection:
    """Adds, round after round and with replacement, the member whose addition to the average scores best.

    Args:
        outputs: of each candidate for the same validation rows, ``[N]`` or ``[N, C]``.
        score: of an average of outputs; higher is better.
        rounds: at most. Of members that score the same, the first named is added. The shortest ensemble with the best score
            is taken.
        fits: whether the distinct members named may be an ensemble (its size, say).

    Returns:
        The members' weights. Averaging with them gives the last step's score.

    Raises:
        ValueError: there are no candidates, their outputs differ in shape, or none fits.
    """
    shapes = {output.shape for output in outputs.values()}
    if len(shapes) != 1 or rounds < 1:
        raise ValueError(f"candidates must have outputs of one shape, and rounds be at least 1. Received: {shapes}, {rounds=}")
    total: Floats = np.zeros(shapes.pop())
    chosen: list[Step] = []
    for count in range(1, rounds + 1):
        taken = [step.member for step in chosen]
        tries = {name: score((total + output) / count) for name, output in outputs.items() if fits(sorted({*taken, name}))}
        if not tries:
            break
        top = max(tries.values())
        best = next(name for name, reached in tries.items() if reached >= top - _GAIN)
        total = total + outputs[best]
        chosen.append(Step(best, tries[best]))
    if not chosen:
        raise ValueError(f"none of {len(outputs)} candidates fits the limit by itself")
    highest = max(step.score for step in chosen)
    until = next(i for i, step in enumerate(chosen, start=1) if step.score >= highest - _GAIN)
    steps = tuple(chosen[:until])
    times = Counter(step.member for step in steps)
    return Selection({name: number / until for name, number in times.items()}, steps)
