from pathlib import Path

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import NAMES, build
from aiderm_trainer.config import ConfigError, TrainConfig


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as keras saves it, with weights that are surely none of a fresh network."""
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3)).save_weights(path)
    return path


@pytest.mark.parametrize("size", [32, 64, 96, 150, 224, 300])
def test_the_custom_cnn_has_the_layers_in_order_at_any_size(size: int) -> None:
    network = build(TrainConfig(arch="custom_cnn", weights="none", size=size), 2)
    kinds = [type(layer).__name__ for layer in network.model.layers if type(layer).__name__ not in ("InputLayer", "Rescaling")]
    block = ["Conv2D", "MaxPooling2D", "Dropout"]
    assert kinds == [*block, *block, "Flatten", "Dropout", "Dense", "Dropout", "Dense"]
    assert network.model.output_shape == (None, 1)
    assert network.model.count_params() < 5_000_000


def test_seeds_fix_initial_weights() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        return build(TrainConfig(arch="custom_cnn", weights="none", size=32, seed=seed), 3).model.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights(1), weights(2), strict=True))


def test_transfer_freezes_most_layers_and_every_batch_norm(mobilenet_file: Path) -> None:
    network = build(TrainConfig(arch="mobilenet_v2", weights=str(mobilenet_file), size=96), 7)
    layers = network.model.layers
    assert network.pretrained
    assert not network.model.get_layer("block_5_expand").trainable
    assert network.model.get_layer("block_6_expand").trainable
    assert not any(layer.trainable for layer in layers if isinstance(layer, keras.layers.BatchNormalization))
    assert network.model.output_shape == (None, 7)


def test_pretrained_weights_arrive_and_novelty_keeps_them(mobilenet_file: Path) -> None:
    network = build(TrainConfig(arch="mobilenet_v2", weights=str(mobilenet_file), size=96), 2)
    reference = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    reference.load_weights(mobilenet_file)
    image = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3)).astype(np.uint8)
    expected = keras.Model(reference.input, reference.get_layer("block_12_add").output)(image / 127.5 - 1, training=False)
    assert np.allclose(network.novelty(image), expected, atol=1e-4)
    kernel = network.model.get_layer("block_12_expand").kernel
    kernel.assign(kernel * 2)
    assert np.allclose(network.novelty(image), expected, atol=1e-4)


def test_layers_can_be_frozen_by_name_or_by_fraction(mobilenet_file: Path) -> None:
    def trained(until: str) -> int:
        config = TrainConfig(arch="mobilenet_v2", weights=str(mobilenet_file), size=96, freeze_until=until)
        return len(build(config, 2).model.trainable_variables)

    assert trained("block_13_expand") < trained("block_6_expand")
    assert trained("1.0") == 4  # the head's two layers
    with pytest.raises(ConfigError, match=r"freeze-until.*'block_99'"):
        trained("block_99")


def test_wrong_weights_are_refused_and_never_left_random(mobilenet_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not hold weights"):
        build(TrainConfig(arch="resnet50_v2", weights=str(mobilenet_file), size=96), 2)
    with pytest.raises(ConfigError, match="imagenet, none, or a file"):
        build(TrainConfig(arch="mobilenet_v2", weights=str(tmp_path / "nothing.h5"), size=96), 2)


def test_an_unknown_architecture_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=", ".join(NAMES)):
        build(TrainConfig(arch="alexnet", weights="none"), 2)
