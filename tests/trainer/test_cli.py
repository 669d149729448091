"""The README's workflow: prepare, train, export, evaluate, recalibrate, promote, and a prediction served over HTTP."""

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from aiderm_api.app import create_app
from aiderm_api.settings import Settings
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, verify
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.runtime import load_runtime
from aiderm_trainer.architectures import NAMES
from aiderm_trainer.cli import app
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.export.saved_model import calibration_of

# Small and as short as possible: these tests check the workflow, not the numbers.
QUICK = ["--epochs", "1", "--head-epochs", "1", "--batch", "16"]
SIZES = {"custom_cnn": "48", "mobilenet_v2": "64", "resnet50_v2": "64", "efficientnet_v2_b0": "64"}
LARGER = "96"  # Inception needs at least 75


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def make(arch: str, split: Path, data: Path, root: Path, *more: str) -> Path:
    """Runs the commands to train, export and promote; returns the folder of models."""
    where = ["--data", data, "--out", root / "runs" / arch, "--size", SIZES.get(arch, LARGER)]
    run("train", "--split", split, "--arch", arch, "--weights", "none", *where, *QUICK, *more)
    name = arch.replace("_", "-")
    run("export", root / "runs" / arch, "--name", name, "--version", "1", "--models", root / "models")
    run("promote", name, "1", "--models", root / "models")
    return root / "models"


@pytest.fixture(scope="module")
def models(synthetic_split: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one trained bundle: custom-cnn 1."""
    return make("custom_cnn", *synthetic_split, tmp_path_factory.mktemp("trained"))


def check(bundle: Path) -> None:
    """Asserts that both engines, the golden inputs and the manifest agree, and that no weight is stored twice."""
    manifest = verify(bundle)
    assert "roc_auc" in manifest.metrics["test"]
    with_tf, with_openvino = load_runtime("tensorflow", bundle), load_runtime("openvino", bundle)
    cases = manifest.golden.cases
    inputs = np.stack(
        [to_model_input(decode_image((bundle / case.path).read_bytes()).pixels, manifest.input.size) for case in cases]
    )
    first, second = with_tf.run(inputs), with_openvino.run(inputs)
    for name in ("probability", "malignancy", "heatmap"):
        assert np.allclose(getattr(first, name), getattr(second, name), atol=1e-3), name
        assert np.isfinite(getattr(first, name)).all()
    assert np.allclose(first.novelty, second.novelty, rtol=1e-3, atol=1e-3)
    assert first.probability.sum(axis=1) == pytest.approx(np.ones(len(inputs)), abs=1e-5)
    assert (first.heatmap.max(axis=(1, 2)) <= first.malignancy + 1e-5).all()
    assert np.allclose(first.malignancy, [case.malignancy for case in cases], atol=1e-3)
    assert np.allclose(first.probability, [case.probability for case in cases], atol=1e-3)
    graph = sum(file.stat().st_size for file in (bundle / "variables").iterdir())
    assert graph < 1.05 * _parameters(bundle) + 50_000, "weights are stored twice"


def test_training_ends_in_a_bundle_that_keeps_the_contract_and_is_served(models: Path) -> None:
    check(models / "custom-cnn" / "1")
    serve(models, "custom-cnn")


@pytest.mark.soak
@pytest.mark.parametrize("arch", [name for name in NAMES if name != "custom_cnn"])
def test_so_does_every_other_architecture(arch: str, synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    # In a process of its own: TensorFlow does not free the memory of a network, and all of them together take some 20 GB.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(train_and_serve, arch, *synthetic_split, tmp_path).result()


def train_and_serve(arch: str, split: Path, data: Path, root: Path) -> None:
    # With random weights, batch norm needs some steps before its statistics pass any signal.
    folder = make(arch, split, data, root, "--epochs", "4")
    check(folder / arch.replace("_", "-") / "1")
    serve(folder, arch.replace("_", "-"))


def _parameters(bundle: Path) -> int:
    """The size of all variables that the graph uses, in bytes."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(bundle))  # kept alive, because the signature holds only weak references
    variables = loaded.signatures["serving_default"].variables
    return sum(int(np.prod(v.shape)) * v.dtype.size for v in variables)


def serve(models: Path, name: str) -> None:
    """Sends a request to the API, which serves the bundle that was just trained."""
    _, png = cv2.imencode(".png", cv2.cvtColor(lesion(8, True, 160), cv2.COLOR_RGB2BGR))
    application = create_app(Settings(models_dir=models, default_model=name, _env_file=None))

    async def ask() -> httpx.Response:
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(app=application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                files = {"file": ("x.png", png.tobytes(), "image/png")}
                return await client.post("/predict", params={"explain": "true"}, files=files)

    answer = asyncio.run(ask())
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == {"name": name, "version": "1"}
    assert answer.json()["decision"] in ("low_suspicion", "suspicious", "uncertain", "rejected")


def test_evaluate_takes_a_split_or_a_folder(models: Path, synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    bundle = models / "custom-cnn" / "1"
    assert "ROC AUC" in run("evaluate", bundle, "--split", split, "--data", data, "--out", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    claimed = Manifest.load(bundle).metrics["test"]["roc_auc"].value
    assert report["metrics"]["test"]["roc_auc"]["value"] == pytest.approx(claimed, abs=1e-6)
    assert "ROC AUC" in run("evaluate", bundle, "--data", data, "--runtime", "tensorflow")


def test_recalibrate_writes_another_version_with_the_same_network(models: Path, synthetic_split: tuple[Path, Path]) -> None:
    _, data = synthetic_split
    bundle = models / "custom-cnn" / "1"
    run("recalibrate", bundle, "--data", data, "--version", "site")
    written = models / "custom-cnn" / "site"
    manifest = verify(written)
    assert calibration_of(written) == pytest.approx(
        (manifest.calibration.temperature, manifest.calibration.malignant_shift), abs=1e-5
    )
    assert manifest.metrics == {}
    assert "one site" in (written / "MODEL_CARD.md").read_text()
    store = ModelStore(models)
    run("promote", "custom-cnn", "site", "--models", models)
    assert store.serving("custom-cnn") == "site"
    run("rollback", "custom-cnn", "--models", models)
    assert store.serving("custom-cnn") == "1"


def test_expected_failures_are_one_sentence(models: Path, tmp_path: Path) -> None:
    missing = run("train", "--split", tmp_path / "no.csv", "--arch", "custom_cnn", "--out", tmp_path / "run", code=2)
    assert "no.csv" in missing
    assert "Traceback" not in missing
    run("export", tmp_path, "--name", "x", "--version", "1", code=2)
    again = run("recalibrate", models / "custom-cnn" / "1", "--data", tmp_path, "--version", "1", code=2)
    assert "error:" in again
