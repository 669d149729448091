"""Runs dciodvfy from dicom3tools, which checks a DICOM object against its IOD."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is missing (Debian: dicom3tools)")


def dciodvfy(data: bytes, folder: Path) -> list[str]:
    """The errors that it finds in a DICOM file."""
    file = folder / "object.dcm"
    file.write_bytes(data)
    done = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) >= 1
    return [line for line in lines if line.startswith("Error") or "rror" in line[:20]]
