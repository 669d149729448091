"""Lists of images: a CSV, TSV or Parquet table with a column of paths or addresses."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from aiderm_scorer.items import Item, Problem, is_address, printable

SUFFIXES = (".csv", ".tsv", ".parquet")
COLUMNS = ("path", "image", "file", "filename", "url", "uri", "image_path")


class ListError(ValueError):
    """A list that cannot be read, or without a column of paths."""


def is_list(name: str) -> bool:
    """Whether a file is taken for a list, by its name."""
    return name.lower().endswith(SUFFIXES)


def read_list(name: str, file: IO[bytes], column: str | None = None, root: str | None = None) -> Iterator[Item]:
    """An item for each row.

    Args:
        name: the list's path or address.
        file: its bytes.
        column: that holds the paths; by default the first of ``COLUMNS`` that is there.
        root: folder or address that relative paths start from; the list's own when None.

    Raises:
        ListError: no such column, or no such table.
    """
    base = name.rpartition("/")[0] if root is None else root.rstrip("/")
    for number, value in enumerate(_values(name, file, column), 1):
        text = "" if value is None else str(value).strip()
        if not text:
            yield Item(
                f"{printable(name)}:{number}", name, problem=Problem("unreadable", f"Row {number} of the list names no image.")
            )
        elif is_address(text) or text.startswith("/") or not base:
            yield Item(printable(text), text, listed=text)
        else:
            where = f"{base}/{text}" if is_address(base) else os.path.normpath(os.path.join(base, text))  # noqa: PTH118
            yield Item(printable(where), where, listed=text)


def _values(name: str, file: IO[bytes], column: str | None) -> Iterator[Any]:
    if name.lower().endswith(".parquet"):
        try:
            table = pq.ParquetFile(file)
            chosen = _choose(name, table.schema_arrow.names, column)
            for batch in table.iter_batches(columns=[chosen]):
                yield from batch.column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ListError(f"{name} is no Parquet table that can be read: {error}") from error
        return
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        rows = csv.DictReader(text, delimiter="\t" if name.lower().endswith(".tsv") else ",")
        chosen = _choose(name, list(rows.fieldnames or []), column)
        for row in rows:
            yield row[chosen]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ListError(f"{name} is no table in UTF-8 that can be read: {error}") from error
    finally:
        text.detach()


def _choose(name: str, columns: list[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in columns:
            raise ListError(f"{name} has no column {wanted!r}; it has: {', '.join(columns) or 'none'}")
        return wanted
    for candidate in COLUMNS:
        for column in columns:
            if column.strip().lower() == candidate:
                return column
    raise ListError(f"{name} has no column of paths (name one with --column); it has: {', '.join(columns) or 'none'}")
