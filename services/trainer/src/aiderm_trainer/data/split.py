"""Splits a data set once, by a hash of each group, and stores the result in SPLIT.csv, which every model uses."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Final

from aiderm_core import files
from aiderm_trainer.data.table import SPLITS, Row, Split, as_split

DEFAULT_FRACTIONS: Final[Mapping[Split, float]] = {"train": 0.70, "validation": 0.08, "calibration": 0.10, "test": 0.12}
COLUMNS: Final = tuple(field.name for field in fields(Row))
_OLDER_COLUMNS: Final = COLUMNS[:7]  # of tables made before there were columns for domain and biopsy
_BIOPSIED: Final[Mapping[str, bool | None]] = {"": None, "0": False, "1": True}
_BIOPSY_CELLS: Final = {value: cell for cell, value in _BIOPSIED.items()}

_Stratum = tuple[str, ...]


class SplitError(ValueError):
    """A SPLIT.csv that cannot be read, or a split that cannot be made."""


class LeakError(ValueError):
    """Raised when one file or group is on two sides of a split."""


def make_split(rows: Iterable[Row], fractions: Mapping[Split, float] = DEFAULT_FRACTIONS, seed: int = 0) -> list[Row]:
    """Assigns every row to a split; groups stay whole.

    Inside each stratum (source x malignant x dx), groups are sorted by ``sha256(f"{seed}:{group}")`` and cut at the fractions,
    counted in images. So a group's side depends only on its name and on the other groups of its stratum, not on the order of
    the rows, and new data move few of the existing groups.

    Args:
        rows: rows whose ``split`` is empty (or ``train``) are divided. Rows that are already on another side stay there with
            their whole groups. Nothing else joins that side; its share goes to the others.
        fractions: share of the images that each split gets; they sum to 1.
        seed: another seed gives another split.

    Returns:
        The rows with their split, ordered by path.

    Raises:
        SplitError: the fractions are invalid, or leave no side for the rows to be divided.
        LeakError: two groups share a file (``duplicates.join_groups`` joins them).
    """
    unknown = set(fractions) - set(SPLITS)
    if unknown or any(not 0 <= value <= 1 for value in fractions.values()) or not math.isclose(sum(fractions.values()), 1.0):
        raise SplitError(f"fractions must be 0 to 1, sum to 1, and be of {', '.join(SPLITS)}. Received: {dict(fractions)}")
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)

    sides = {group: side for group, members in groups.items() if (side := _fixed_side(members))}
    shares = [0.0 if side in sides.values() else fractions.get(side, 0.0) for side in SPLITS]
    free = [group for group in groups if group not in sides]
    if free and not sum(shares):
        fixed = ", ".join(sorted(set(sides.values())))
        raise SplitError(f"no split is left for {len(free)} groups: {fixed} are filled. Received: fractions {dict(fractions)}")
    cuts = [(side, bound / sum(shares)) for side, share, bound in zip(SPLITS, shares, accumulate(shares), strict=True) if share]

    for members in _strata({group: groups[group] for group in free}, smallest_share=min((s for s in shares if s), default=1.0)):
        members.sort(key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
        total = sum(len(groups[group]) for group in members)
        before = 0
        for group in members:
            # A group goes where its midpoint lies, so that cuts are rounded to the nearest group, not always up or down.
            middle = (before + len(groups[group]) / 2) / total
            sides[group] = next((side for side, bound in cuts if middle < bound), cuts[-1][0])
            before += len(groups[group])

    done = [replace(row, split=sides[group]) for group, members in groups.items() for row in members]
    done.sort(key=lambda row: row.path)
    check_leaks(done)
    return done


def _fixed_side(members: Sequence[Row]) -> Split | None:
    given = {row.split for row in members} - {"", "train"}
    # The later side takes precedence: a model must never have seen the images that its performance is reported on.
    return next((side for side in reversed(SPLITS) if side in given), None)


def _strata(groups: Mapping[str, Sequence[Row]], smallest_share: float) -> list[list[str]]:
    """Groups by source x malignant x dx. Strata too small for the smallest share are pooled over dx, then over sources."""
    enough = math.ceil(1 / smallest_share)
    level: dict[_Stratum, list[str]] = defaultdict(list)
    for group, members in sorted(groups.items()):
        # The most informative member represents the group: malignant before benign, known before unknown.
        teller = min(members, key=lambda row: (not row.malignant, not row.dx, row.source, row.dx))
        level[(str(int(teller.malignant)), teller.source, teller.dx)].append(group)
    done: list[list[str]] = []
    for depth in (2, 1, 0):
        pooled: dict[_Stratum, list[str]] = defaultdict(list)
        for key, names in sorted(level.items()):
            if len(names) >= enough or depth == 0:
                done.append(names)
            else:
                pooled[key[:depth]].extend(names)
        level = pooled
    return done


def check_leaks(rows: Iterable[Row]) -> None:
    """Checks that no file and no group is on two sides.

    Raises:
        LeakError: one is; the message names the first few with their paths.
    """
    by_key: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_key["group", row.group].append(row)
        by_key["sha256", row.sha256].append(row)
    leaks = [(key, members) for key, members in by_key.items() if len({row.split for row in members}) > 1]
    if leaks:
        named = "; ".join(
            f"{kind} {value}: " + ", ".join(f"{row.path} in {row.split or 'none'}" for row in members[:4])
            for (kind, value), members in sorted(leaks, key=lambda leak: leak[0])[:5]
        )
        raise LeakError(f"{len(leaks)} group(s) or file(s) are on more than one side of the split. First: {named}")


def write_split(path: Path, rows: Iterable[Row]) -> None:
    """Writes SPLIT.csv, ordered by path, in one step: a reader sees the old file or the whole new one.

    Raises:
        SplitError: a row has no split yet, or two rows have the same path.
        LeakError: a file or group is on two sides.
    """
    ordered = sorted(rows, key=lambda row: row.path)
    for row in ordered:
        if not row.split:
            raise SplitError(f"{row.path} has no split; allowed: {', '.join(SPLITS)}")
    _check_paths(ordered, str(path))
    check_leaks(ordered)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(
        (r.sha256, r.path, r.source, r.group, r.split, r.dx, int(r.malignant), r.domain, _BIOPSY_CELLS[r.biopsied])
        for r in ordered
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, buffer.getvalue())


def read_split(path: Path) -> list[Row]:
    """Reads a SPLIT.csv and checks every row.

    Returns:
        The rows in the file's order.

    Raises:
        SplitError: the file is missing, is not a split, or has a malformed row (the message gives its line).
        LeakError: a file or group is on two sides.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"cannot read {path}: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = tuple(next(reader, ()))
    if header not in (COLUMNS, _OLDER_COLUMNS):
        raise SplitError(f"{path}: the columns must be {','.join(COLUMNS)}. Received: {','.join(header)[:200]!r}")
    rows = []
    for cells in reader:
        try:
            rows.append(_row(cells, len(header)))
        except ValueError as error:
            raise SplitError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise SplitError(f"{path} has no rows")
    _check_paths(rows, str(path))
    check_leaks(rows)
    return rows


def _row(cells: Sequence[str], columns: int) -> Row:
    if len(cells) != columns:
        raise ValueError(f"a row has {columns} cells. Received: {len(cells)}")
    sha256, path, source, group, split, dx, malignant, domain, biopsied = [*cells, "", ""][: len(COLUMNS)]
    if malignant not in ("0", "1"):
        raise ValueError(f"malignant must be 0 or 1. Received: {malignant!r}")
    if biopsied not in _BIOPSIED:
        raise ValueError(f"biopsied must be 0, 1 or empty. Received: {biopsied!r}")
    return Row(sha256, path, source, group, as_split(split), dx, malignant == "1", domain, _BIOPSIED[biopsied])


def _check_paths(rows: Sequence[Row], where: str) -> None:
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        raise SplitError(f"{where}: {len(twice)} path(s) occur more than once. First: {sorted(twice)[0]}")


def fingerprint(path: Path) -> str:
    """The SHA-256 of a SPLIT.csv's bytes, by which a manifest identifies the training data."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
