import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.objective import (
    distilled,
    full_logits,
    malignant_log_odds,
    negative_log_likelihood,
    within_domain_auc,
)

LABELS = [Label(id=f"c{i}", name="c", malignant=i < 2) for i in range(4)]
LOGITS = st.lists(st.floats(-20, 20), min_size=4, max_size=4)


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_the_loss_is_minus_the_log_of_the_summed_probability(logits: list[float], allowed: list[bool]) -> None:
    values = np.array([logits], np.float32)
    p = np.exp(values - values.max())
    expected = -np.log((p / p.sum())[0][allowed].sum())
    loss = negative_log_likelihood(tf.constant(values), tf.constant([allowed], tf.float32))
    assert float(loss[0]) == pytest.approx(expected, abs=1e-3)


def test_two_classes_give_binary_cross_entropy() -> None:
    logits = np.array([[2.0], [-1.0]], np.float32)
    loss = negative_log_likelihood(tf.constant(logits), tf.constant([[0.0, 1.0], [1.0, 0.0]]))
    p = 1 / (1 + np.exp(-logits[:, 0]))
    assert loss.numpy() == pytest.approx([-np.log(p[0]), -np.log(1 - p[1])], rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(LOGITS)
def test_log_odds_agree_with_the_probabilities(logits: list[float]) -> None:
    values = np.array([logits], np.float64)
    p = np.exp(values - values.max())
    assert malignant_log_odds(values, LABELS)[0] == pytest.approx(np.log(p[0, :2].sum() / p[0, 2:].sum()), abs=1e-6)


def test_a_single_unit_is_the_second_class() -> None:
    assert full_logits(np.array([[3.0]], np.float32)).tolist() == [[0.0, 3.0]]


def test_recognising_the_source_earns_nothing() -> None:
    rows = [Row(f"{i:064x}", f"{i}.png", "ab"[i % 2], f"g{i}", "train", "", i % 2 == 0 or i < 10) for i in range(40)]
    rows = [*rows, *(Row(f"{99 + i:064x}", f"x{i}.png", "a", f"h{i}", "train", "", False) for i in range(10))]
    by_source = np.array([1.0 if row.source == "a" else 0.0 for row in rows])
    assert within_domain_auc(by_source, rows) == 0.5
    assert within_domain_auc(np.array([float(row.malignant) for row in rows]), rows) == 1.0


def test_a_small_source_counts_for_little() -> None:
    rows = [Row(f"{i:064x}", f"{i}.png", "large" if i < 180 else "small", f"g{i}", "train", "", i % 2 == 0) for i in range(200)]
    score = np.array([float(row.malignant) * (1 if row.source == "large" else -1) for row in rows])
    assert within_domain_auc(score, rows) == pytest.approx(0.9)


def test_a_teacher_pulls_only_the_rows_that_it_speaks_of() -> None:
    logits = tf.constant([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    possible = tf.constant([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    own = negative_log_likelihood(logits, possible)
    taught = tf.constant([[0.2, 0.5, 0.3], [0.0, 0.0, 0.0]])
    mixed = distilled(own, logits, taught, 0.25).numpy()
    expected = -np.sum([0.2, 0.5, 0.3] * np.log(np.exp([2, 0, 0]) / np.exp([2, 0, 0]).sum()))
    assert mixed[0] == pytest.approx(0.75 * own.numpy()[0] + 0.25 * expected, rel=1e-5)
    assert mixed[1] == pytest.approx(own.numpy()[1])
    one = distilled(tf.constant([1.0]), tf.constant([[0.7]]), tf.constant([[0.4, 0.6]]), 1.0).numpy()[0]
    p = 1 / (1 + np.exp(-0.7))
    assert one == pytest.approx(-(0.4 * np.log(1 - p) + 0.6 * np.log(p)), rel=1e-5)
