"""Only the manifest knows a model's classes: other diseases work from training to serving without a change of code."""

import asyncio
from pathlib import Path

import cv2
import httpx
import pytest
from typer.testing import CliRunner

from aiderm_api.app import create_app
from aiderm_api.settings import Settings
from aiderm_core.bundle.store import verify
from aiderm_core.runtime import load_runtime
from aiderm_trainer.cli import app
from aiderm_trainer.data.class_names import ClassName, of_labels, with_positive
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.sources.index import IndexingError
from aiderm_trainer.data.synthetic import lesion

CLASSES = {"Plaque psoriasis": True, "Atopic eczema": True, "healthy-skin": False, "nv": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes that are in no table of this software, and of one that is."""
    root = tmp_path_factory.mktemp("rashes")
    for number, (name, positive) in enumerate(CLASSES.items()):
        (root / name).mkdir()
        for i in range(40):
            pixels = lesion(1000 * number + i, positive, 112)
            cv2.imwrite(str(root / name / f"{i}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return root


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.ci
def test_any_classes_are_trained_served_and_named(folder: Path, tmp_path: Path) -> None:
    split, models = tmp_path / "split.csv", tmp_path / "models"
    run("prepare", folder, "--out", split, "--positive", "plaque psoriasis,Atopic eczema", "--no-near-duplicates")
    shape = ["--arch", "custom_cnn", "--size", "32", "--epochs", "1", "--dense", "8"]
    run("train", "--split", split, "--data", folder, "--out", tmp_path / "run", *shape)
    run("export", tmp_path / "run", "--name", "rash", "--version", "1", "--models", models, "--upright")
    run("promote", "rash", "1", "--models", models)

    bundle = models / "rash" / "1"
    manifest = verify(bundle)
    labels = {label.id: (label.name, label.malignant) for label in manifest.labels}
    assert labels == {
        "plaque_psoriasis": ("Plaque psoriasis", True),
        "atopic_eczema": ("Atopic eczema", True),
        "healthy_skin": ("Healthy skin", False),
        "nv": ("Melanocytic naevus", False),
    }
    assert (manifest.orientations, manifest.upright, manifest.class_map) == (1, True, {})
    assert any("Atopic eczema, Plaque psoriasis" in line for line in manifest.limitations)
    assert "ROC AUC" in run("evaluate", bundle, "--data", folder)

    pixels = lesion(7, True, 32)
    outputs = load_runtime("openvino", bundle).run(pixels[None])
    _, png = cv2.imencode(".png", cv2.cvtColor(lesion(7, True, 160), cv2.COLOR_RGB2BGR))
    served = create_app(Settings(models_dir=models, default_model="rash", _env_file=None))

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app=served)
        async with (
            served.router.lifespan_context(served),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            answer = await client.post("/predict", files={"file": ("x.png", png.tobytes(), "image/png")})
            return answer, await client.get("/models/rash")

    answer, about = asyncio.run(ask())
    assert outputs.probability.shape == (1, 4)
    assert answer.status_code == about.status_code == 200, answer.text
    if answer.json()["decision"] != "rejected":
        named = {c["id"]: (c["name"], c["malignant"]) for c in answer.json()["classes"]}
        assert named == labels
    assert {label["name"] for label in about.json()["labels"]} == {name for name, _ in labels.values()}


def test_a_positive_class_without_pictures_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexingError, match="no image of: scabies; it has: atopic_eczema, healthy_skin, nv, plaque_psoriasis"):
        prepare(folder, tmp_path / "x.csv", positive=["Atopic eczema", "scabies"], near_duplicates=False, progress=False)
    with pytest.raises(IndexingError, match=r"unknown class folder.*--positive"):
        prepare(folder, tmp_path / "x.csv", progress=False)


def test_names_are_read_by_the_table_the_model_or_as_they_are(sample_manifest) -> None:
    own = with_positive(["Lichen planus", "melanoma"])
    assert own("lichen-planus") == ClassName("lichen_planus", True)
    assert own("Melanoma") == ClassName("mel", True)
    assert own("wart") == ClassName("wart", False)
    with pytest.raises(ValueError, match="Received: '!'"):
        own("!")
    labels = sample_manifest(
        labels=[{"id": "lp", "name": "Lichen planus", "malignant": True}, {"id": "wart", "name": "Wart", "malignant": False}],
        class_map={},
        golden={"cases": [{"path": "golden/0.png", "probability": [0.5, 0.5], "malignancy": 0.5, "novelty": 1.0}]},
    ).labels
    named = of_labels(labels)
    assert named("Lichen_Planus") == named("lp") == ClassName("lp", True)
    assert named("naevus") == ClassName("nv", False)
    assert named("scabies") is None
