"""Missing requirements of a machine are found before anything is trained on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from aiderm_core import files
from aiderm_core.bundle.store import sha256_file
from aiderm_trainer.study.requirements import Requirements, find_missing, packages


@pytest.fixture
def needs(tmp_path: Path) -> Requirements:
    image = tmp_path / "a.png"
    image.write_bytes(b"pixels")
    return Requirements(tmp_path / "study" / ".lock", {image: sha256_file(image)}, packages())


def test_nothing_is_lacking_while_the_study_runs(needs: Requirements) -> None:
    with files.locked(needs.lock):
        assert find_missing(needs) is None


def test_each_thing_that_differs_is_named(needs: Requirements, tmp_path: Path) -> None:
    assert "no folder" in (find_missing(needs) or "")
    with files.locked(needs.lock):
        pass
    # The folder and the file exist, but nobody holds the lock: the folder is not the study's, or locks are not shared.
    assert "another folder" in (find_missing(needs) or "")
    needs.lock.unlink()
    assert "another folder" in (find_missing(needs) or "")
    assert not needs.lock.exists()

    with files.locked(needs.lock):
        (image,) = needs.files
        missing = tmp_path / "b.png"
        assert find_missing(replace(needs, files={missing: "0" * 64})) == f"{missing}: No such file or directory"
        assert find_missing(replace(needs, files={image: "0" * 64})) == f"{image} is another file there"
        assert find_missing(replace(needs, packages={**packages(), "keras": "0.1"})) == (
            f"keras is {packages()['keras']} there, and must be 0.1 as here"
        )


def test_code_is_told_apart_by_its_content_and_libraries_by_their_version() -> None:
    assert set(packages()) == {"aiderm_core", "aiderm_trainer", "tensorflow", "keras", "numpy", "opencv-python-headless"}
    assert "missing" not in " ".join(packages().values())
