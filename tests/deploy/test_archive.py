"""`make backup` and `make restore` in the API's image: damaged models are neither saved nor restored."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiderm_core.bundle.store import BundleError, ModelStore, verify

from .conftest import run

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers
NAME = "melanoma"


@pytest.fixture
def kept(project: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A stack with a folder of models and one of backups, which belong to whoever runs the tests."""
    shutil.copytree(Path(project.environment["AIDERM_MODELS"]) / NAME, tmp_path / "models" / NAME)
    (tmp_path / "backups").mkdir()
    folders = {f"AIDERM_{name.upper()}": str(tmp_path / name) for name in ("models", "backups")}
    stack = dataclasses.replace(project, project=f"{project.project}-kept", environment={**project.environment, **folders})
    yield stack
    stack.compose("--profile", "models", "down", "--remove-orphans", check=False)


def make(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    result = run(["make", *arguments], {**stack.environment, "COMPOSE_PROJECT_NAME": stack.project}, check=False)
    assert "Traceback" not in result.stderr
    return result


def damage(bundle: Path) -> None:
    weights = bundle / "variables" / "variables.data-00000-of-00001"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)


def test_models_are_saved_and_come_back_whole(kept: Stack, tmp_path: Path) -> None:
    models, store = tmp_path / "models", ModelStore(tmp_path / "models")
    version = store.serving(NAME)
    result = make(kept, "backup", "NAME=first.tar")
    assert result.returncode == 0, result.stderr
    assert f"saved {NAME} {version}" in result.stdout
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["first.tar"]
    assert make(kept, "backup", "NAME=first.tar").returncode != 0, "a backup was overwritten"

    assert f"kept {NAME} {version}" in make(kept, "restore", "NAME=first.tar").stdout

    damage(models / NAME / version)
    refused = make(kept, "backup")
    assert refused.returncode != 0
    assert "is not what the manifest lists" in refused.stderr
    assert len(list((tmp_path / "backups").iterdir())) == 1, "something was left of a backup that failed"
    result = make(kept, "restore", "NAME=first.tar")
    assert result.returncode == 0, result.stderr
    assert f"replaced {NAME} {version}" in result.stdout
    verify(models / NAME / version)

    manifest = models / NAME / version / "manifest.json"
    content = json.loads(manifest.read_text())
    content["decision"]["threshold"] = content["decision"]["uncertain"][0]
    manifest.write_text(json.dumps(content))
    verify(models / NAME / version)
    refused = make(kept, "backup")
    assert refused.returncode != 0
    assert "is not the one that was promoted" in refused.stderr
    assert f"replaced {NAME} {version}" in make(kept, "restore", "NAME=first.tar").stdout
    assert store.verified(NAME, version, promoted=True).version == version

    shutil.rmtree(models / NAME)
    assert make(kept, "restore", "NAME=first.tar").returncode == 0
    assert store.serving(NAME) == version
    assert store.verified(NAME, version, promoted=True).version == version
    assert {path.stat().st_uid for path in models.rglob("*")} == {os.getuid()}
    assert (models / NAME / version).stat().st_mode & 0o055 == 0o055, "the API is another user"


def test_a_damaged_backup_changes_nothing(kept: Stack, tmp_path: Path) -> None:
    models, backup = tmp_path / "models", tmp_path / "backups" / "first.tar"
    version = ModelStore(models).serving(NAME)
    assert version
    assert make(kept, "backup", "NAME=first.tar").returncode == 0
    data = bytearray(backup.read_bytes())
    data[len(data) // 2] ^= 1
    backup.write_bytes(data)
    (models / NAME / "SERVING").unlink()
    damage(models / NAME / version)
    result = make(kept, "restore", "NAME=first.tar")
    assert result.returncode != 0
    assert "the backup is damaged, nothing was restored" in result.stderr
    with pytest.raises(BundleError):
        verify(models / NAME / version)
    assert sorted(path.name for path in (models / NAME).iterdir()) == [version, f"{version}.sha256"]
    backup.write_bytes(b"no archive")
    assert "cannot be read" in make(kept, "restore", "NAME=first.tar").stderr
    missing = make(kept, "restore", "NAME=other.tar")
    assert missing.returncode != 0
    assert "there are: first.tar" in missing.stderr
    assert "Which backup?" in make(kept, "restore").stderr
