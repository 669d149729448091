"""deploy/archive.py by itself: a restore brings back the bundles, the serving version and the digests of promotion."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aiderm_core.bundle.manifest import MANIFEST_FILE, Manifest
from aiderm_core.bundle.store import BundleError, ModelStore, seal

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "archive.py"


@pytest.fixture(scope="module")
def archive() -> ModuleType:
    found = importlib.util.spec_from_file_location("archive", SCRIPT)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path: Path, make_bundle: Any) -> ModelStore:
    """A store with versions 1 and 2, of which 2 serves, and a third that was never promoted; beside it a folder for backups."""
    models = tmp_path / "models"
    for version in ("1", "2", "3"):
        make_bundle(models, version=version, promote=version != "3")
    (tmp_path / "backups").mkdir()
    return ModelStore(models)


def edit(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.55'))


def test_everything_comes_back(archive: ModuleType, store: ModelStore, tmp_path: Path) -> None:
    saved = archive.save("first.tar", store.root, tmp_path / "backups")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["first.tar"]
    shutil.rmtree(store.root / "melanoma")
    archive.restore(saved, store.root)
    assert store.serving("melanoma") == "2"
    for version in ("1", "2"):
        assert store.verified("melanoma", version, promoted=True).version == version
    with pytest.raises(BundleError, match=r"3\.sha256 is missing"):
        store.verified("melanoma", "3", promoted=True)


def test_an_edited_manifest_is_neither_saved_nor_kept(archive: ModuleType, store: ModelStore, tmp_path: Path) -> None:
    saved = archive.save("first.tar", store.root, tmp_path / "backups")
    edit(store.path("melanoma", "2"))
    with pytest.raises(archive.BackupError, match="is not the one that was promoted"):
        archive.save("second.tar", store.root, tmp_path / "backups")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == ["first.tar"]
    archive.restore(saved, store.root)
    assert store.verified("melanoma", "2", promoted=True).decision.threshold == 0.5


def test_a_refused_restore_has_changed_nothing(archive: ModuleType, store: ModelStore, tmp_path: Path) -> None:
    """The version that is refused comes after one that could have been restored."""
    saved = archive.save("first.tar", store.root, tmp_path / "backups")
    shutil.rmtree(store.path("melanoma", "1"))
    shutil.rmtree(store.path("melanoma", "2"))
    (store.root / "melanoma" / "2.sha256").unlink()
    with store.stage("melanoma", "2") as folder:
        shutil.copytree(store.path("melanoma", "3"), folder, dirs_exist_ok=True)
        seal(folder, Manifest.load(folder).model_copy(update={"version": "2", "architecture": "retrained"}))
    with pytest.raises(archive.BackupError, match="is whole, but another than the saved one"):
        archive.restore(saved, store.root)
    assert not (store.root / "melanoma" / "1").exists()
    assert store.verified("melanoma", "2").architecture == "retrained"


def test_a_restore_does_not_put_another_bundle_in_the_place_of_a_promoted_one(
    archive: ModuleType, store: ModelStore, tmp_path: Path
) -> None:
    saved = archive.save("first.tar", store.root, tmp_path / "backups")
    shutil.rmtree(store.path("melanoma", "1"))
    with store.stage("melanoma", "1") as folder:
        shutil.copytree(store.path("melanoma", "2"), folder, dirs_exist_ok=True)
        seal(folder, Manifest.load(folder).model_copy(update={"version": "1", "architecture": "retrained"}))
    store.promote("melanoma", "1")
    (store.path("melanoma", "1") / "saved_model.pb").unlink()
    with pytest.raises(archive.BackupError, match="was promoted with another manifest"):
        archive.restore(saved, store.root)
    assert store.serving("melanoma") == "1"
