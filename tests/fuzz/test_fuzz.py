"""Coverage-guided fuzzing of the parsers of untrusted bytes: each target for ten minutes, or only its seeds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("AIDERM_FUZZ_SECONDS", "600"))
TARGETS = ["headers", "multipart"]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")


def run(target: str, folder: Path, *options: str) -> str:
    (folder / "corpus").mkdir()
    command = [sys.executable, "-m", f"tests.fuzz.{target}", f"-artifact_prefix={folder}/", "-max_len=65536", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(folder / "corpus")], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    found = [file.read_bytes()[:2000] for file in folder.iterdir() if file.is_file()]
    assert done.returncode == 0, f"{found}\n{done.stderr[-3000:]}"
    assert found == []
    return done.stderr


@pytest.mark.ci
@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_and_some_mutations(target: str, tmp_path: Path) -> None:
    assert "Done 500 runs" in run(target, tmp_path, "-runs=500", "-seed=1")


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_ten_minutes(target: str, tmp_path: Path) -> None:
    run(target, tmp_path, f"-max_total_time={SECONDS}")
