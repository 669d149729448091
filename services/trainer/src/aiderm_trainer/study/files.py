"""Files of a study: each appears whole or not at all, in a folder that is made for it."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aiderm_core import files


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step."""
    write_bytes(path, text.encode())


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays, compressed, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_arrays(path, arrays, compressed=True)


def read_npz(path: Path) -> dict[str, Any]:
    """Reads all arrays of a file."""
    with path.open("rb") as file, np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV table in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_rows(path, columns, rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Reads a CSV table."""
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Waits until no other process holds the lock, here or on another machine; it goes with its holder, however that ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
