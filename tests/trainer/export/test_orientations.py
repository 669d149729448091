"""The served output does not depend on the camera's rotation, in either engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from aiderm_core.bundle.manifest import Label
from aiderm_core.runtime import OUTPUTS, Runtime, load_runtime
from aiderm_core.tta import views as reference_views
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.export import novelty, orientations
from aiderm_trainer.export.saved_model import Assessor, write

SIZE = 64
LABELS = (
    Label(id="a", name="A", malignant=False),
    Label(id="b", name="B", malignant=True),
    Label(id="c", name="C", malignant=True),
)


def pictures(count: int, seed: int = 1) -> np.ndarray:
    """Smooth patterns without any symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 255, (count, 5, 5, 3)).astype(np.uint8)
    return np.stack([cv2.resize(each, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for each in coarse])


def averaging(seed: int) -> Network:
    """Two convolutions whose maps are averaged, as in the pretrained networks."""
    inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    fine = keras.layers.Conv2D(8, 5, 4, padding="same", activation="relu", kernel_initializer=random(seed), name="fine")(x)
    coarse = keras.layers.Conv2D(12, 3, 2, padding="same", activation="relu", kernel_initializer=random(seed), name="coarse")(
        fine
    )
    pooled = [keras.layers.GlobalAveragePooling2D()(each) for each in (fine, coarse)]
    vector = keras.layers.Concatenate(name="vector")(pooled)
    hidden = keras.layers.Dense(8, activation="relu", kernel_initializer=random(seed), name="hidden")(vector)
    logits = keras.layers.Dense(len(LABELS), kernel_initializer=random(seed), name="logits")(hidden)
    return Network(keras.Model(inputs, logits), ("fine", "coarse"), "average", ("hidden", "logits"), "vector", None, False)


def random(seed: int) -> keras.Initializer:
    return keras.initializers.RandomNormal(stddev=0.4, seed=seed)


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    """One network that averages its maps, and two that flatten them, one of which has smaller images."""
    found = [averaging(3)]
    for seed, size in enumerate((SIZE, 48)):
        found.append(build(TrainConfig(arch="custom_cnn", weights="none", size=size, seed=seed, dense=(8,)), len(LABELS)))
        kernel = found[-1].model.get_layer("logits").kernel
        kernel.assign(np.random.default_rng(seed).normal(0, 1, kernel.shape))
    return found


def exported(networks: list[Network], folder: Path, view: Any = orientations.Averaged) -> Path:
    features = Assessor(networks, LABELS).features(tf.constant(pictures(24))).numpy()
    write(Assessor(networks, LABELS, novelty.fit(features, plain_features(networks)), view=view), folder)
    return folder


def plain_features(networks: list[Network]) -> np.ndarray:
    flat = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 9, (24, SIZE, SIZE, 3))
    return np.asarray(Assessor(networks, LABELS).features(tf.constant(flat)).numpy())


@pytest.fixture(scope="module", params=[pytest.param(orientations.Averaged, marks=pytest.mark.ci), orientations.Upright])
def bundle(request: pytest.FixtureRequest, networks: list[Network], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(networks, tmp_path_factory.mktemp("ensemble"), request.param)


@pytest.fixture(scope="module", params=["openvino", "tensorflow"])
def runtime(request: pytest.FixtureRequest, bundle: Path) -> Runtime:
    return load_runtime(request.param, bundle)


def test_turned_and_mirrored_images_get_the_same_answer(runtime: Runtime) -> None:
    turned = runtime.run(reference_views(pictures(2)))
    for name in ("probability", "malignancy", "novelty"):
        by_image = getattr(turned, name).reshape(2, 8, -1)
        assert np.allclose(by_image, by_image[:, :1], atol=1e-5, rtol=1e-5), name
        assert not np.allclose(by_image[0, 0], by_image[1, 0], atol=1e-3), f"{name} is the same for all images"


def test_the_heatmap_turns_with_the_image(runtime: Runtime) -> None:
    image = pictures(1, seed=7)
    upright = runtime.run(image).heatmap[0]
    assert upright.std() > 0.01
    for turn in range(4):
        for mirror in (False, True):
            given, expected = np.rot90(image, turn, axes=(1, 2)), np.rot90(upright, turn)
            if mirror:
                given, expected = given[:, :, ::-1], expected[:, ::-1]
            assert np.allclose(runtime.run(np.ascontiguousarray(given)).heatmap[0], expected, atol=1e-4)


def test_both_engines_agree(bundle: Path) -> None:
    one, other = (load_runtime(name, bundle).run(pictures(3)) for name in ("openvino", "tensorflow"))
    for name in OUTPUTS:
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-4, rtol=1e-4), name


def test_one_view_alone_does_depend_on_the_turn(networks: list[Network], tmp_path: Path) -> None:
    answers = load_runtime("openvino", exported(networks[1:2], tmp_path, orientations.AsGiven)).run(reference_views(pictures(1)))
    assert np.ptp(answers.malignancy) > 1e-3


def test_the_answer_is_that_of_the_mean_logits(networks: list[Network], tmp_path: Path) -> None:
    image = pictures(1)
    answer = load_runtime("openvino", exported(networks[1:2], tmp_path)).run(image)
    logits = networks[1].model(reference_views(image), training=False).numpy().mean(axis=0)
    expected = np.exp(logits - logits.max())
    assert np.allclose(answer.probability[0], expected / expected.sum(), atol=1e-5)


def test_views_are_the_eight_symmetries_and_turn_back() -> None:
    image = pictures(3)
    seen = orientations.Averaged(tf.constant(image))
    made = seen.images.numpy().reshape(8, 3, SIZE, SIZE, 3)
    wanted = reference_views(image).reshape(3, 8, SIZE, SIZE, 3)
    for index in range(3):
        assert {view.tobytes() for view in made[:, index]} == {view.tobytes() for view in wanted[index]}
    back = seen.mean_turned_back(tf.cast(seen.images, tf.float32)).numpy()
    assert np.allclose(back, image, atol=1e-3)
    assert np.allclose(seen.mean(seen.repeat(tf.constant([[1.0, 2.0], [3.0, 4.0]]))), [[1, 2], [3, 4]])


@pytest.mark.parametrize("size", [SIZE, SIZE - 1])
def test_an_upright_image_is_the_same_for_all_eight_and_turns_back(size: int) -> None:
    image = np.ascontiguousarray(pictures(5)[:, :size, :size])
    turned = reference_views(image)
    seen = orientations.Upright(tf.constant(turned))
    made = seen.images.numpy().reshape(5, 8, size, size, 3)
    assert (made == made[:, :1]).all()
    assert (seen.mean_turned_back(seen.images).numpy() == turned).all()
    green = made[:, 0, :, :, 1].astype(np.int64)
    half = size // 2
    across = green[:, :, -half:].sum((1, 2)) - green[:, :, :half].sum((1, 2))
    down = green[:, -half:].sum((1, 2)) - green[:, :half].sum((1, 2))
    assert (across > 0).all()
    assert (down > 0).all()
    assert len({each.tobytes() for each in turned}) == 40, "these images have symmetries"


def test_a_large_bright_image_is_told_from_its_copies_by_three_pixels() -> None:
    """Sums are exact: with rounding they would depend on the order of addition, and so on the orientation."""
    image = np.full((1, 1024, 1024, 3), 255, np.uint8)
    image[0, [3, 4, 600], [5, 9, 7]] = 0
    made = orientations.Upright(tf.constant(reference_views(image))).images.numpy()
    assert (made == made[:1]).all()
