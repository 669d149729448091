"""Builds and writes the served graph: scaling, networks, calibration, heatmap and novelty in one SavedModel."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aiderm_core.bundle.manifest import Label
from aiderm_core.runtime.openvino import write_openvino_graph
from aiderm_trainer.architectures import Network
from aiderm_trainer.architectures.outline_decoder import readable
from aiderm_trainer.export import heatmap, novelty, orientations
from aiderm_trainer.export.members import Answer, Members

TEMPERATURE = "temperature"
SHIFT = "malignant_shift"
FLOOR = 1e-30  # lower limit of an averaged probability, before its logarithm is taken


class AssessorError(ValueError):
    """A SavedModel that was not written by this trainer."""


class Assessor(keras.Model):
    """One trained network, or several whose answers are averaged, with everything that the served graph contains.

    The class probabilities of several networks are averaged, not their logarithms: in a product, one member that is wrongly
    confident outvotes all others, while a mean is wrong only if most of them are.

    A photograph of skin has no upper side. Each image is therefore seen in its eight orientations, or turned into one that
    the image itself determines, so that the results (the means of a network's logits, of the evidence at each place and of the
    features for novelty) are the same however the camera was turned.

    Args:
        networks: networks with their final weights.
        labels: the classes, in order; the same for all networks.
        novelty_model: fitted to ``features`` of training images; None while it is being fitted.
        weights: weights of the networks in the mean; equal when None.
        view: how the networks see an image.
        decoder: decodes an outline from the first network's maps, see ``training.outline``; the graph draws none when None.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        labels: Sequence[Label],
        novelty_model: novelty.NoveltyModel | None = None,
        weights: Sequence[float] | None = None,
        view: Callable[[Any], orientations.Seen] = orientations.Averaged,
        decoder: Any | None = None,
    ) -> None:
        super().__init__(name="assessor")
        self.members = Members(networks)
        self.parts = self.members.parts  # tracked, so that they are saved
        self.heads = [[network.model.get_layer(name) for name in network.dense] for network in networks]
        self.poolings = tuple(network.pooling for network in networks)
        share = np.ones(len(networks)) if weights is None else np.asarray(weights, np.float64)
        self.share = (share / share.sum()).astype(np.float32)
        self.malignant = np.array([label.malignant for label in labels], np.float32)
        for key, start in ((TEMPERATURE, 1.0), (SHIFT, 0.0)):
            setattr(
                self, key, self.add_weight(shape=(), initializer=keras.initializers.Constant(start), trainable=False, name=key)
            )
        self.view = view
        self.fitted = []
        if novelty_model is not None:
            for key in novelty.NoveltyModel.names():
                value = np.asarray(getattr(novelty_model, key), np.float32)
                weight = self.add_weight(shape=value.shape, initializer="zeros", trainable=False, name=f"novelty_{key}")
                weight.assign(value)
                self.fitted.append(weight)
        self.size = self.members.size
        self.decoder = decoder
        self.built = True  # all parts are built; export refuses a model that was never called

    def features(self, image: Any) -> Any:
        """The features that the novelty model is fitted to, of one view: uint8 ``[N, S, S, 3]`` -> ``[N, D]``."""
        return _pooled(self.members(image)[1])

    def call(self, image: Any) -> dict[str, Any]:
        """uint8 ``[N, S, S, 3]`` -> the outputs of the SavedModel."""
        seen = self.view(image)
        answers, depths = self.members(seen.images)
        temperature, shift = tf.convert_to_tensor(self.temperature), tf.convert_to_tensor(self.malignant_shift)
        each = [seen.mean(answer.logits) for answer in answers]
        logits = self._mean([self._all_classes(own) for own in each])
        probability = tf.nn.softmax(logits / temperature + shift * self.malignant)
        malignancy = self._malignancy(probability)
        where = self._where(seen, answers, each, temperature)
        fitted = [tf.convert_to_tensor(weight) for weight in self.fitted]
        outputs = {
            "probability": probability,
            "malignancy": malignancy,
            "heatmap": where * malignancy[:, None, None],
            "novelty": novelty.score(seen.mean(_pooled(depths)), *fitted),
        }
        if self.decoder is not None:
            drawn = self.decoder(readable(depths, self.size), training=False)
            outputs["outline"] = tf.sigmoid(seen.mean_turned_back(drawn)[..., 0])
        return outputs

    def _all_classes(self, logits: Any) -> Any:
        """Logits ``[N, C]``; a single unit's logit becomes that of the malignant class, with 0 for the other."""
        return logits * self.malignant if logits.shape[-1] == 1 else logits

    def _malignancy(self, probability: Any) -> Any:
        return tf.minimum(tf.reduce_sum(probability * self.malignant, axis=1), 1.0)

    def _mean(self, logits: Sequence[Any]) -> Any:
        """Logits ``[N, C]`` of the members' averaged probabilities; one member's stay as they are."""
        if len(logits) == 1:
            return logits[0]
        mean = sum(share * tf.nn.softmax(each) for share, each in zip(self.share, logits, strict=True))
        return tf.math.log(tf.maximum(mean, FLOOR))

    def _where(self, seen: orientations.Seen, answers: Sequence[Answer], logits: Sequence[Any], temperature: Any) -> Any:
        """Mean of the members' maps, weighted by each member's share and malignancy, scaled to a maximum of 1."""
        parts = []
        for answer, own, head, pooling in zip(answers, logits, self.heads, self.poolings, strict=True):
            layers = [(tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)) for layer in head]
            gradient = seen.repeat(heatmap.class_gradient(own / temperature, self.malignant))
            evidence = heatmap.evidence(answer.maps, heatmap.through_dense(gradient, answer.vector, layers), pooling)
            parts.append(heatmap.shown(seen.mean_turned_back(evidence)))
        if len(parts) == 1:
            return parts[0]
        sure = [self._malignancy(tf.nn.softmax(self._all_classes(own))) for own in logits]
        return heatmap.average(parts, [share * each for share, each in zip(self.share, sure, strict=True)])


