"""The trainer's image as the README uses it: `docker compose run --rm trainer …` on a folder of labelled images."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import pytest

from aiderm_core.bundle.store import ModelStore, verify
from aiderm_trainer.data import synthetic

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def trainer(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack with the trainer's image built, synthetic lesions as data, and an ordinary user's empty folders for the rest."""
    root = tmp_path_factory.mktemp("training")
    for name in ("data", "runs", "models"):
        (root / name).mkdir()
    synthetic.dataset(root / "data", count=80, size=120)
    # As root (in CI), a user that need not exist on this machine; otherwise the one who runs the tests.
    user, group = (1234, 1234) if os.getuid() == 0 else (os.getuid(), os.getgid())
    for path in [root / "runs", root / "models"]:
        os.chown(path, user, group)
    for path in [root / "data", *(root / "data").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    folders = {f"AIDERM_{name.upper()}": str(root / name) for name in ("data", "runs", "models")}
    stack = replace(project, environment={**project.environment, **folders, "AIDERM_UID": str(user), "AIDERM_GID": str(group)})
    stack.compose("build", "trainer")
    return stack


def train(trainer: Stack, *arguments: str) -> str:
    result = trainer.compose("run", "--rm", "-T", "trainer", *arguments)
    return result.stdout + result.stderr


def folder(trainer: Stack, name: str) -> Path:
    return Path(trainer.environment[f"AIDERM_{name.upper()}"])


@pytest.fixture(scope="module")
def trained(trainer: Stack) -> Path:
    """Goes from images to a promoted bundle, with one container per step."""
    train(trainer, "prepare", "data", "--out", "runs/split.csv")
    quick = ["--size", "48", "--epochs", "1", "--head-epochs", "1", "--batch", "16"]
    train(trainer, "train", "--split", "runs/split.csv", "--arch", "custom_cnn", "--out", "runs/tiny", *quick)
    train(trainer, "export", "runs/tiny", "--name", "tiny", "--version", "1")
    train(trainer, "promote", "tiny", "1")
    return folder(trainer, "models")


def test_help_lists_the_commands(trainer: Stack) -> None:
    text = train(trainer, "--help")
    for command in ("prepare", "train", "export", "evaluate", "recalibrate", "promote", "rollback"):
        assert command in text


def test_images_are_read_only_and_a_mistake_ends_in_one_sentence(trainer: Stack) -> None:
    refused = trainer.compose("run", "--rm", "-T", "trainer", "prepare", "data", "--out", "data/split.csv", check=False)
    assert refused.returncode == 2
    assert "Read-only file system" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    missing = trainer.compose("run", "--rm", "-T", "trainer", "prepare", "nowhere", "--out", "runs/split.csv", check=False)
    assert missing.returncode == 2
    assert "nowhere" in missing.stdout + missing.stderr


def test_training_leaves_a_whole_bundle_that_belongs_to_the_caller(trainer: Stack, trained: Path) -> None:
    manifest = verify(trained / "tiny" / "1")
    assert manifest.architecture == "custom_cnn"
    assert ModelStore(trained).serving("tiny") == "1"
    owner = int(trainer.environment["AIDERM_UID"])
    written = [*trained.rglob("*"), *folder(trainer, "runs").rglob("*")]
    assert {path.stat().st_uid for path in written} == {owner}


def test_evaluate_scores_the_bundle(trainer: Stack, trained: Path) -> None:
    text = train(trainer, "evaluate", "models/tiny/1", "--split", "runs/split.csv", "--out", "runs/report")
    assert "auc" in text.lower()
    assert (folder(trainer, "runs") / "report" / "report.json").stat().st_size > 100


@pytest.fixture
def serving(trainer: Stack, trained: Path) -> Iterator[Stack]:
    """A separate stack that serves the model from the trainer's container."""
    stack = replace(
        trainer, project=f"{trainer.project}-tiny", environment={**trainer.environment, "AIDERM_DEFAULT_MODEL": "tiny"}
    )
    trained.chmod(0o755)  # pytest's temporary folders are private
    try:
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "120", "api")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5", check=False)


def test_api_serves_what_the_container_trained_and_takes_over_the_next_version(serving: Stack, trained: Path) -> None:
    done, picture = cv2.imencode(".png", synthetic.lesion(3, malignant=True, size=200)[..., ::-1])
    assert done
    with httpx.Client(base_url=f"http://{serving.address('api')}:8000", timeout=60, trust_env=False) as client:

        def version() -> str:
            answer = client.post("/predict", files={"file": picture.tobytes()})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model"]["version"])

        assert client.get("/models").json()["default"] == "tiny"
        assert version() == "1"
        train(serving, "recalibrate", "models/tiny/1", "--data", "data", "--version", "2")
        train(serving, "promote", "tiny", "2")
        for _ in range(120):
            if version() == "2":
                break
            time.sleep(0.5)
        assert version() == "2"
