"""Networks in 8-bit integers: what is rounded, how close they stay to the original, and that runtimes agree."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import openvino as ov
import pytest

from aiderm_core.runtime.processor import has_integer_units
from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.quantised import Rounded, RoundedConvolution, RoundedDepthwise, quantised
from aiderm_trainer.architectures.quantised_fit import fit
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.synthetic import lesion

SIZE = 96


@pytest.fixture(scope="module")
def original():
    keras.utils.set_random_seed(0)
    network = build(TrainConfig(arch="mobilenet_v2", weights="none", size=SIZE, taps=("block_5_add",), dense=(8,)), 2)
    images = lesions(16, 0)
    for layer in network.model.layers:  # statistics as after training; with those of a new network, the maps vanish
        if isinstance(layer, keras.layers.BatchNormalization):
            probe = keras.Model(network.model.input, layer.input)(images).numpy()
            layer.moving_mean.assign(probe.mean((0, 1, 2)))
            layer.moving_variance.assign(probe.var((0, 1, 2)) + 1e-3)
    return network.model


def lesions(count: int, seed: int) -> np.ndarray:
    return np.stack([lesion(seed + i, bool(i % 2), SIZE) for i in range(count)])


@pytest.fixture(scope="module")
def model(original):
    found = quantised(original)
    fit(found, original, lesions(16, 0))
    return found


def test_every_convolution_reads_a_rounded_map_and_holds_its_batch_norm(original, model):
    convolutions = [layer for layer in model.layers if isinstance(layer, RoundedConvolution | RoundedDepthwise)]
    assert len(convolutions) == sum(
        isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D) for layer in original.layers
    )
    for layer in convolutions:
        source = layer.input._keras_history.operation
        if isinstance(source, keras.layers.ZeroPadding2D):  # rounded before it, so that runtimes pad inside the convolution
            source = source.input._keras_history.operation
        assert isinstance(source, Rounded), layer.name
    assert {layer.name for layer in original.layers} <= {layer.name for layer in model.layers}
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_weights_and_maps_are_small_multiples_of_powers_of_two(model):
    for layer in model.layers:
        if isinstance(layer, Rounded):
            assert np.log2(float(layer.high - layer.low) / 255) % 1 == 0, layer.name
        if isinstance(layer, RoundedConvolution | RoundedDepthwise):
            steps = np.asarray(layer.step)
            assert np.all(np.log2(steps) % 1 == 0), layer.name
            levels = np.asarray(layer.kernel).reshape(-1, len(steps)) / steps
            assert np.array_equal(levels, np.round(levels)), layer.name
            assert 64 <= np.abs(levels).max() <= 127, layer.name


def test_an_activation_inside_a_convolution_keeps_its_bias():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((12, 12, 4), name="image")
    layer = keras.layers.Conv2D(6, 3, activation="relu", bias_initializer=keras.initializers.Constant(-2.0))
    small = keras.Model(inputs, layer(inputs))
    rounded = quantised(small)
    images = np.random.default_rng(0).uniform(0, 6, (64, 12, 12, 4)).astype(np.float32)
    fit(rounded, small, images)
    wanted, found = small.predict(images, verbose=0), rounded.predict(images, verbose=0)
    assert np.abs(found - wanted).max() < 0.02 * wanted.max()


@pytest.mark.parametrize("convolution", [keras.layers.Conv2D(6, 3), keras.layers.Conv2D(6, 1), keras.layers.DepthwiseConv2D(3)])
def test_weights_to_come_make_up_for_the_rounding_of_those_before(convolution):
    """If channels correlate, as in real networks, the sums are closer than when each weight is rounded independently."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 12, 4), name="image")
    small = keras.Model(inputs, keras.layers.ReLU()(type(convolution).from_config(convolution.get_config())(inputs)))
    rounded = quantised(small)
    rng = np.random.default_rng(0)
    images = np.repeat(rng.uniform(0, 6, (64, 12, 12, 1)), 4, axis=3) + rng.normal(0, 0.1, (64, 12, 12, 4))
    images = np.maximum(images, 0).astype(np.float32)
    fit(rounded, small, images)
    wanted, found = small.predict(images, verbose=0), rounded.predict(images, verbose=0)
    layer, before = rounded.layers[2], np.asarray(small.layers[1].kernel)
    shape = (*before.shape[:-2], -1) if isinstance(layer, RoundedDepthwise) else before.shape
    steps = np.asarray(layer.step)
    layer.kernel.assign((np.round(before.reshape(shape) / steps) * steps).reshape(before.shape))
    alone = rounded.predict(images, verbose=0)
    assert np.square(found - wanted).mean() < np.square(alone - wanted).mean()


def test_it_answers_almost_as_the_original(original, model):
    images = lesions(48, 100)
    before, after = original.predict(images, verbose=0)[:, 0], model.predict(images, verbose=0)[:, 0]
    assert np.corrcoef(before, after)[0, 1] > 0.95
    assert np.abs(before - after).max() > 0  # rounding has an effect


def test_integers_and_floats_answer_bit_by_bit_alike(model, tmp_path: Path):
    model.export(tmp_path / "graph", verbose=False)
    core = ov.Core()
    graph = core.read_model(tmp_path / "graph")
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    integers = core.compile_model(graph, "CPU", f32)
    floats = core.compile_model(graph, "CPU", f32 | {"LP_TRANSFORMS_MODE": "NO"})
    kinds = {op.get_rt_info()["runtimePrecision"].astype(str) for op in integers.get_runtime_model().get_ordered_ops()}
    assert kinds & {"i8", "u8"}
    images = lesions(24, 200)
    in_integers, in_floats = (np.concatenate([each([image[None]])[0] for image in images]) for each in (integers, floats))
    assert np.abs(in_floats - model.predict(images, verbose=0)).max() < 1e-4
    if has_integer_units():  # older processors saturate
        assert np.array_equal(in_integers, in_floats)
