"""Greedy selection picks members that help, leaves out others, and respects its limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.evaluation.metrics import roc_auc
from aiderm_trainer.study.selection import select

MALIGNANT = np.arange(300) % 2 == 0


def auc(score: np.ndarray) -> float:
    return roc_auc(MALIGNANT, score).item()


def candidates(seed: int, count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"m{i}": MALIGNANT + rng.normal(size=300) * (1 + i) for i in range(count)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_never_worse_than_the_best_member_and_says_what_its_average_scores(seed: int) -> None:
    outputs = candidates(seed)
    found = select(outputs, auc, rounds=8)
    average = sum(weight * outputs[name] for name, weight in found.weights.items())
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert auc(average) == pytest.approx(found.steps[-1].score, abs=1e-3)
    assert found.steps[-1].score >= max(auc(output) for output in outputs.values()) - 1e-6
    assert found.steps[0].score == max(auc(output) for output in outputs.values())
    scores = [step.score for step in found.steps]
    assert scores.index(max(scores)) == len(scores) - 1


def test_a_member_that_only_disturbs_is_left_out_and_one_that_helps_is_taken() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=300)
    outputs = {"a": MALIGNANT + noise, "b": MALIGNANT - noise, "against": -1.0 * MALIGNANT + noise}
    found = select(outputs, auc)
    assert set(found.weights) == {"a", "b"}
    assert found.steps[-1].score == 1.0


def test_the_limit_holds() -> None:
    found = select(candidates(1), auc, fits=lambda members: len(members) <= 2)
    assert 1 <= len(found.weights) <= 2
    with pytest.raises(ValueError, match="none of 4 candidates fits"):
        select(candidates(1), auc, fits=lambda members: False)
    with pytest.raises(ValueError, match="one shape"):
        select({"a": np.zeros(3), "b": np.zeros(4)}, auc)


def test_of_members_that_differ_by_rounding_the_first_is_added() -> None:
    output = np.random.default_rng(0).normal(size=10)
    scores = {0: 0.8, 1: np.nextafter(0.8, 1)}
    outputs = {"first": output, "second": output + 1}
    found = select(outputs, lambda average: float(scores[int(np.allclose(average, output + 1))]), rounds=1)
    assert found.weights == {"first": 1.0}
