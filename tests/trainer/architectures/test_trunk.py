from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.trunk import Trunk, cut
from aiderm_trainer.config import TrainConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def halved(until: str) -> keras.Model:
    """mobilenet_v2 with random weights, frozen up to a layer like a pretrained one."""
    model = build(TrainConfig(arch="mobilenet_v2", weights="none", size=64, seed=1), 3).model
    first = model.layers.index(model.get_layer(until))
    for i, layer in enumerate(model.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    return model


@pytest.mark.parametrize("until", ["block_6_expand", "block_5_project"])
@pytest.mark.ci
def test_the_parts_compose_to_the_network(until: str) -> None:
    model = halved(until)
    parts = cut(model)
    assert parts is not None
    frozen, trained = parts
    assert not frozen.trainable_variables
    assert {id(v) for v in trained.trainable_variables} == {id(v) for v in model.trainable_variables}
    features = Trunk(frozen)(IMAGES)
    whole = model(IMAGES, training=False).numpy()
    assert np.allclose(trained(features, training=False).numpy(), whole, atol=1e-5, rtol=1e-3)


def test_a_shortcut_is_not_cut_through() -> None:
    frozen, _ = cut(halved("block_5_project")) or (None, None)  # inside a residual block, so it is cut at the block's input
    assert frozen is not None
    assert frozen.output.shape[1:] == (8, 8, 32)


def test_where_all_layers_are_trained_there_is_no_trunk() -> None:
    assert cut(build(TrainConfig(arch="custom_cnn", weights="none", size=64), 2).model) is None
    assert cut(build(TrainConfig(arch="mobilenet_v2", weights="none", size=64), 2).model) is None


def test_more_than_ten_maps_come_in_the_order_of_the_model() -> None:
    model = build(TrainConfig(arch="mobilenet_v2", weights="none", size=64), 2).model
    maps = keras.Model(model.input, [model.get_layer(f"block_{i}_expand_relu").output for i in range(1, 14)])
    assert [found.shape[1:] for found in Trunk(maps).maps(IMAGES)] == [output.shape[1:] for output in maps.outputs]


def test_several_threads_get_the_features_of_their_own_images_in_order() -> None:
    model = build(TrainConfig(arch="mobilenet_v2", weights="none", size=64, seed=2), 2).model
    trunk = Trunk(keras.Model(model.input, model.get_layer("block_2_add").output))
    one_by_one = np.concatenate([trunk(image[None]) for image in IMAGES])
    assert len(np.unique(one_by_one.reshape(len(IMAGES), -1), axis=0)) == len(IMAGES)
    batches = [IMAGES, IMAGES[::-1]] * 8
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(trunk, batches))
    assert all(np.array_equal(each, one_by_one[:: 1 if turn % 2 == 0 else -1]) for turn, each in enumerate(found))
