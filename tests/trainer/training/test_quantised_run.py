"""The quantise-run command writes a run whose export includes an int8 variant with the threshold of f32."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aiderm_core.bundle.manifest import MAX_FLIPPED
from aiderm_core.bundle.store import verify
from aiderm_core.runtime import load_runtime
from aiderm_core.runtime.processor import has_integer_units
from aiderm_trainer.cli import app
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.split import read_split
from aiderm_trainer.training.fit import train
from aiderm_trainer.training.quantised_run import quantise_run
from aiderm_trainer.training.run_folder import load_run

CONFIG = TrainConfig(arch="custom_cnn", weights="none", size=32, batch=8, epochs=1, dense=(8,), learning_rate=1e-3)


@pytest.fixture(scope="module")
def start(synthetic_split: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    split, data = synthetic_split
    run = tmp_path_factory.mktemp("start") / "run"
    train(CONFIG, read_split(split), data, run)
    return run


@pytest.mark.ci
def test_the_run_is_exported_and_offered_in_int8(start: Path, synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    found = quantise_run(CONFIG.model_copy(update={"start": str(start)}), read_split(split), data, tmp_path / "int8")
    assert found["val_auc"] == pytest.approx(found["start_val_auc"], abs=0.1)
    config, _, network = load_run(tmp_path / "int8")
    assert config.quantised
    assert any(layer.name.endswith("_rounded") for layer in network.model.layers)

    models = tmp_path / "models"
    command = [
        "export",
        str(tmp_path / "int8"),
        "--name",
        "small",
        "--version",
        "1",
        "--models",
        str(models),
        "--data",
        str(data),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    manifest = verify(models / "small" / "1")
    assert manifest.golden.tolerance == 1e-3, "rounding needs no wider one"
    if has_integer_units():  # older processors saturate, so the variant may be left out
        variant = manifest.variant("openvino", "int8")
        assert (variant.path, variant.decision) == (".", None)
        assert variant.flipped <= MAX_FLIPPED
    bundle = models / "small" / "1"
    assert load_runtime("openvino", bundle, precision="int8").precision == "int8"
    images = np.random.default_rng(0).integers(0, 256, (8, network.size, network.size, 3), np.uint8)
    openvino, tensorflow = (load_runtime(engine, bundle).run(images) for engine in ("openvino", "tensorflow"))
    assert np.allclose(openvino.malignancy, tensorflow.malignancy, atol=1e-4), "openvino.xml holds another network"


def test_what_cannot_be_quantised_says_why(start: Path, synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    rows = read_split(split)
    with pytest.raises(ConfigError, match="no start"):
        quantise_run(CONFIG, rows, data, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a run already"):
        quantise_run(CONFIG.model_copy(update={"start": str(start)}), rows, data, start)
