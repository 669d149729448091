"""Trains the outline decoder of a finished run: its network stays as it is, so that no other output changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.architectures import Network
from aiderm_trainer.architectures.outline_decoder import STRIDE, build_decoder, readable
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.data.augment import Augmentation, alter, warp
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.lesion_swaps import Outlines
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.outline_agreement import drawn, overlap
from aiderm_trainer.export.members import depths
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.run_folder import OUTLINE, load_run

_BACKUP: Final = "outline_backup"  # state from which an interrupted training is resumed
RATE: Final = 2e-3
# Fewer artefacts than for the classifier: hidden edges teach the decoder to guess, and these guesses cannot be checked.
HOW: Final = Augmentation(shift=0.12, zoom=1.35, artefacts=0.05, border=0.15)


def map_model(network: Network) -> Any:
    """The network's layers up to the maps that the decoder reads: uint8 ``[N, S, S, 3]`` -> list of maps, fine to coarse."""
    outputs = [network.model.get_layer(name).output for name in depths(network)]
    return keras.Model(network.model.input, readable(outputs, network.size))


def decoder_of(network: Network) -> Any:
    """Builds an untrained decoder that fits a network."""
    return build_decoder([tuple(output.shape[1:]) for output in map_model(network).outputs])


def load_decoder(run: Path, network: Network) -> Any | None:
    """The trained decoder of a run; None if none was trained."""
    if not (run / OUTLINE).exists():
        return None
    decoder = decoder_of(network)
    checkpoint.restore(run / OUTLINE, decoder.variables)
    return decoder


def train_outline(
    run: Path, rows: Sequence[Row], root: Path, masks: Path, *, epochs: int, batch: int = 32, seed: int = 0
) -> dict[str, float]:
    """Trains the decoder on the outlined train rows and measures it on the outlined validation rows.

    The loss is the mean of the cross-entropy and of one minus the soft Dice coefficient (Milletari et al., "V-Net", 3DV 2016).
    An interrupted training is resumed after the last full epoch.

    Args:
        run: a finished run of ``train``; ``outline.npz`` is written into it.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        masks: folder of outlines, see ``Outlines``.
        epochs: passes over the outlined train rows.
        batch: images per step.
        seed: of the random numbers.

    Returns:
        mean Dice and Jaccard coefficients over the validation images, each from one view: dice, jaccard.

    Raises:
        ConfigError: there is no run, or no train row or no validation row has an outline.
    """
    _, _, network = load_run(run)
    keras.utils.set_random_seed(seed)
    trunk, decoder = Trunk(map_model(network)), decoder_of(network)
    train, validation = (
        _OutlineBatches([row for row in rows if row.split == split], root, masks, network.size, trunk, batch, seed, augmented)
        for split, augmented in (("train", True), ("validation", False))
    )
    steps = epochs * len(train)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(RATE, steps),
        weight_decay=1e-4,
        use_ema=True,
        ema_momentum=max(0.0, min(0.995, 1 - 5 / steps)),
        global_clipnorm=1.0,
    )
    decoder.compile(optimizer, loss=_loss, metrics=[_soft_dice])
    resume = keras.callbacks.BackupAndRestore(run / _BACKUP, delete_checkpoint=True)
    decoder.fit(train, epochs=epochs, callbacks=[resume, _Epoch(train)], verbose=2)
    optimizer.finalize_variable_values(decoder.trainable_variables)
    found = measure(decoder, validation)
    checkpoint.save(run / OUTLINE, decoder.variables, found)
    return found


def measure(decoder: Any, batches: _OutlineBatches) -> dict[str, float]:
    """Mean coefficients over the images of ``batches``, at the outlines' own size."""
    pairs = []
    for step in range(len(batches)):
        logits = np.asarray(decoder.predict_on_batch(batches[step][0]))[..., 0]
        for logit, mask in zip(logits, batches.masks(step), strict=True):
            pairs.append(overlap(drawn(1 / (1 + np.exp(-logit)), len(mask)), mask > 0))
    dice, jaccard = np.mean(pairs, axis=0)
    return {"dice": float(dice), "jaccard": float(jaccard)}


class _Epoch(keras.callbacks.Callback):
    """Tells the batches the current epoch, so that each epoch has its own views, even in a resumed training."""

    def __init__(self, batches: _OutlineBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


class _OutlineBatches(keras.utils.PyDataset):
    """Batches of the network's maps, and of the share of lesion in each pixel of the outline."""

    def __init__(
        self, rows: list[Row], root: Path, masks: Path, size: int, trunk: Trunk, batch: int, seed: int, augmented: bool
    ) -> None:
        super().__init__(workers=2, max_queue_size=4)
        self.outlines = Outlines(rows, masks, size)
        self.images = Images(rows, root, size)
        self.trunk, self.batch, self.seed, self.augmented = trunk, batch, seed, augmented
        self.epoch = 0

    def __len__(self) -> int:
        count = len(self.outlines.rows)
        return max(1, count // self.batch) if self.augmented else -(-count // self.batch)

    def _indices(self, step: int) -> NDArray[np.int64]:
        rows = self.outlines.rows
        if self.augmented:
            rows = np.random.default_rng([self.seed, self.epoch]).permutation(rows)
        return rows[step * self.batch : (step + 1) * self.batch]

    def masks(self, step: int) -> list[NDArray[np.uint8]]:
        """The outlines of a step, not augmented, at the size of the network's input."""
        return [self.outlines[int(i)] for i in self._indices(step)]

    def __getitem__(self, step: int) -> tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]:
        rng = np.random.default_rng([self.seed, self.epoch, step])
        images, targets = [], []
        for index in self._indices(step):
            image, mask = self.images[int(index)], self.outlines[int(index)]
            if self.augmented:
                both = warp(np.dstack([image, mask]), rng, HOW)
                image, mask = alter(np.ascontiguousarray(both[..., :3]), rng, HOW), both[..., 3]
            images.append(image)
            side = len(mask) // STRIDE
            targets.append(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)
        maps = self.trunk.maps(np.stack(images))
        return tuple(maps), np.stack(targets)[..., None]


def _soft_dice(target: Any, logits: Any) -> Any:
    probability = keras.ops.sigmoid(logits)
    both = keras.ops.sum(probability * target, axis=(1, 2, 3))
    return (2 * both + 1) / (keras.ops.sum(probability + target, axis=(1, 2, 3)) + 1)


def _loss(target: Any, logits: Any) -> Any:
    entropy = keras.ops.mean(keras.ops.binary_crossentropy(target, logits, from_logits=True), axis=(1, 2, 3))
    return 0.5 * entropy + 0.5 * (1 - _soft_dice(target, logits))
