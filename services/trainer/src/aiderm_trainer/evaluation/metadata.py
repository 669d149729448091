"""Reads what a table knows about images besides their label: age, sex, body site, collection, domain, how the label was made.

Used for evaluation only: such columns leak the label, so no model sees them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiderm_trainer.data.table import Row

COLUMNS: Final = ("age", "sex", "localization", "collection", "dx_type", "domain")
_BIOPSY: Final = "histo"
UNKNOWN: Final = frozenset({"", "unknown", "nan", "none", "n/a", "na", "null"})
# Lower bound in years and name; children first.
AGE_BANDS: Final = ((0.0, "under 18"), (18.0, "18 to 39"), (40.0, "40 to 59"), (60.0, "60 to 74"), (75.0, "75 and over"))
_MAX_AGE = 120.0


class MetadataError(ValueError):
    """The table cannot be joined to the images."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image's metadata; an empty text or None where nothing is known.

    Attributes:
        age: years.
        sex: lower case.
        localization: body site, lower case.
        collection: camera or clinic inside a source.
        dx_type: how the label was made.
        domain: camera, clinic or collection, where the table has that column.
    """

    age: float | None = None
    sex: str = ""
    localization: str = ""
    collection: str = ""
    dx_type: str = ""
    domain: str = ""

    @property
    def biopsied(self) -> bool | None:
        """Whether a pathologist made the label; None where the table does not say how it was made."""
        return self.dx_type.lower().startswith(_BIOPSY) if self.dx_type else None

    @property
    def age_band(self) -> str:
        """Name in ``AGE_BANDS``; empty where the age is unknown."""
        if self.age is None:
            return ""
        return [name for low, name in AGE_BANDS if self.age >= low][-1]


def read_metadata(table: Path, rows: Sequence[Row]) -> dict[str, Record]:
    """Joins a CSV table to rows by their path.

    Args:
        table: columns ``path`` and any of ``COLUMNS``; paths are relative to the data folder.
        rows: the images to join.

    Returns:
        path -> record, for the rows that are in the table.

    Raises:
        MetadataError: no column ``path``, none of ``COLUMNS``, an invalid age, two different records for one path, or
            no row in common.
    """
    wanted = {row.path for row in rows}
    found: dict[str, Record] = {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        if "path" not in columns or not set(COLUMNS) & set(columns):
            raise MetadataError(f"{table} needs a column path and one of {', '.join(COLUMNS)}. Received: {', '.join(columns)}")
        for number, line in enumerate(reader, start=2):
            path = (line["path"] or "").strip()
            if path not in wanted:
                continue
            record = _record(line, f"{table}, line {number}")
            if found.setdefault(path, record) != record:
                raise MetadataError(f"{table}, line {number}: {path} stands there twice, with other content")
    if not found:
        example = rows[0].path if rows else "none"
        raise MetadataError(f"{table} knows none of the {len(rows)} images by its column path. Received, for example: {example}")
    return found


def _record(line: Mapping[str, str | None], where: str) -> Record:
    cell = {name: (line.get(name) or "").strip() for name in COLUMNS}
    known = {name: "" if value.lower() in UNKNOWN else value for name, value in cell.items()}
    age = None
    if known["age"]:
        try:
            age = float(known["age"])
        except ValueError:
            age = -1.0
        if not 0 <= age <= _MAX_AGE:
            raise MetadataError(f"{where}: age must be years from 0 to {_MAX_AGE:.0f}. Received: {cell['age']!r}")
    return Record(
        age, known["sex"].lower(), known["localization"].lower(), known["collection"], known["dx_type"], known["domain"]
    )
