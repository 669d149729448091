"""Networks that compute in 8-bit integers: what is rounded, how close they stay, and that runtimes agree."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import openvino as ov
import pytest

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.quantised import Rounded, RoundedConvolution, RoundedDepthwise, fit, quantised
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.synthetic import lesion

SIZE = 96


@pytest.fixture(scope="module")
def original():
    keras.utils.set_random_seed(0)
    network = build(TrainConfig(arch="mobilenet_v2", weights="none", size=SIZE, taps=("block_5_add",), dense=(8,)), 2)
    images = lesions(16, 0)
    for layer in network.model.layers:  # statistics as after a training: with those of a new network its maps fade away
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


def test_every_convolution_but_the_first_reads_a_rounded_map_and_rounded_weights(original, model):
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)]
    assert [type(layer) is keras.layers.Conv2D for layer in convolutions] == [True] + [False] * (len(convolutions) - 1)
    for layer in convolutions[1:]:
        source = layer.input._keras_history.operation
        if isinstance(source, keras.layers.ZeroPadding2D):  # before it, so that runtimes still pad inside the convolution
            source = source.input._keras_history.operation
        assert isinstance(source, Rounded), layer.name
    assert {layer.name for layer in original.layers} <= {layer.name for layer in model.layers}


def test_layers_named_for_it_stay_in_floats(original):
    kinds = {layer.name: type(layer) for layer in quantised(original, ["expand"]).layers}
    assert kinds["block_2_expand"] is keras.layers.Conv2D
    assert kinds["block_2_project"] is RoundedConvolution


def test_weights_are_on_255_levels_a_channel(model):
    for layer in model.layers:
        if not isinstance(layer, RoundedConvolution | RoundedDepthwise):
            continue
        inputs = np.zeros((1, 5, 5, layer.input.shape[-1]), np.float32)
        kernel = np.asarray(layer.kernel)
        # A single 1 reads the weights of its channel back.
        inputs[0, 2, 2, 0] = 1
        layer_output = np.asarray(layer(inputs))
        per_channel = (
            np.abs(kernel).max(axis=(0, 1, 2)) if isinstance(layer, RoundedConvolution) else np.abs(kernel).max((0, 1, 3))
        )
        shared = layer_output if isinstance(layer, RoundedConvolution) else layer_output[..., :1]
        steps = shared / (per_channel[: shared.shape[-1]] / 127)
        assert np.allclose(steps, np.round(steps), atol=1e-2), layer.name
        assert np.abs(np.round(steps)).max() <= 127


def test_it_answers_almost_as_the_original(original, model):
    images = lesions(48, 100)
    before, after = original.predict(images, verbose=0)[:, 0], model.predict(images, verbose=0)[:, 0]
    assert np.corrcoef(before, after)[0, 1] > 0.9
    assert np.abs(before - after).max() > 0  # it is rounded


def test_integers_and_floats_are_one_network(model, tmp_path: Path):
    model.export(tmp_path / "graph", verbose=False)
    core = ov.Core()
    graph = core.read_model(tmp_path / "graph")
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    integers = core.compile_model(graph, "CPU", f32)
    floats = core.compile_model(graph, "CPU", f32 | {"LP_TRANSFORMS_MODE": "NO"})
    kinds = {op.get_rt_info()["runtimePrecision"].astype(str) for op in integers.get_runtime_model().get_ordered_ops()}
    assert kinds & {"i8", "u8"}
    images = lesions(24, 200)
    answers = [np.concatenate([each([image[None]])[0] for image in images])[:, 0] for each in (integers, floats)]
    spread = answers[1].std()
    assert np.abs(answers[0] - answers[1]).mean() < 0.1 * spread
    assert np.abs(answers[1] - model.predict(images, verbose=0)[:, 0]).mean() < 0.1 * spread
