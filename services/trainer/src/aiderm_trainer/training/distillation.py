"""Predicts the training images with an ensemble of finished runs, whose probabilities one small network learns.

The method is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. The teachers see each image
as it is, and the student sees it rotated, blurred and with artefacts, so it also learns that those change nothing. If only benign
or malignant is known of an image, the teachers' classes fill the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.special import softmax

from aiderm_core.bundle.manifest import Label
from aiderm_core.files import write_arrays
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.architectures.trunk import Inference, inference
from aiderm_trainer.config import CONFIG_FILE, TrainConfig
from aiderm_trainer.data.batches import Images
from aiderm_trainer.training import run_folder
from aiderm_trainer.training.objective import full_logits
from aiderm_trainer.training.starting_weights import take_over

TAUGHT = "taught.npz"
Turns = Sequence[tuple[int, bool]]  # orientations: quarter turns, and whether the image is mirrored before


def taught(
    config: TrainConfig,
    labels: Sequence[Label],
    run: Path,
    images: Images,
    possible: NDArray[np.float32],
    *,
    base: Path = Path(),
    turns: Turns = ((0, False),),
    trust: float = 0.9,
) -> NDArray[np.float32]:
    """The teachers' probabilities for the training images, computed once per run: see ``teach``.

    Args:
        config: of the student. A teacher that is a bundle, or a run without a configuration, has the student's architecture.
        labels: the classes, which the teachers must share.
        run: the student's folder.
        images: the training images, unaugmented.
        possible: see ``teach``.
        base: folder that the teachers' paths are relative to.
        turns: see ``teach``.
        trust: see ``teach``.

    Raises:
        ConfigError: a teacher cannot be read, or has other classes.
    """
    file = run / TAUGHT
    if not file.exists():
        networks = [_teacher(base / teacher, config, labels) for teacher in config.teachers]
        write_arrays(file, {"taught": teach(networks, images, possible, turns=turns, trust=trust)})
    with np.load(file) as arrays:
        return np.asarray(arrays["taught"], np.float32)


def _teacher(path: Path, config: TrainConfig, labels: Sequence[Label]) -> Network:
    if (path / CONFIG_FILE).exists() or not path.exists():
        run_folder.check_labels(path, labels)
        return run_folder.load_run(path)[2]
    network = build(config, len(labels))
    take_over(path, network)
    return network


def teach(
    networks: Sequence[Network],
    images: Images,
    possible: NDArray[np.float32],
    batch: int = 32,
    turns: Turns = ((0, False),),
    trust: float = 0.9,
) -> NDArray[np.float32]:
    """The mean class probabilities of several networks, weighted towards the classes that the labels allow.

    Args:
        networks: uint8 ``[N, S, S, 3]`` -> logits; each sees the images at its own size.
        images: the training images, unaugmented.
        possible: float32 ``[N, C]``, 1 where a row may belong to a class.
        batch: images per call.
        trust: how far labels overrule the teachers; 0: not at all, 1: completely.
        turns: orientations that are averaged.

    Returns:
        float32 ``[N, C]``, rows sum to 1.
    """
    total = np.zeros(possible.shape, np.float64)
    for network in networks:
        run, seen = inference(network.model), images.at(network.size)
        steps = -(-len(images) // batch)

        def answer(pixels: NDArray[np.uint8], run: Inference = run) -> NDArray[np.float64]:
            turned = [np.rot90(pixels[:, :, ::-1] if mirrored else pixels, quarter, (1, 2)) for quarter, mirrored in turns]
            return np.mean([full_logits(run(np.ascontiguousarray(view))) for view in turned], axis=0, dtype=np.float64)

        logits = np.concatenate([answer(pixels) for pixels in track(seen.batches(batch), "teacher", total=steps)])
        total += softmax(logits, axis=1)
    # By default, a tenth of the probability outside the labels is kept, so that a hard case still looks like one.
    allowed = total * (trust * possible + (1 - trust))
    return np.asarray(allowed / allowed.sum(axis=1, keepdims=True), np.float32)
