"""The graph that is served: scaling, network, calibration, heatmap and novelty in one SavedModel (contract 1)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aiderm_core.manifest import Label
from aiderm_trainer.architectures import Network
from aiderm_trainer.export import heatmap, novelty

TEMPERATURE = "temperature"
SHIFT = "malignant_shift"


class AssessorError(ValueError):
    """A SavedModel that is not one of ours."""


class Assessor(keras.Model):
    """A trained network with everything that contract 1 asks of a graph.

    Args:
        network: with its final weights.
        labels: the classes, in order.
        novelty_model: fitted to ``novelty_features`` of training images; None while it is being fitted.
    """

    def __init__(self, network: Network, labels: Sequence[Label], novelty_model: novelty.NoveltyModel | None = None) -> None:
        super().__init__(name="assessor")
        self.network = network.detailed
        self.maps = len(network.taps)
        self.pooling = network.pooling
        self.head = [network.model.get_layer(name) for name in network.dense]
        self.unusual = network.novelty
        self.malignant = np.array([label.malignant for label in labels], np.float32)
        for key, start in ((TEMPERATURE, 1.0), (SHIFT, 0.0)):
            setattr(
                self, key, self.add_weight(shape=(), initializer=keras.initializers.Constant(start), trainable=False, name=key)
            )
        self.fitted = []
        if novelty_model is not None:
            for key in ("mean", "axes", "variance", "residual"):
                value = np.asarray(getattr(novelty_model, key), np.float32)
                weight = self.add_weight(shape=value.shape, initializer="zeros", trainable=False, name=f"novelty_{key}")
                weight.assign(value)
                self.fitted.append(weight)
        self.size = network.size
        self.built = True  # all parts are; export refuses what was never called

    def novelty_features(self, image: Any, maps: Sequence[Any]) -> Any:
        """Pooled features ``[N, D]``: of pretrained layers, or the network's own where there are none."""
        features = self.unusual(image, training=False) if self.unusual is not None else maps[-1]
        return tf.reduce_mean(features, axis=(1, 2))

    def features(self, image: Any) -> Any:
        """What the novelty model is fitted to: uint8 ``[N, S, S, 3]`` -> ``[N, D]``."""
        return self.novelty_features(image, self.network(image, training=False)[: self.maps])

    def call(self, image: Any) -> dict[str, Any]:
        """uint8 ``[N, S, S, 3]`` -> contract 1's four outputs."""
        *maps, vector, logits = self.network(image, training=False)
        calibrated = tf.convert_to_tensor(logits) / self.temperature
        shift = tf.convert_to_tensor(self.malignant_shift)
        if calibrated.shape[-1] == 1:
            malignancy = tf.sigmoid(calibrated[:, 0] + shift)
            sides = tf.stack([tf.sigmoid(-calibrated[:, 0] - shift), malignancy], axis=1)
            probability = sides if self.malignant[1] else sides[:, ::-1]
        else:
            probability = tf.nn.softmax(calibrated + shift * self.malignant)
            malignancy = tf.minimum(tf.reduce_sum(probability * self.malignant, axis=1), 1.0)
        layers = [(tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)) for layer in self.head]
        gradient = heatmap.through_dense(heatmap.class_gradient(calibrated, self.malignant), vector, layers)
        where = heatmap.contributions(maps, gradient, self.pooling)
        fitted = [tf.convert_to_tensor(weight) for weight in self.fitted]
        return {
            "probability": probability,
            "malignancy": malignancy,
            "heatmap": where * malignancy[:, None, None],
            "novelty": novelty.score(self.novelty_features(image, maps), *fitted),
        }


def write(assessor: Assessor, folder: Path) -> None:
    """Writes the SavedModel into ``folder``, which may hold other files already."""
    size = assessor.size
    archive = keras.export.ExportArchive()
    archive.track(assessor)
    archive.add_endpoint(
        "serving_default", assessor.call, input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, "image")]
    )
    # The archive lists all variables once more, and would store each weight twice; the tracked model holds them.
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        setattr(archive._tf_trackable, name, [])
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "graph"
        archive.write_out(str(target), verbose=False)
        _take(target, folder)


def recalibrated(bundle: Path, folder: Path, temperature: float, shift: float) -> None:
    """Writes a copy of a bundle's graph with other calibration into ``folder``.

    Raises:
        AssessorError: the graph has no such variables.
    """
    loaded = tf.saved_model.load(str(bundle))
    found = {name: _variable(loaded, name) for name in (TEMPERATURE, SHIFT)}
    found[TEMPERATURE].assign(temperature)
    found[SHIFT].assign(shift)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "graph"
        tf.saved_model.save(loaded, str(target), signatures=loaded.signatures["serving_default"])
        _take(target, folder)


def calibration_of(bundle: Path) -> tuple[float, float]:
    """Temperature and malignant shift inside a bundle's graph."""
    loaded = tf.saved_model.load(str(bundle))
    return tuple(float(_variable(loaded, name).numpy()) for name in (TEMPERATURE, SHIFT))  # type: ignore[return-value]


def _variable(loaded: Any, name: str) -> Any:
    signature = loaded.signatures["serving_default"]
    matches = [v for v in signature.variables if v.name.split(":")[0].split("/")[-1] == name]
    if len(matches) != 1:
        raise AssessorError(f"the graph has no variable {name}; recalibrate takes bundles of this trainer")
    return matches[0]


def _take(graph: Path, folder: Path) -> None:
    (folder / "variables").mkdir(exist_ok=True)
    shutil.move(graph / "saved_model.pb", folder / "saved_model.pb")
    for file in (graph / "variables").iterdir():
        shutil.move(file, folder / "variables" / file.name)
