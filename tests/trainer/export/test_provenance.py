"""A bundle describes its training well enough to repeat it, reveals nothing of the machine, and invents no figures."""

from pathlib import Path

import numpy as np
import pytest

from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.labels import BINARY
from aiderm_trainer.export.provenance import describe_training
from aiderm_trainer.export.runs import TrainedRun


def run(folder: Path, seconds: str | None = None, **settings: str) -> TrainedRun:
    folder.mkdir()
    if seconds is not None:
        (folder / "seconds").write_text(seconds)
    config = TrainConfig(arch="custom_cnn", weights="none", seed=4, **settings)
    return TrainedRun(folder, config, BINARY, network=None)  # type: ignore[arg-type]


def shares(count: int) -> np.ndarray:
    return np.full(count, 1 / count, np.float32)


@pytest.mark.parametrize(
    ("start", "told"),
    [("/elsewhere/models/melanoma/3", "melanoma/3"), ("/elsewhere/runs/first", "first"), ("melanoma/3", "melanoma/3")],
)
def test_the_start_is_told_without_the_machines_folders(tmp_path: Path, start: str, told: str) -> None:
    assert describe_training([run(tmp_path / "run", start=start)], shares(1)).config["start"] == told


def test_the_time_is_the_sum_and_unknown_where_one_is(tmp_path: Path) -> None:
    one, two, unknown = run(tmp_path / "one", "20"), run(tmp_path / "two", "30"), run(tmp_path / "unknown")
    assert describe_training([one, two], shares(2)).seconds == 50
    assert describe_training([one, unknown], shares(2)).seconds is None
