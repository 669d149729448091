"""Weights taken from a bundle that holds two copies of some layers: trained, and as pretrained for novelty."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import Network, build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.training.starting_weights import take_over

pytestmark = pytest.mark.ci
TRAINED = "block_12_expand"  # novelty is assessed with a later layer


def _values(network: Network) -> dict[str, np.ndarray]:
    return {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in network.model.weights}


def _train(network: Network, factor: float) -> None:
    """Changes a layer's weights as training would."""
    kernel = network.model.get_layer(TRAINED).kernel
    kernel.assign(kernel * factor)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(path)
    return TrainConfig(arch="mobilenet_v2", weights=str(path), size=32)


@pytest.fixture(scope="module")
def bundle(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A SavedModel of both copies, and the trained values."""
    network = build(config, 2)
    _train(network, 2.0)
    folder = tmp_path_factory.mktemp("bundle") / "1"
    both = keras.Model(network.model.input, [network.novelty.output, network.model.output])
    both.export(folder, format="tf_saved_model", verbose=False)
    return folder, _values(network)


@pytest.mark.parametrize("factor", [1.0, 3.0], ids=["into a new network", "into one that was trained otherwise"])
def test_trained_layers_are_taken_and_not_the_pretrained_ones(config: TrainConfig, bundle, factor: float) -> None:
    folder, expected = bundle
    network = build(config, 2)
    _train(network, factor)
    take_over(folder, network)
    for path, value in _values(network).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


def test_another_network_is_refused(bundle) -> None:
    with pytest.raises(ConfigError, match="it is another network"):
        take_over(bundle[0], build(TrainConfig(arch="custom_cnn", weights="none", size=32), 2))