def _pooled(maps: Sequence[Any]) -> Any:
    """Mean and standard deviation over the places of each map: ``[N, D]``; neither changes when an image is turned."""
    means = [tf.reduce_mean(each, axis=(1, 2)) for each in maps]
    squares = [tf.reduce_mean((each - mean[:, None, None]) ** 2, axis=(1, 2)) for each, mean in zip(maps, means, strict=True)]
    return tf.concat([*means, *(tf.sqrt(square + 1e-6) for square in squares)], axis=1)


def write(assessor: Assessor, folder: Path) -> None:
    """Writes the SavedModel into ``folder``, which may already hold other files."""
    size = assessor.size
    archive = keras.export.ExportArchive()
    archive.track(assessor)
    archive.add_endpoint(
        "serving_default", assessor.call, input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, "image")]
    )
    # The archive lists all variables a second time and would store each weight twice; the tracked model already holds them.
    for name in ("variables", "trainable_variables", "non_trainable_variables"):
        setattr(archive._tf_trackable, name, [])
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "graph"
        archive.write_out(str(target), verbose=False)
        _put_in_place(target, folder)


def recalibrated(bundle: Path, folder: Path, temperature: float, shift: float) -> None:
    """Writes a copy of a bundle's graph with new calibration into ``folder``.

    Raises:
        AssessorError: the graph lacks the calibration variables.
    """
    loaded = tf.saved_model.load(str(bundle))
    found = {name: _variable(loaded, name) for name in (TEMPERATURE, SHIFT)}
    found[TEMPERATURE].assign(temperature)
    found[SHIFT].assign(shift)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "graph"
        tf.saved_model.save(loaded, str(target), signatures=loaded.signatures["serving_default"])
        _put_in_place(target, folder)


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


def _put_in_place(graph: Path, folder: Path) -> None:
    """Moves the SavedModel in ``graph`` to ``folder`` and writes its OpenVINO form there, so that the two always agree."""
    (folder / "variables").mkdir(exist_ok=True)
    shutil.move(graph / "saved_model.pb", folder / "saved_model.pb")
    for file in (graph / "variables").iterdir():
        shutil.move(file, folder / "variables" / file.name)
    write_openvino_graph(folder)
