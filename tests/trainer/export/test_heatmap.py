"""The closed form must match a gradient tape."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aiderm_trainer.export import heatmap

MALIGNANT = np.array([1, 0, 1, 0], np.float32)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(3)


def test_the_class_gradient_is_that_of_the_log_odds() -> None:
    logits = tf.Variable(tf.random.normal((5, 4)))
    with tf.GradientTape() as tape:
        malignant = tf.reduce_logsumexp(tf.boolean_mask(logits, MALIGNANT > 0, axis=1), axis=1)
        odds = malignant - tf.reduce_logsumexp(tf.boolean_mask(logits, MALIGNANT == 0, axis=1), axis=1)
    assert np.allclose(heatmap.class_gradient(logits, MALIGNANT), tape.gradient(odds, logits), atol=1e-5)


@pytest.mark.parametrize("hidden", [[], [6], [6, 5]])
def test_the_gradient_through_the_head_is_the_tapes(hidden: list[int]) -> None:
    layers = [keras.layers.Dense(width, activation="relu") for width in hidden] + [keras.layers.Dense(4)]
    vector = tf.Variable(tf.random.normal((7, 9)))
    with tf.GradientTape() as tape:
        out = vector
        for layer in layers:
            out = layer(out)
    upstream = tf.random.normal((7, 4))
    expected = tape.gradient(out, vector, output_gradients=upstream)
    weights = [(tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)) for layer in layers]
    assert np.allclose(heatmap.through_dense(upstream, vector, weights), expected, atol=1e-5)


def test_averaged_maps_show_where_a_channel_fires() -> None:
    fine, coarse = np.zeros((1, 8, 8, 2), np.float32), np.zeros((1, 4, 4, 3), np.float32)
    fine[0, 2, 5, 1] = 16.0
    coarse[0, 0, 0, 0] = 9.0
    gradient = tf.constant([[0.0, 1.0, -1.0, 0.0, 0.0]])
    where = heatmap.shown(heatmap.evidence([tf.constant(fine), tf.constant(coarse)], gradient, "average")).numpy()
    assert where.shape == (1, 8, 8)
    assert where[0, 2, 5] == pytest.approx(1.0)
    # Negative evidence counts too: 9/16 of the coarse cell, a quarter of that for each of its pixels, relative to 16/64.
    assert where[0, :2, :2].max() == pytest.approx((9 / 16 / 4) / (16 / 64), abs=1e-4)
    assert where[0, 5:, :4].max() == 0


def test_a_flattened_map_uses_its_gradient_place_by_place() -> None:
    maps = np.ones((1, 3, 3, 2), np.float32)
    gradient = np.zeros((1, 18), np.float32)
    gradient[0, (1 * 3 + 2) * 2] = 2.0
    where = heatmap.shown(heatmap.evidence([tf.constant(maps)], tf.constant(gradient), "flatten")).numpy()
    assert np.unravel_index(where[0].argmax(), (3, 3)) == (1, 2)
    assert where.sum() == pytest.approx(1.0)


def test_evidence_against_malignancy_counts_as_much_as_evidence_for_it() -> None:
    maps, gradient = tf.random.normal((2, 4, 4, 3)), tf.random.normal((2, 3))
    for sign in (1.0, -1.0):
        where = heatmap.shown(heatmap.evidence([maps], sign * gradient, "average")).numpy()
        expected = np.abs((maps.numpy() * gradient.numpy()[:, None, None]).sum(axis=-1))
        assert np.allclose(where, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)


def test_nothing_that_counts_gives_an_empty_map_and_no_nan() -> None:
    where = heatmap.shown(heatmap.evidence([tf.ones((2, 4, 4, 3))], tf.zeros((2, 3)), "average")).numpy()
    assert (where == 0).all()
