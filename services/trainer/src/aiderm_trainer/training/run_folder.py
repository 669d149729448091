"""The folder of a training run: the names of its files, and what every kind of run writes and reads alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_core.files import write_text
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Blinding, Images, TrainingBatches
from aiderm_trainer.data.lesion_swaps import Outlines
from aiderm_trainer.data.split import write_split
from aiderm_trainer.data.table import Row

CHECKPOINT: Final = "checkpoint.npz"  # where an interrupted run is resumed
BEST: Final = "best.npz"  # weights of the best epoch
PRETRAINED: Final = "pretrained.npz"  # weights that novelty is measured with
HISTORY: Final = "history.jsonl"  # figures of each epoch
SECONDS: Final = "seconds"
SPLIT: Final = "split.csv"
_LABELS: Final = "labels.json"
_DATA_ROOT: Final = "data_root"


def sides(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to choose the epoch with.

    Raises:
        ConfigError: one of the two is empty.
    """
    parts = {name: [row for row in rows if row.split == name] for name in ("train", "validation")}
    for name, part in parts.items():
        if not part:
            raise ConfigError(f"the split holds no {name} rows. Received {len(rows)} rows")
    return parts["train"], parts["validation"]


def write_inputs(run: Path, config: TrainConfig, rows: Sequence[Row], root: Path, labels: Sequence[Label]) -> None:
    """Writes what the run is made from: its configuration, split, data folder and classes.

    Args:
        run: folder of the run.
        config: its configuration.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        labels: the classes, in the order of the network's outputs.
    """
    run.mkdir(parents=True, exist_ok=True)
    config.save(run)
    write_split(run / SPLIT, rows)
    write_text(run / _DATA_ROOT, f"{root.resolve()}\n")
    write_text(run / _LABELS, json.dumps([label.model_dump() for label in labels], indent=2) + "\n")


def write_history(run: Path, history: Sequence[dict[str, Any]], seconds: float) -> None:
    """Writes the figures of the epochs so far and the time that they took."""
    write_text(run / HISTORY, "".join(json.dumps(entry) + "\n" for entry in history))
    write_text(run / SECONDS, f"{seconds:.0f}\n")


def read_labels(run: Path) -> tuple[Label, ...]:
    """The classes of a run, in the order of its network's outputs.

    Raises:
        ConfigError: the folder holds no run.
    """
    try:
        return tuple(Label(**label) for label in json.loads((run / _LABELS).read_text()))
    except OSError as error:
        raise ConfigError(f"{run} holds no run of aiderm-train: cannot read {_LABELS}: {error.strerror}") from error


def read_data_root(run: Path) -> Path:
    """The folder of the images that a run was trained on.

    Raises:
        ConfigError: the folder holds no run.
    """
    try:
        return Path((run / _DATA_ROOT).read_text().strip())
    except OSError as error:
        raise ConfigError(f"{run} holds no run of aiderm-train: cannot read {_DATA_ROOT}: {error.strerror}") from error


def training_batches(
    config: TrainConfig,
    images: Images,
    possible: NDArray[np.float32],
    how: Augmentation | None,
    taught: NDArray[np.float32] | None = None,
) -> TrainingBatches:
    """The batches that a configuration asks for.

    Args:
        config: batch, seed, outlines and how the camera is hidden.
        images: of the training rows.
        possible: float32 ``[N, C]``, see ``labels.possible_classes``.
        how: augmentation; None leaves the images as they are.
        taught: float32 ``[N, C]``, teachers' probabilities.
    """
    outlines = Outlines(images.rows, images.root / config.outlines, images.size) if config.outlines else None
    blinding = Blinding(config.balance, config.domain_offset, config.hidden_offset, config.style_swap)
    return TrainingBatches(images, possible, min(config.batch, len(images)), config.seed, how, outlines, taught, blinding)
