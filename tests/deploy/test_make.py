"""Concurrent runs of `make` install one after the other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands in for pip and detects two runs at the same time.
PIP = """#!/bin/sh
[ ! -e busy ] || echo overlap >>pip.log
touch busy; sleep 1; rm -f busy
[ -x .venv/bin/python ] || echo "environment is gone" >>pip.log
echo "$*" >>pip.log
"""


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is missing: it comes with util-linux")
def test_run_and_test_may_be_started_at_once(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pip").write_text(PIP)
    (tmp_path / "pip").chmod(0o755)
    ended = [
        subprocess.Popen(
            ["make", *arguments, "PIP=./pip", "RUN_STAMP=.venv/.run-1", "DEV_STAMP=.venv/.dev-1"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for arguments in ([".venv/.run-1"], [".venv/.dev-1"], [".venv/.dev-1"])
    ]
    said = [process.communicate(timeout=60)[0].decode() for process in ended]
    assert [process.returncode for process in ended] == [0, 0, 0], said
    lines = (tmp_path / "pip.log").read_text().splitlines()
    assert len(lines) == 4, lines  # two for each set of packages, and none for the make that found its set installed
    assert {line.split()[-1] for line in lines} == {
        "services/api/requirements.lock",
        "./services/api",
        "tests/requirements.lock",
        "./services/scorer",
    }
