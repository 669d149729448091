"""Writes the table as it grows: part files, each written atomically, are merged into the table at the end."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aiderm_core import files
from aiderm_scorer.score_rows import about

MARKER = ".aiderm-score"
"""File that shows that the scorer made a folder of parts; it is locked while a process writes there."""
ROWS_A_PART = 10_000
SECONDS_A_PART = 5.0
# Errors that a second try may resolve: a disk or network was unavailable, a machine ran out of memory.
PASSING = ("unreadable", "timeout", "worker_died", "internal")


class OutputError(ValueError):
    """An output file that cannot be resumed."""


class Output:
    """Collects rows and writes them to a Parquet file. Create it with ``open``.

    Added rows are written to disk after ``SECONDS_A_PART`` or ``ROWS_A_PART``, so that they survive if the process is killed.
    """

    def __init__(self, path: Path, table_schema: pa.Schema) -> None:
        self.path = path
        self.schema = table_schema
        self._folder = _parts_folder(path)
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._writing = threading.Lock()
        parts = self._parts()
        self._next = int(parts[-1].stem) + 1 if parts else 0

    @classmethod
    @contextmanager
    def open(cls, path: Path, table_schema: pa.Schema, *, fresh: bool = False) -> Iterator[Self]:
        """Begins a table, or resumes one of the same model.

        Args:
            path: of the Parquet file.
            table_schema: see ``score_rows.schema``.
            fresh: discard an existing table.

        Raises:
            OutputError: another process is writing it, or it is not a table of scores of this model, precision and limits.
        """
        if path.is_dir():
            raise OutputError(f"--out must name a file. Received: the folder {path}")
        folder = _parts_folder(path)
        _make_parts_folder(folder)
        with (folder / MARKER).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"another process writes {path}") from None
            if fresh:
                for part in folder.glob("*.parquet"):
                    part.unlink()
                path.unlink(missing_ok=True)
            output = cls(path, table_schema)
            ended = threading.Event()
            try:
                output._check()
                # Also flush while no rows arrive: an image may hang while it waits for a disk.
                threading.Thread(target=output._flush_until, args=(ended,), daemon=True).start()
                yield output
            finally:
                ended.set()
                output.flush()
                if not output._parts():
                    output._remove_folder()

    def done(self, again: bool = False) -> set[str]:
        """Names of the images that have a row.

        Args:
            again: leave out those whose error may have passed.
        """
        names: set[str] = set()
        for file in self._files():
            table = pq.read_table(file, columns=["image", "error"])
            found = table["image"].to_pylist()
            names.update(found)
            if again:
                passing = pc.is_in(table["error"], pa.array(PASSING))
                names.difference_update(table.filter(passing)["image"].to_pylist())
        return names

    def add(self, table: pa.Table) -> None:
        """Adds rows; a row of an image that already has one replaces it."""
        with self._writing:
            self._waiting.append(table)
            self._rows += table.num_rows
        if self._rows >= ROWS_A_PART:
            self.flush()

    def flush(self) -> None:
        """Writes the added rows to the disk."""
        with self._writing:
            if self._waiting:
                self._write(self._folder / f"{self._next:08d}.parquet", pa.concat_tables(self._waiting))
                self._next += 1
                self._waiting, self._rows = [], 0

    def finish(self) -> pa.Table:
        """Merges everything into the file, sorted by image, and removes the parts; returns the whole table."""
        self.flush()
        files = self._files()
        whole = pa.concat_tables([_read(file, self.schema) for file in files]) if files else self.schema.empty_table()
        if self._parts() or not self.path.exists():
            whole = _latest(whole).sort_by("image")
            self._write(self.path, whole)
            for part in self._parts():
                part.unlink()
        return whole

    def _remove_folder(self) -> None:
        """Removes what this class made, and the folder if nothing else is in it."""
        for leftover in self._folder.glob(".*.parquet-*"):  # from a process killed while it wrote a part
            leftover.unlink()
        if {entry.name for entry in self._folder.iterdir()} == {MARKER}:
            (self._folder / MARKER).unlink()
            with suppress(OSError):
                self._folder.rmdir()

    def _flush_until(self, ended: threading.Event) -> None:
        while not ended.wait(SECONDS_A_PART):
            with suppress(OSError):  # the rows keep waiting, and the next flush reports the failure
                self.flush()

    def _files(self) -> list[Path]:
        return [*([self.path] if self.path.exists() else []), *self._parts()]

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.parquet"))

    def _check(self) -> None:
        for file in self._files()[:2]:
            try:
                found = about(pq.read_schema(file))
            except (pa.ArrowException, OSError) as error:
                raise OutputError(f"{file} is no table that can be read: {error}. Choose another --out, or --fresh") from error
            wanted = about(self.schema)
            if found != wanted:
                differs = [f"{key} {found.get(key)} there, {wanted[key]} now" for key in wanted if found.get(key) != wanted[key]]
                raise OutputError(f"{file} holds scores of another kind: {'; '.join(differs)}. Choose another --out, or --fresh")

    def _write(self, path: Path, table: pa.Table) -> None:
        with files.replacing(path) as file:
            pq.write_table(table.replace_schema_metadata(self.schema.metadata), file, compression="zstd")


def _latest(table: pa.Table) -> pa.Table:
    """The last row of each image; it has several if it was scored again or if the clean-up was interrupted."""
    if pc.count_distinct(table["image"]).as_py() == table.num_rows:
        return table.combine_chunks()
    last = {name: index for index, name in enumerate(table["image"].to_pylist())}
    return table.take(pa.array(sorted(last.values()))).combine_chunks()


def _make_parts_folder(folder: Path) -> None:
    """Creates the folder; if it exists, the scorer must have created it.

    Raises:
        OutputError: the scorer did not create it.
    """
    try:
        folder.mkdir(parents=True)
        (folder / MARKER).touch()
    except FileExistsError:
        if not (folder / MARKER).is_file():
            raise OutputError(f"aiderm-score did not make the folder {folder}. Move it, or choose another --out") from None


def _parts_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def _read(file: Path, table_schema: pa.Schema) -> pa.Table:
    return pq.read_table(file, schema=table_schema)
