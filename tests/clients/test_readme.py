"""The examples in the clients' READMEs run as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def example(language: str, readme: str, service: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "clients" / readme / "README.md").read_text("utf-8"), re.DOTALL)
    assert "http://127.0.0.1:8000" in code
    return code.replace("http://127.0.0.1:8000", service)


def run(command: list[str | Path | None], **environment: str) -> list[str]:
    """Runs a program from the repository's root and returns the lines that it prints."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def check(printed: list[str]) -> None:
    assert printed[0].split()[0] == printed[1]
    assert printed[2].startswith("unsupported_type Received")


def test_python(service):
    code = example("python", "python", service) + "\nassert report['resourceType'] == 'DiagnosticReport'"
    check(run([sys.executable, "-c", code], PYTHONPATH=str(ROOT / "clients" / "python" / "src")))


@pytest.mark.usefixtures("npm")
@pytest.mark.ci
def test_typescript(service):
    check(run([shutil.which("node"), "--input-type=module", "--eval", example("ts", "typescript", service)]))


@pytest.mark.parametrize("readme", ["python", "typescript"])
def test_length(readme):
    assert len((ROOT / "clients" / readme / "README.md").read_text("utf-8").splitlines()) <= 40
