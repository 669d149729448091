"""Builds one wheel of core, API, page and the promoted model (``make wheel``). The same tree gives the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = "0.2"
MODEL = "melanoma"
EPOCH = "315532800"  # 1980: the earliest time that a ZIP file can hold
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "aiderm"
version = "{version}"
description = "Assesses dermoscopic images, with a model inside. Research use only; not a medical device; not a diagnosis."
readme = "README.md"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = {dependencies}
optional-dependencies = {{ dicom = {dicom} }}

[project.scripts]
aiderm = "aiderm.__main__:main"

[tool.setuptools]
include-package-data = false

[tool.setuptools.packages.find]
include = ["aiderm*"]

[tool.setuptools.package-data]
"*" = ["py.typed"]
aiderm = ["packaged/**"]
"""


def stage(folder: Path) -> None:
    """Assembles the content of the wheel, with the same file modes on every machine."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([0-9]+)", (ROOT / "services/api/requirements.lock").read_text("utf-8"), re.M))
    dependencies: set[str] = set()
    for service in ("core", "api"):
        project = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text("utf-8"))["project"]
        for asked in project["dependencies"]:
            if not asked.startswith("aiderm-"):  # below the next major version after the tested one
                name = re.split(r"[\[><=]", asked)[0]
                dependencies.add(f"{asked},<{int(locked[name]) + 1}")
        shutil.copytree(ROOT / "services" / service / "src", folder, dirs_exist_ok=True, ignore=_ignored)
    packaged = folder / "aiderm" / "packaged"
    shutil.copytree(ROOT / "frontend" / "public", packaged / "public")
    (packaged / "nginx").mkdir()
    for file in (ROOT / "frontend" / "nginx").glob("*-headers.conf"):
        shutil.copy(file, packaged / "nginx")
    model = ROOT / "models" / MODEL
    version = (model / "SERVING").read_text("utf-8").strip()
    shutil.copytree(model / version, packaged / "models" / MODEL / version)
    for name in ("SERVING", f"{version}.sha256"):
        shutil.copy(model / name, packaged / "models" / MODEL)
    shutil.copy(ROOT / "docs" / "doors.md", folder / "README.md")
    shutil.copy(ROOT / "LICENSE", folder)
    extra = project["optional-dependencies"]["dicom"]
    described = PROJECT.format(version=VERSION, dependencies=sorted(dependencies), dicom=extra)
    (folder / "pyproject.toml").write_text(described, "utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or name.endswith(".egg-info")]


def build(out: Path) -> Path:
    """Writes the wheel into ``out`` and returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aiderm-wheel-") as name:
        stage(Path(name))
        environment = {"SOURCE_DATE_EPOCH": EPOCH, **os.environ}
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
        subprocess.run([*pip, name], check=True, env=environment)  # noqa: S603 (no part of it comes from outside)
    return out / f"aiderm-{VERSION}-py3-none-any.whl"


if __name__ == "__main__":
    wheel = build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve())
    sys.stdout.write(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB\n")
