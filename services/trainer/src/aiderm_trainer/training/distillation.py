"""What an ensemble of finished runs says of the training images, for one small network to learn (Hinton, Vinyals, Dean:
"Distilling the Knowledge in a Neural Network", 2015).

The teachers see each image as it is and the student sees it turned, blurred and with artefacts, so it also learns that
those change nothing. Where only benign or malignant is known, the teachers' classes fill the gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.special import softmax

from aiderm_trainer.architectures.network import Network
from aiderm_trainer.architectures.trunk import Inference, inference
from aiderm_trainer.data.batches import Images
from aiderm_trainer.training.objective import full_logits


def teach(
    networks: Sequence[Network],
    images: Images,
    possible: NDArray[np.float32],
    batch: int = 32,
    turns: Sequence[tuple[int, bool]] = ((0, False),),
    trust: float = 0.9,
) -> NDArray[np.float32]:
    """Mean class probabilities of several networks, inside what the labels allow.

    Args:
        networks: uint8 ``[N, S, S, 3]`` -> logits; each sees the images at its own size.
        images: the training images, unaugmented.
        possible: float32 ``[N, C]``, 1 where a row may belong to a class: a teacher never overrules a label.
        batch: images a call.
        trust: how far labels overrule the teachers; 0: not at all.
        turns: orientations that are averaged: quarter turns, and whether the image is mirrored before.

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
    # By default a tenth is left outside the labels, so that a hard case stays one.
    allowed = total * (trust * possible + (1 - trust))
    return np.asarray(allowed / allowed.sum(axis=1, keepdims=True), np.float32)
