"""Reads a table of labelled images, in the encodings and with the separators that spreadsheets write."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path
from typing import Final

_SEPARATORS: Final = (",", ";", "\t", "|")
_CONTROL: Final = frozenset(map(chr, (*range(9), *range(14, 32), 11, 12, 127)))


class TableError(ValueError):
    """A file that is not a table of text."""


def read_records(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a CSV or TSV table.

    UTF-8 and UTF-16 are recognised; other text is read as Windows-1252, which has Latin-1's letters. The separator is the most
    frequent one of comma, semicolon, tab and bar in the header. Spaces around column names are dropped.

    Args:
        table: the file, whose first line names the columns.

    Returns:
        the columns' names, and each record with its line number.

    Raises:
        TableError: the file cannot be read, or is not text.
    """
    try:
        text = _decode(table.read_bytes())
        first = text.split("\n", 1)[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=first.count), strict=True)
        header = [name.strip() for name in next(reader, [])]
        lines = ((reader.line_num, cells) for cells in reader if cells)
        records = [(line, {name: cell for name, cell in zip(header, cells, strict=False) if name}) for line, cells in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(
            f"cannot read {table} as a table: {error}. Allowed: CSV or TSV in UTF-8; a spreadsheet can save as such"
        ) from error
    return header, records


def _decode(data: bytes) -> str:
    """Decodes the text of a file.

    Raises:
        UnicodeDecodeError: the file is not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252")
    if strange := _CONTROL.intersection(text):
        at = min(text.index(character) for character in strange)
        raise UnicodeDecodeError("text", data, at, at + 1, "a control character")
    return text
