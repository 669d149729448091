"""Implements greedy ensemble selection (Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004)."""

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
        weights: of each chosen member, in proportion to how often it was added; they sum to 1.
        steps: the rounds up to the best score.
    """

    weights: dict[str, float]
    steps: tuple[Step, ...]


def select(
    outputs: Mapping[str, NDArray[np.floating]],
    score: Callable[[Floats], float],
    rounds: int = ROUNDS,
    fits: Callable[[Sequence[str]], bool] = lambda _: True,
) -> Selection:
    """Repeatedly adds, with replacement, the member whose addition gives the best score of the average.

    Args:
        outputs: of each candidate for the same validation rows, ``[N]`` or ``[N, C]``.
        score: of an average of outputs; higher is better.
        rounds: largest number of rounds. Ties go to the member that is named first. Of the ensembles with the best score, the
            shortest is taken.
        fits: whether these distinct members may form an ensemble, for example because of its size.

    Returns:
        The members' weights and the steps. Averaging with the weights gives the last step's score.

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
