"""Training on synthetic lesions: it learns, stops early, and resumes after a kill with the same result."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.fit import train

CONFIG = TrainConfig(arch="custom_cnn", weights="none", size=32, batch=16, epochs=4, seed=3, checkpoint_steps=2)
PROGRAM = """
import sys
from pathlib import Path
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.split import read_split
from aiderm_trainer.training.fit import train
split, data, run, config = sys.argv[1:]
train(TrainConfig.model_validate_json(config), read_split(Path(split)), Path(data), Path(run))
"""


def start(split: Path, data: Path, run: Path) -> subprocess.Popen[bytes]:
    arguments = [str(split), str(data), str(run), CONFIG.model_dump_json()]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def state(run: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with (run / "checkpoint.npz").open("rb") as file, np.load(file) as archive:
        values = {name: archive[name] for name in archive.files if name != "progress"}
        return json.loads(archive["progress"].tobytes()), values


@pytest.mark.ci
def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(CONFIG, read_split(split), data, whole)

    process = start(split, data, broken)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if (broken / "checkpoint.npz").exists() and state(broken)[0]["round"] >= 1:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = state(broken)[0]
    assert len(at["history"]) < CONFIG.epochs, "it ended before it could be killed"
    train(CONFIG, read_split(split), data, broken, resume=True)  # only the run that is killed needs its own process

    (expected, weights), (progress, resumed) = state(whole), state(broken)
    for epoch, same in zip(expected["history"], progress["history"], strict=True):
        assert same == pytest.approx(epoch, abs=1e-5)
    assert all(np.allclose(weights[name], resumed[name], atol=1e-5) for name in weights)


def test_a_run_keeps_what_export_needs_and_its_logs(synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    run = tmp_path / "run"
    rows = read_split(split)
    best = train(CONFIG.model_copy(update={"epochs": 1}), rows, data, run)
    assert best["epoch"] == 1
    assert {"config.json", "labels.json", "best.npz", "history.jsonl", "split.csv"} <= {file.name for file in run.iterdir()}
    assert list((run / "tensorboard").rglob("events*"))
    assert (run / "split.csv").read_bytes() == split.read_bytes()
    with pytest.raises(ConfigError, match="--resume"):
        train(CONFIG, rows, data, run)
    with pytest.raises(ConfigError, match="another configuration"):
        train(CONFIG.model_copy(update={"seed": 4}), rows, data, run, resume=True)


@pytest.mark.ci
def test_it_stops_early_when_validation_gets_no_better(synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    config = CONFIG.model_copy(update={"epochs": 30, "patience": 1, "learning_rate": 1e-9})
    train(config, read_split(split), data, tmp_path / "run")
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) < 30


def test_a_split_without_validation_rows_is_refused(tmp_path: Path) -> None:
    rows = [Row("0" * 64, "a.png", "s", "g", "train", "", True)]
    with pytest.raises(ConfigError, match="no validation rows"):
        train(CONFIG, rows, tmp_path, tmp_path / "run")
