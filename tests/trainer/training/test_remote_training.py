"""Packs a training for another machine and runs it in processes that have neither TensorFlow nor OpenVINO."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import build
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.split import read_split, write_split
from aiderm_trainer.data.synthetic import dataset
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.run_folder import load_run

pytestmark = pytest.mark.soak

SCRIPT = Path(__file__).parents[3] / "services/trainer/remote_training.py"
# Hides packages that the other machine does not have.
RUN = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "openvino"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a small network's packed parts; the weights are random."""
    folder = tmp_path_factory.mktemp("remote_training")
    dataset(folder / "data", 40, seed=3, size=112)
    prepare(folder / "data", folder / "split.csv", near_duplicates=False, progress=False)
    rows = [replace(row, domain="ab"[i % 2]) for i, row in enumerate(read_split(folder / "split.csv"))]
    write_split(folder / "split.csv", rows)
    network = build(TrainConfig(arch="custom_cnn", weights="none", size=32), 2)
    (folder / "start").mkdir()
    checkpoint.save(folder / "start" / "best.npz", network.model.variables, {})
    call(
        sys.executable, SCRIPT, "pack", "--split", folder / "split.csv", "--data", folder / "data", "--start", folder / "start",
        "--arch", "custom_cnn", "--size", "32", "--out", folder / "parts",
    )  # fmt: skip
    return folder


def call(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=os.environ | environment, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_parts_are_small_and_hold_no_test_rows(packed: Path) -> None:
    parts = sorted((packed / "parts").glob("part-*"))
    assert parts
    assert all(part.stat().st_size <= 60 << 20 for part in parts)
    held = b"".join(part.read_bytes() for part in parts)
    rows = read_split(packed / "split.csv")
    assert any(row.split == "test" for row in rows)
    assert not any(row.path.encode() in held for row in rows if row.split == "test")


def test_archives_are_cut_into_parts_and_joined_again(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("remote_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.PART = 10
    data = bytes(range(256))
    with script._Parts(tmp_path) as parts:
        for start in range(0, 256, 37):
            parts.write(data[start : start + 37])
    files = sorted(tmp_path.glob("part-*"))
    assert [file.stat().st_size for file in files] == [10] * 25 + [6]
    with script._Joined(files) as joined:
        assert joined.read(100) + joined.read() == data


def test_weights_trained_elsewhere_load_here(packed: Path) -> None:
    pytest.importorskip("jax")
    training = [
        sys.executable, "-c", RUN, packed / "parts" / "remote_training.py", "train", "--parts", packed / "parts", "--work",
        packed / "work", "--minutes", "60", "--batch", "8", "--checkpoint-steps", "1", "--epochs", "1",
    ]  # fmt: skip
    call(*training, KERAS_BACKEND="jax")
    history = (packed / "work" / "run" / "history.jsonl").read_text().splitlines()
    assert len(history) >= 2  # the start, and at least one round
    _, labels, network = load_run(packed / "work" / "run")
    assert keras.backend.backend() == "tensorflow"
    assert len(labels) == 2
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    assert np.isfinite(network.model(image).numpy()).all()
    # A second call finds that the training is finished and starts nothing.
    assert json.loads(call(*training, KERAS_BACKEND="jax").splitlines()[-1])
    assert (packed / "work" / "run" / "history.jsonl").read_text().splitlines() == history
