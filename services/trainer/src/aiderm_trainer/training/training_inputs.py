"""Prepares what a training reads: rows, classes, and batches of augmented images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Blinding, Images, TrainingBatches
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.lesion_swaps import Outlines
from aiderm_trainer.data.table import Row

# Training images and their possible classes, float32 [N, C] -> their teachers' probabilities, float32 [N, C].
Teaching = Callable[[Images, NDArray[np.float32]], NDArray[np.float32]]


class Parts(NamedTuple):
    """The rows that a training reads, and their classes."""

    train: list[Row]
    validation: list[Row]
    labels: tuple[Label, ...]


def parts_of(config: TrainConfig, rows: Sequence[Row]) -> Parts:
    """The train and validation rows of a split, and their classes.

    Raises:
        ConfigError: the split has no train rows or no validation rows.
    """
    found = {name: [row for row in rows if row.split == name] for name in ("train", "validation")}
    for name, part in found.items():
        if not part:
            raise ConfigError(f"the split holds no {name} rows. Received {len(rows)} rows")
    return Parts(found["train"], found["validation"], tuple(choose_labels(found["train"], config.task)))


def training_batches(
    config: TrainConfig, parts: Parts, root: Path, size: int, how: Augmentation, teaching: Teaching | None = None
) -> TrainingBatches:
    """Batches of the train rows, as a configuration describes them.

    Args:
        config: ``batch``, ``seed``, ``augment``, ``outlines``, ``balance``, ``domain_offset``, ``hidden_offset`` and
            ``style_swap`` are read.
        parts: see ``Parts``.
        root: folder that the rows' paths are relative to.
        size: side of the input in pixels.
        how: augmentation, unless ``config.augment`` is False.
        teaching: computes the teachers' probabilities; None: there are no teachers.
    """
    images, possible = Images(parts.train, root, size), possible_classes(parts.train, parts.labels)
    return TrainingBatches(
        images,
        possible,
        min(config.batch, len(parts.train)),
        config.seed,
        how if config.augment else None,
        Outlines(parts.train, root / config.outlines, size) if config.outlines else None,
        teaching(images, possible) if teaching else None,
        Blinding(config.balance, config.domain_offset, config.hidden_offset, config.style_swap),
    )
