"""Checks that a machine has what a study needs: the same code, images and weights, and the study's folder."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import aiderm_core
import aiderm_trainer
from aiderm_core.bundle.store import sha256_file

# A different version of one of these may change a trial's numbers.
_PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Requirements:
    """What must be the same for all processes of a study.

    Attributes:
        lock: file in the study's folder that the process running the study holds locked.
        files: checksum (SHA-256) of some of the images and of every weights file, by absolute path.
        packages: version of each package that the numbers depend on, by name.
    """

    lock: Path
    files: Mapping[Path, str]
    packages: Mapping[str, str]


def find_missing(needs: Requirements) -> str | None:
    """Returns what this machine lacks, as a sentence; None if it has everything."""
    here = packages()
    for name, version in needs.packages.items():
        if here.get(name) != version:
            return f"{name} is {here.get(name)} there, and must be {version} as here"
    study = needs.lock.parent
    if not study.is_dir():
        return f"there is no folder {study} (--out)"
    try:
        if not _held(needs.lock):
            return f"{study} (--out) is another folder there, or one whose file system does not share locks between machines"
        with tempfile.TemporaryFile(dir=study):
            pass
        for path, sha256 in needs.files.items():
            if sha256_file(path) != sha256:
                return f"{path} is another file there"
    except OSError as error:
        return f"{error.filename or study}: {error.strerror}"
    return None


@functools.cache
def packages() -> Mapping[str, str]:
    """The package versions of this process; for the project's own packages they include a checksum of the code."""
    found = {}
    for module in (aiderm_core, aiderm_trainer):
        digest = hashlib.sha256()
        folder = Path(module.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
        found[module.__name__] = f"{_version(module.__name__.replace('_', '-'))} ({digest.hexdigest()[:12]})"
    return found | {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _held(lock: Path) -> bool:
    """Whether another process holds the lock. The process that runs the study holds it, so True means the file is shared."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
