"""Replacing a file is atomic: it has either the old or the complete new content."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import numpy as np
import pytest

from aiderm_core.files import replacing, write_arrays, write_bytes, write_rows, write_text


def test_the_new_file_is_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "ä\r\n")
    assert path.read_bytes() == "ä\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    with replacing(path, permissions=0o600) as file:
        file.write(b"secret")
        assert path.read_bytes() == b"new"
        assert Path(file.name).parent == tmp_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(error: BaseException) -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise error

    for error in (OSError("full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "gone" / "a", "x")


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_and_tables(tmp_path: Path, compressed: bool) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.arange(1000)}, compressed=compressed)
    with np.load(tmp_path / "a.npz") as found:
        assert np.array_equal(found["x"], np.arange(1000))
    assert ((tmp_path / "a.npz").stat().st_size < 4000) is compressed
    write_rows(tmp_path / "a.csv", ["a", "b"], [{"a": 1, "b": "x,y"}])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "x,y"}]
