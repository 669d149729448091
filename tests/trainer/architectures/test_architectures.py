from pathlib import Path

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import NAMES, build
from aiderm_trainer.architectures.backbones import BACKBONES
from aiderm_trainer.architectures.scaling import DEVIATION, MEAN, scale
from aiderm_trainer.architectures.transfer import depths
from aiderm_trainer.config import ConfigError, TrainConfig


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file saved by Keras, whose weights differ from those of any new network."""
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
        return len(build(config, 2, load=False).model.trainable_variables)

    assert trained("block_13_expand") < trained("block_6_expand")
    assert trained("1.0") == 4  # the weights and biases of the head's two layers
    with pytest.raises(ConfigError, match=r"freeze-until.*'block_99'"):
        trained("block_99")


@pytest.mark.ci
def test_wrong_weights_are_refused_and_never_left_random(mobilenet_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not hold weights"):
        build(TrainConfig(arch="resnet50_v2", weights=str(mobilenet_file), size=96), 2)
    with pytest.raises(ConfigError, match="imagenet, none, or a file"):
        build(TrainConfig(arch="mobilenet_v2", weights=str(tmp_path / "nothing.h5"), size=96), 2)


def test_an_unknown_architecture_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=", ".join(NAMES)):
        build(TrainConfig(arch="alexnet", weights="none"), 2)


# One of each family, the cheapest to build; `make soak` builds them all.
CHEAP = ("mobilenet", "mobilenet_v3_small", "vgg16", "convnext_tiny", "xception", "efficientnet_b0", "efficientnet_lite0")


@pytest.mark.parametrize("arch", [n if n in CHEAP else pytest.param(n, marks=pytest.mark.soak) for n in BACKBONES])
def test_every_backbone_is_used_as_its_entry_says(arch: str) -> None:
    spec = BACKBONES[arch]
    # Built like a run that is restored: pretrained, but without the download.
    network = build(TrainConfig(arch=arch, size=96, dense=()), 7, load=False)
    assert network.taps == spec.taps
    maps = [network.model.get_layer(name).output.shape for name in spec.depths if name in {x.name for x in network.model.layers}]
    assert len(maps) == len(spec.depths)
    assert [m[1] for m in maps] == sorted((m[1] for m in maps), reverse=True), "depths go from fine to coarse"
    head = network.model.get_layer("logits").count_params()
    assert (network.model.count_params() - head) / 1e6 == pytest.approx(spec.millions, abs=0.06)

    names = [layer.name for layer in network.model.layers]
    trained = [layer.name for layer in network.model.layers if layer.trainable_weights]
    assert names.index(trained[0]) >= names.index(spec.freeze_until)
    assert names.index(trained[0]) <= names.index(spec.freeze_until) + 2, "no more than a batch norm lies between"
    fixed = {id(v) for v in network.novelty.variables}
    assert not fixed & {id(v) for v in network.model.trainable_variables}, "training must not change the map for novelty"
    if arch == "mobilenet_v2" or arch.startswith("efficientnet_lite"):  # that layer is trained; the map is a copy's
        assert names.index(spec.novelty) > names.index(spec.freeze_until)
    else:
        assert names.index(spec.novelty) < names.index(spec.freeze_until)
        assert fixed <= {id(v) for v in network.model.variables}, "the map comes from the network itself, not from a copy"


SCALINGS = [
    ("mobilenet", "mobilenet"),
    ("vgg16", "vgg16"),
    ("densenet121", "densenet"),
]


@pytest.mark.parametrize(("arch", "module"), SCALINGS)
def test_pixels_are_scaled_as_the_weights_were_trained(arch: str, module: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    scaled = keras.Model(inputs, scale(inputs, BACKBONES[arch].scaling))(image)
    expected = getattr(keras.applications, module).preprocess_input(image.astype(np.float32))
    assert np.allclose(scaled, expected, atol=1e-5 * 255)


@pytest.mark.ci
def test_efficientnet_is_normalised_once_whatever_its_file_says(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    full = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    full.get_layer(index=2).set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.2, 0.2]), np.array(0)])
    full.save_weights(tmp_path / "b0.weights.h5")
    network = build(TrainConfig(arch="efficientnet_b0", weights=str(tmp_path / "b0.weights.h5"), size=32, dense=()), 2)
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    inside = keras.Model(network.model.input, network.model.get_layer("normalization").output)(image)
    assert np.allclose(inside, (image / 255 - np.array(MEAN)) / np.array(DEVIATION), atol=1e-4)
    assert np.array_equal(network.model.get_layer("stem_conv").get_weights()[0], full.get_layer("stem_conv").get_weights()[0])


def test_unnamed_layers_have_the_same_names_in_every_network_of_a_process() -> None:
    config = TrainConfig(arch="mobilenet_v3_small", weights="none", size=32, dense=())
    first, second = ([layer.name for layer in build(config, 2).model.layers] for _ in range(2))
    assert first == second
    assert "activation_17" in first


def test_the_head_reads_as_many_depths_as_asked_for() -> None:
    assert depths("mobilenet_v2", "2") == ("block_15_add", "out_relu")
    config = TrainConfig(arch="mobilenet_v2", size=32, taps=depths("mobilenet_v2", "block_9_add, block_5_add"))
    network = build(config, 2, load=False)
    assert network.taps == ("block_5_add", "block_9_add"), "from shallow to deep"
    assert network.model.get_layer("vector").output.shape == (None, 32 + 64)
    assert "block_12_add" not in {layer.name for layer in network.model.layers}
    assert network.novelty.output.shape[-1] == 96, "novelty reads its own layer all the same"
    with pytest.raises(ConfigError, match=r"must be 1 to 5.*Received: 9"):
        depths("mobilenet_v2", "9")
    with pytest.raises(ConfigError, match="Received: ','"):
        depths("mobilenet_v2", ",")
    with pytest.raises(ConfigError, match="custom_cnn"):
        depths("custom_cnn", "1")
    with pytest.raises(ConfigError, match=r"feature maps of mobilenet.*Received: 'block_99'"):
        build(TrainConfig(arch="mobilenet_v2", weights="none", size=32, taps=("block_99",)), 2)


@pytest.mark.parametrize("arch", ["custom_cnn", "mobilenet_v2"])
def test_features_and_head_compose_to_the_network(arch: str) -> None:
    network = build(TrainConfig(arch=arch, weights="none", size=64), 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    composed = network.head.predict_on_batch(network.features.predict_on_batch(images))
    assert np.allclose(composed, network.model.predict_on_batch(images), atol=1e-5)
    assert network.head.trainable_weights[0] is network.model.get_layer(network.dense[0]).trainable_weights[0]
