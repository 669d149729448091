"""Reads lists of images: CSV, TSV or Parquet tables with a column of paths or addresses, or text files with one per line."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from itertools import repeat
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from aiderm_scorer.addresses import Allowed
from aiderm_scorer.items import Item, ItemProblem, is_address, printable

SUFFIXES = (".csv", ".tsv", ".parquet", ".txt")
COLUMNS = ("path", "image", "file", "filename", "url", "uri", "image_path")
MAX_LINE = 1 << 20  # characters; no path and no row of a table is longer
MAX_ROWS = 1_000_000  # of a Parquet table with more rows than bytes: a few bytes can repeat one row again and again
_BATCH = 1024  # rows of a Parquet table that are read at once; each may be long
_SHOWN_COLUMNS = 20
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class ListError(ValueError):
    """A list that cannot be read, or without a column of paths."""


def is_list(name: str) -> bool:
    """Whether a file counts as a list, by its name."""
    return name.lower().endswith(SUFFIXES)


def read_list(
    name: str,
    file: IO[bytes],
    column: str | None = None,
    root: str | None = None,
    allowed: Allowed | None = None,
    lesion_column: str | None = None,
) -> Iterator[Item]:
    """Yields an item for each row.

    Args:
        name: the list's path or address.
        file: its bytes.
        column: that holds the paths; by default the first of ``COLUMNS`` that exists.
        root: folder or address that relative paths start from; the list's own if None.
        allowed: addresses that it may name; by default s3:// only.
        lesion_column: that names the lesion of each image.

    Raises:
        ListError: a column does not exist, or the list cannot be read.
    """
    base = name.rpartition("/")[0] if root is None else root.rstrip("/")
    allowed = allowed or Allowed()
    beside = allowed.with_host(base) if is_address(base) else allowed  # the operator named that host
    for number, (value, lesion_value) in enumerate(_values(name, file, column, lesion_column), 1):
        text = "" if value is None else str(value).strip()
        lesion = None if lesion_value is None else str(lesion_value).strip() or None
        if not text:
            nothing = ItemProblem("unreadable", f"Row {number} of the list names no image.")
            yield Item(f"{printable(name)}:{number}", name, problem=nothing, lesion=lesion)
        elif is_address(text):
            refusal = allowed.refusal(text)
            problem = None if refusal is None else ItemProblem("unreadable", refusal)
            yield Item(printable(text), text, listed=text, problem=problem, allowed=allowed, lesion=lesion)
        elif _DRIVE.match(text) and not os.path.lexists(text):
            detail = "Received a path with a Windows drive or server; allowed: paths of this machine, or relative ones (--root)."
            yield Item(printable(text), text, listed=text, problem=ItemProblem("unreadable", detail), lesion=lesion)
        else:
            where = _place(base, text)
            if not is_address(where) and "\\" in text and not os.path.lexists(where):
                where = _place(base, text.replace("\\", "/"))  # separators as on Windows
            yield Item(printable(where), where, listed=text, allowed=beside, lesion=lesion)


def _place(base: str, text: str) -> str:
    if text.startswith("/") or not base:
        return text
    if is_address(base):
        return f"{base}/{text}".replace("\\", "/")
    return os.path.normpath(os.path.join(base, text))  # noqa: PTH118 (a name that is no UTF-8 as well)


def _values(name: str, file: IO[bytes], column: str | None, lesion_column: str | None) -> Iterator[tuple[Any, Any]]:
    """Yields the path and the lesion of each row; the lesion is None if no column names it."""
    if name.lower().endswith(".parquet"):
        try:
            table = pq.ParquetFile(file)
            chosen = _choose(name, table.schema_arrow.names, column)
            lesions = lesion_column and _choose(name, table.schema_arrow.names, lesion_column)
            rows, most = table.metadata.num_rows, max(MAX_ROWS, file.seek(0, io.SEEK_END))
            if rows > most:
                raise ListError(f"{name} has {rows:,} rows; allowed: at most {most:,}, as many as it has bytes")
            for batch in table.iter_batches(_BATCH, columns=list({chosen, lesions or chosen})):
                paths = batch.column(chosen).to_pylist()
                yield from zip(paths, batch.column(lesions).to_pylist() if lesions else repeat(None), strict=False)
        except (pa.ArrowException, OSError) as error:
            raise ListError(f"{name} is no Parquet table that can be read: {error}") from error
        return
    start = file.read(2)
    file.seek(0)
    encoding = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        if name.lower().endswith(".txt"):
            yield from ((path, None) for path in _lines(name, text, column or lesion_column))
            return
        rows = csv.DictReader(_bounded(name, text), delimiter="\t" if name.lower().endswith(".tsv") else ",")
        chosen = _choose(name, list(rows.fieldnames or []), column)
        lesions = lesion_column and _choose(name, list(rows.fieldnames or []), lesion_column)
        for row in rows:
            yield row[chosen], row[lesions] if lesions else None
    except (UnicodeError, csv.Error) as error:
        raise ListError(f"{name} is no text in UTF-8 or UTF-16 that can be read: {error}") from error
    finally:
        text.detach()


def _lines(name: str, text: io.TextIOWrapper, column: str | None) -> Iterator[str]:
    """Yields a text file's lines, without empty ones and without a header that is one of ``COLUMNS``."""
    if column is not None:
        raise ListError(
            f"{name} has no columns, but one path on each line; --column and --lesion-column are for .csv, .tsv and .parquet"
        )
    for number, line in enumerate(_bounded(name, text)):
        path = line.strip()
        if path and not (number == 0 and path.lower() in COLUMNS):
            yield path


def _bounded(name: str, text: io.TextIOWrapper) -> Iterator[str]:
    """Yields the lines of a text.

    Raises:
        ListError: a line is longer than ``MAX_LINE``.
    """
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ListError(f"line {number:,} of {name} has more than {MAX_LINE:,} characters; allowed: at most that many")
        yield line


def _choose(name: str, columns: list[str], wanted: str | None) -> str:
    more = f" and {len(columns) - _SHOWN_COLUMNS:,} more" if len(columns) > _SHOWN_COLUMNS else ""
    has = (", ".join(columns[:_SHOWN_COLUMNS]) or "none") + more
    if wanted is not None:
        if wanted not in columns:
            raise ListError(f"{name} has no column {wanted!r}; it has: {has}")
        return wanted
    for candidate in COLUMNS:
        for column in columns:
            if column.strip().lower() == candidate:
                return column
    raise ListError(f"{name} has no column of paths (name one with --column); it has: {has}")
