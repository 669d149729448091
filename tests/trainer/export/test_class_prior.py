"""The class prior that a model's probabilities assume can be estimated from its outputs and divided out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from aiderm_core.bundle.manifest import Label
from aiderm_core.most_likely import at_even_prevalence
from aiderm_trainer.export.class_prior import fit_class_prior, move_class_prior

LABELS = [Label(id=name, name=name.upper(), malignant=name == "mel") for name in ("mel", "nv", "df")]
ASSUMED = np.array([0.5, 0.4, 0.1])
"""The class prior on which the simulated network was trained; the rows below have another one."""


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network that is calibrated for its training prior, and classes with another prior: df is rare."""
    rng = np.random.default_rng(3)
    index = rng.choice(3, 6000, p=[0.1, 0.87, 0.03])
    seen = np.eye(3)[index] * 2.0 + rng.normal(size=(6000, 3))  # log-likelihood ratio of class c: 2 x_c
    return softmax(2.0 * seen + np.log(ASSUMED), axis=1), index


def test_the_assumed_shares_are_found_whatever_the_rows_hold(rows: tuple[np.ndarray, np.ndarray]) -> None:
    found = fit_class_prior(*rows, LABELS)
    assert found is not None
    assert sum(found.values()) == pytest.approx(1.0)
    assert np.array(list(found.values())) == pytest.approx(ASSUMED, abs=0.05)


def test_dividing_them_out_finds_the_rare_class_more_often(rows: tuple[np.ndarray, np.ndarray]) -> None:
    probability, index = rows
    found = fit_class_prior(probability, index, LABELS)
    assert found is not None
    even = at_even_prevalence(probability, np.array(list(found.values())))

    def balanced(answers: np.ndarray) -> float:
        return float(np.mean([(answers.argmax(axis=1)[index == c] == c).mean() for c in range(3)]))

    assert balanced(even) > balanced(probability) + 0.02


def test_rows_without_a_class_do_not_count_and_a_class_without_rows_leaves_nothing_to_say(rows) -> None:
    probability, index = rows
    some = np.where(np.arange(len(index)) % 2, index, -1)
    assert fit_class_prior(probability, some, LABELS) == fit_class_prior(probability[some >= 0], some[some >= 0], LABELS)
    assert fit_class_prior(probability, np.where(index == 2, -1, index), LABELS) is None
    assert fit_class_prior(probability[:, :2], np.minimum(index, 1), LABELS[:2]) is None


@pytest.mark.parametrize(("ratio", "new_shift"), [(1.0, 0.7), (0.6, -1.5), (2.0, 0.3)])
def test_another_calibration_moves_them_so_that_the_most_likely_class_stays(ratio: float, new_shift: float, rows) -> None:
    malignant, old_shift = np.array([True, False, False]), 0.3
    prior = dict(zip(("mel", "nv", "df"), ASSUMED, strict=True))
    logits = np.log(rows[0]) - old_shift * malignant
    moved = move_class_prior(prior, LABELS, ratio, old_shift, new_shift)
    assert moved is not None
    after = at_even_prevalence(softmax(logits * ratio + new_shift * malignant, axis=1), np.array(list(moved.values())))
    assert (after.argmax(axis=1) == at_even_prevalence(rows[0], ASSUMED).argmax(axis=1)).all()
    assert move_class_prior(None, LABELS, ratio, old_shift, new_shift) is None
