"""Loads the finished runs that a bundle is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import Network
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.split import read_split
from aiderm_trainer.training.run_folder import SPLIT, load_run


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its folder and contents."""

    folder: Path
    config: TrainConfig
    labels: tuple[Label, ...]
    network: Network

    @classmethod
    def load(cls, folder: Path) -> TrainedRun:
        """Reads a run with its best epoch's weights.

        Raises:
            ConfigError: the folder holds no run, or one that has not finished an epoch.
        """
        return cls(folder, *load_run(folder))


def load_members(runs: Sequence[Path], weights: Sequence[float] | None = None) -> list[TrainedRun]:
    """Reads the runs that one graph averages.

    Args:
        runs: folders of ``train``, at least one.
        weights: weights of the runs in the mean, above 0; equal when None.

    Raises:
        ConfigError: no run, an unfinished one, labels or splits that differ, or weights that do not fit.
    """
    if not runs:
        raise ConfigError("a bundle needs at least one run. Received: none")
    if weights is not None and (len(weights) != len(runs) or not all(np.isfinite(w) and w > 0 for w in weights)):
        raise ConfigError(f"each of the {len(runs)} runs needs a weight above 0. Received: {list(weights)}")
    members = [TrainedRun.load(run) for run in runs]
    _check_fit(members)
    return members


def _check_fit(members: Sequence[TrainedRun]) -> None:
    """Refuses members with different labels or splits, so that none was trained on rows that another is tested on."""
    first = members[0]
    split = set(read_split(first.folder / SPLIT))
    for other in members[1:]:
        pair = f"{first.folder} and {other.folder}"
        if other.labels != first.labels:
            said = " and ".join(", ".join(label.id for label in member.labels) for member in (first, other))
            raise ConfigError(f"{pair} have other labels: {said}")
        differing = split ^ set(read_split(other.folder / SPLIT))
        if differing:
            raise ConfigError(f"{pair} were trained on other splits: {len(differing)} rows stand in one of them only")
