"""What the study's processes call. TensorFlow is imported here first, in them: the process that hands trials out has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.record import Trial, TrialResult


def run(
    trial: Trial, rows: Sequence[Row], root: Path, folder: Path, features: Path | None = None, keep_weights: bool = False
) -> TrialResult:
    """See ``trial.run_trial``."""
    from aiderm_trainer.study.trial import run_trial

    return run_trial(trial, rows, root, folder, features, keep_weights)


def features(config: TrainConfig, rows: Sequence[Row], root: Path, path: Path, threads: int) -> None:
    """See ``features.compute_features``."""
    from aiderm_trainer.study.features import compute_features

    compute_features(config, rows, root, path, threads)
