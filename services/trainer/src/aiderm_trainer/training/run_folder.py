"""Reads and writes the folder of a training run: the names of its files, and the files that all kinds of run share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiderm_core.bundle.manifest import Label
from aiderm_core.files import write_text
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.config import CONFIG_FILE, ConfigError, TrainConfig
from aiderm_trainer.data.split import read_split, write_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint

CHECKPOINT: Final = "checkpoint.npz"  # state from which an interrupted run is resumed
BEST: Final = "best.npz"  # weights of the best epoch
PRETRAINED: Final = "pretrained.npz"  # weights that novelty is assessed with
OUTLINE: Final = "outline.npz"  # weights of the outline decoder
HISTORY: Final = "history.jsonl"  # metrics of each epoch
SECONDS: Final = "seconds"
SPLIT: Final = "split.csv"
_LABELS: Final = "labels.json"
_DATA_ROOT: Final = "data_root"


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
    """Writes the metrics of the epochs so far and the time that they took."""
    write_text(run / HISTORY, "".join(json.dumps(entry) + "\n" for entry in history))
    write_text(run / SECONDS, f"{seconds:.0f}\n")


def read_seconds(run: Path) -> float | None:
    """The time that the training of a run took; None if it was not recorded."""
    file = run / SECONDS
    return float(file.read_text()) if file.exists() else None


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


def check_same(run: Path, config: TrainConfig, rows: Sequence[Row]) -> None:
    """Checks that a run to be resumed was made with this configuration and split.

    The time limit may differ, so that a run can be given more time.

    Raises:
        ConfigError: it was not.
    """
    if (run / CONFIG_FILE).exists() and TrainConfig.load(run).model_copy(update={"minutes": config.minutes}) != config:
        raise ConfigError(f"{run} was trained with another configuration. Give the same one, or choose another --out")
    if (run / SPLIT).exists() and read_split(run / SPLIT) != sorted(rows, key=lambda row: row.path):
        raise ConfigError(f"{run} was trained on another split. Give the same one, or choose another --out")


def check_labels(run: Path, labels: Sequence[Label]) -> None:
    """Checks that a run has these classes.

    Raises:
        ConfigError: it has others, or the folder holds no run.
    """
    known = read_labels(run)
    if known != tuple(labels):
        raise ConfigError(f"{run} has other classes: {[k.id for k in known]}, not {[label.id for label in labels]}")


def write_pretrained(run: Path, network: Network) -> None:
    """Saves the pretrained layers that novelty is assessed with; training does not change them."""
    if network.novelty is not None:
        checkpoint.save(run / PRETRAINED, network.novelty.variables, {})


def load_run(run: Path) -> tuple[TrainConfig, tuple[Label, ...], Network]:
    """Loads the configuration, the classes and the network of a run, with its best epoch's weights.

    Raises:
        ConfigError: the folder holds no run, or one that has not finished an epoch.
    """
    config, labels = TrainConfig.load(run), read_labels(run)
    network = build(config, len(labels), load=False)
    if network.novelty is not None:
        checkpoint.restore(run / PRETRAINED, network.novelty.variables)
    checkpoint.restore(run / BEST, network.model.variables)
    return config, labels, network
