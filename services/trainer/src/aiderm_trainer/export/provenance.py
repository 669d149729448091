"""Describes the provenance of a bundle: settings, seed, revision of the code and duration."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Training
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.export.runs import TrainedRun
from aiderm_trainer.training import run_folder


def describe_training(members: Sequence[TrainedRun], share: NDArray[np.float32]) -> Training:
    """Describes how the members were trained and, if there are several, the share of each in the mean.

    Args:
        members: at least one.
        share: float32 ``[M]``, sums to 1.
    """
    settings = [_settings(member.config) for member in members]
    config: dict[str, Any] = settings[0]
    if len(members) > 1:
        config = {
            "combination": "weighted mean of the members' probabilities",
            "members": [{"weight": round(float(w), 6), **each} for w, each in zip(share, settings, strict=True)],
        }
    spent = [run_folder.read_seconds(member.folder) for member in members]
    return Training(
        config={**config, "keras": keras.__version__},
        seed=members[0].config.seed,
        revision=_revision(),
        seconds=None if None in spent else sum(filter(None, spent)),
    )


def _settings(config: TrainConfig) -> dict[str, Any]:
    """A run's settings without the folders of the machine that it ran on, which are private."""
    settings = config.model_dump(mode="json")
    for key in ("weights", "outlines"):
        if settings.get(key):
            settings[key] = Path(settings[key]).name
    if settings.get("start"):
        settings["start"] = _named(settings["start"])
    settings["teachers"] = [_named(run) for run in config.teachers]
    return settings


def _named(network: str) -> str:
    """The name of a run, or name and version of a bundle, such as melanoma/3."""
    path = Path(network)
    return "/".join(path.parts[-2:]) if path.name.isdecimal() else path.name


def _revision() -> str:
    """The git commit of this code, or "unknown" in an image without git."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
