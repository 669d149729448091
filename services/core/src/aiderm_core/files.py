"""Writes files that appear whole or not at all and survive a power cut. All packages write through this module."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

READABLE_BY_ALL = 0o644
"""Servers run as a different user from the one who writes their files."""


@contextmanager
def replacing(path: Path, *, permissions: int = READABLE_BY_ALL) -> Iterator[IO[bytes]]:
    """Opens a temporary file beside ``path`` that replaces ``path`` when the block ends without an exception.

    Readers see the old file or the whole new one. Concurrent writers do not disturb one another: each has its own temporary file,
    whose path is ``file.name``. When the block raises, the temporary file is removed and ``path`` stays as it is.

    Args:
        path: the file to write; its folder must exist.
        permissions: mode bits of the new file.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.
    """
    with tempfile.NamedTemporaryFile("wb", prefix=f".{path.name}-", dir=path.parent, delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fchmod(file.fileno(), permissions)
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step, see ``replacing``."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step; line endings are kept."""
    write_bytes(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes NumPy arrays (.npz) in one step."""
    save = np.savez_compressed if compressed else np.savez
    with replacing(path) as file:
        save(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads all arrays of a .npz file."""
    with path.open("rb") as file, np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV table in one step."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads a CSV table: one dictionary per row."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Holds a lock file's lock; waits while another process, here or on another machine, holds it.

    The system releases the lock if its holder dies.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
