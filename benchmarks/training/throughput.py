"""Measures the images per second of this trainer's steps and of a plain Keras fit, in one run. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from benchmarks.processor import processor

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.backbones import BACKBONES
from aiderm_trainer.architectures.trunk import Trunk, cut
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.batches import Images, TrainingBatches
from aiderm_trainer.data.sources.index import index
from aiderm_trainer.data.synthetic import dataset
from aiderm_trainer.training.loop import Loss, Rounds

BATCH = 32
SIZE = 224


def plain_keras(pixels: np.ndarray, labels: np.ndarray) -> Callable[[int], float]:
    """Returns a function that times ``model.fit`` with random layers in the model and all weights trained."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.RandomFlip(), layers.RandomRotation(0.5), layers.RandomTranslation(0.08, 0.08), layers.RandomZoom(0.2),
            layers.RandomContrast(0.18), layers.RandomBrightness(0.1, value_range=(0, 255)),
            layers.Rescaling(1 / 127.5, offset=-1),
            keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg"),
            layers.Dense(256, activation="relu"), layers.Dense(1, activation="sigmoid"),
        ]
    )  # fmt: skip
    model.compile(keras.optimizers.AdamW(1e-4), "binary_crossentropy")

    def steps(count: int) -> float:
        data = _untuned(tf.data.Dataset.from_tensor_slices((pixels, labels)).repeat().batch(BATCH).prefetch(2))
        began = time.perf_counter()
        model.fit(data, steps_per_epoch=count, epochs=1, verbose=0)
        return count * BATCH / (time.perf_counter() - began)

    return steps


def ours(images: Images) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Returns functions that time the steps of ``aiderm-train train --arch mobilenet_v2``, and their passes alone, on one batch.

    The passes are forward and backward. Random weights take as long as pretrained ones.
    """
    model = build(TrainConfig(arch="mobilenet_v2", weights="none", size=SIZE), 2).model
    first = model.layers.index(model.get_layer(BACKBONES["mobilenet_v2"].freeze_until))
    for i, layer in enumerate(model.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
    parts = cut(model)
    if parts is None:
        raise SystemExit("nothing is frozen")
    trunk, trained = Trunk(parts[0]), parts[1]
    targets = np.eye(2, dtype=np.float32)[[int(row.malignant) for row in images.rows]]
    batches = TrainingBatches(images, targets, BATCH, 0)
    labels = [Label(id=name, name=name, malignant=malignant) for name, malignant in (("benign", False), ("malignant", True))]
    trained.compile(keras.optimizers.AdamW(1e-4), loss=Loss(labels))

    def steps(count: int) -> float:
        began = time.perf_counter()
        trained.fit(Rounds(batches, trunk, count, first=0, pairs=False), epochs=1, shuffle=False, verbose=0)
        return count * BATCH / (time.perf_counter() - began)

    ready = Rounds(batches, trunk, 1, first=0, pairs=False)[0]

    def passes(count: int) -> float:
        data = _untuned(tf.data.Dataset.from_tensors(ready).repeat())
        began = time.perf_counter()
        trained.fit(data, steps_per_epoch=count, epochs=1, verbose=0)
        return count * BATCH / (time.perf_counter() - began)

    return steps, passes


def _untuned(data: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off the tuner of tf.data, whose thread sleeps for seconds: at its end, ``fit`` waits until the thread wakes."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def spread(values: list[float], digits: int) -> dict[str, object]:
    """Median and range of the rounds."""
    return {"median": round(median(values), digits), "range": [round(min(values), digits), round(max(values), digits)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = index(dataset(Path(folder), 8 * BATCH, size=SIZE))
        images = Images(found.rows, found.root, SIZE)
        pixels = np.stack([images[i] for i in range(len(images))])
        labels = np.array([row.malignant for row in images.rows], np.float32)
        whole, passes = ours(images)
        ways = {"keras layers": plain_keras(pixels, labels), "this trainer": whole, "passes alone": passes}
        for steps in ways.values():  # tracing and compiling
            steps(2)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, steps in ways.items():
                rates[name].append(steps(options.steps))

    def ratios(other: str) -> list[float]:
        return [ours / theirs for ours, theirs in zip(rates["this trainer"], rates[other], strict=True)]

    result = {
        "images_per_second": {name: spread(values, 1) for name, values in rates.items()},
        "ratio": spread(ratios("keras layers"), 2),
        "ratio_to_passes": spread(ratios("passes alone"), 2),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
