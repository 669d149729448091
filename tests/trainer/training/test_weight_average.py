"""Averages the weights of a fine-tuned run and its start."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.synthetic import dataset
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.weight_average import average_weights

LABELS = [Label(id="benign", name="b", malignant=False), Label(id="malignant", name="m", malignant=True)]
CONFIG = TrainConfig(arch="custom_cnn", weights="none", size=32)


def write_run(folder: Path, data: Path, seed: int) -> list[np.ndarray]:
    keras.utils.set_random_seed(seed)
    network = build(CONFIG, len(LABELS))
    run_folder.write_inputs(folder, CONFIG, read_split(data / "split.csv"), data, LABELS)
    run_folder.write_history(folder, [], 60)
    checkpoint.save(folder / run_folder.BEST, network.model.variables, {})
    return [keras.ops.convert_to_numpy(variable).copy() for variable in network.model.variables]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesions")
    dataset(folder, 40, seed=4, size=112)
    prepare(folder, folder / "split.csv", near_duplicates=False, progress=False)
    return folder


def test_each_weight_lies_between_those_of_both_runs(data: Path, tmp_path: Path) -> None:
    start, tuned = (write_run(tmp_path / name, data, seed) for seed, name in enumerate(("start", "tuned")))
    found = average_weights(tmp_path / "tuned", tmp_path / "start", 0.75, tmp_path / "out")
    assert {"val_auc", "flips_hair"} <= set(found)
    config, labels, network = run_folder.load_run(tmp_path / "out")
    assert (config.kept, list(labels)) == (0.75, LABELS)
    assert run_folder.read_seconds(tmp_path / "out") == 60
    for one, other, between in zip(start, tuned, network.model.variables, strict=True):
        assert np.allclose(between, 0.75 * one + 0.25 * other, atol=1e-6)
    with pytest.raises(ConfigError, match="holds a run already"):
        average_weights(tmp_path / "tuned", tmp_path / "start", 0.5, tmp_path / "out")
