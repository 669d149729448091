"""Reads the tables that the page exports in second-reader mode: each reader's decisions before and after the model's answer."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiderm_core.decision import Decision

COLUMNS: Final = (
    *("reader", "case", "truth", "before_decision", "before_confidence", "before_seconds"),
    *("model_decision", "model_probability", "model", "after_decision", "after_confidence", "after_seconds"),
)
REFER, NO_REFER, UNSURE = "refer", "no_refer", "unsure"
_ALLOWED: Final = {
    "truth": ("malignant", "benign"),
    "before_decision": (REFER, NO_REFER, UNSURE),
    "after_decision": (REFER, NO_REFER, UNSURE),
    "model_decision": tuple(decision.value for decision in Decision),
}
# A reading without one of these is left out: it is not finished, or nobody knows yet what the lesion was.
_MAY_BE_EMPTY: Final = {"truth": "truth not known", "before_decision": "not begun", "after_decision": "not finished"}
_LEAST: Final = 2  # cases of each label: with fewer there is no variance


class ReaderTableError(ValueError):
    """A table that cannot be analysed."""


@dataclass(frozen=True)
class ReaderTable:
    """Readings by R readers of K cases, every case by every reader, without the model (index 0) and with it (index 1).

    Attributes:
        readers: R names.
        cases: K names.
        malignant: ``[K]``.
        decision: ``[2, R, K]``, ``refer``, ``no_refer`` or ``unsure``.
        confidence: ``[2, R, K]``, at least 0.
        seconds: ``[2, R, K]``: until the decision without the model, and from its answer until the decision with it.
        advice: ``[R, K]``, what the model advised.
        models: names of the models that gave the advice.
        left_out: number of readings that do not count, by reason.
    """

    readers: tuple[str, ...]
    cases: tuple[str, ...]
    malignant: NDArray[np.bool_]
    decision: NDArray[np.str_]
    confidence: NDArray[np.float64]
    seconds: NDArray[np.float64]
    advice: NDArray[np.str_]
    models: tuple[str, ...]
    left_out: dict[str, int]


class _Reading(NamedTuple):
    where: str
    malignant: bool
    decision: tuple[str, str]
    confidence: tuple[float, float]
    seconds: tuple[float, float]
    advice: str
    model: str


def read_reader_tables(paths: Sequence[Path]) -> ReaderTable:
    """Reads one or several files of readings.

    Args:
        paths: CSV files with the columns ``COLUMNS``; other columns and repeated header lines are ignored.

    Raises:
        ReaderTableError: a value that is not allowed, a case read twice by one reader or with two truths, or fewer than two
            malignant or two benign cases that every reader has read.
    """
    found: dict[tuple[str, str], _Reading] = {}
    left_out: Counter[str] = Counter()
    for path in paths:
        for where, row in _rows(path):
            missing = [text for name, text in _MAY_BE_EMPTY.items() if not row[name]]
            if missing:
                left_out[missing[0]] += 1
                continue
            key = row["reader"], row["case"]
            if not all(key):
                raise ReaderTableError(f"{where}: reader and case must be named. Received: {row['reader']!r} and {row['case']!r}")
            if key in found:
                raise ReaderTableError(f"{where}: {key[0]} read the case {key[1]} before, at {found[key].where}")
            found[key] = _reading(where, row)
    return _crossed(found, left_out)


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            names = [str(name).strip() for name in table.fieldnames or []]
            missing = [name for name in COLUMNS if name not in names]
            if missing:
                has = ", ".join(names) or "none"
                raise ReaderTableError(
                    f"{path} must have the columns {', '.join(COLUMNS)}. It lacks {', '.join(missing)}; it has: {has}"
                )
            table.fieldnames = names
            rows = [(f"{path}:{table.line_num}", {name: (row[name] or "").strip() for name in COLUMNS}) for row in table]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ReaderTableError(f"{path} cannot be read as a CSV table in UTF-8: {error}") from error
    return [(where, row) for where, row in rows if row["reader"] != "reader" or row["case"] != "case"]


def _reading(where: str, row: dict[str, str]) -> _Reading:
    for name, allowed in _ALLOWED.items():
        if row[name] not in allowed:
            raise ReaderTableError(f"{where}: {name} must be {', '.join(allowed)}. Received: {row[name]!r}")

    def number(name: str) -> float:
        try:
            value = float(row[name])
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise ReaderTableError(f"{where}: {name} must be a number of at least 0. Received: {row[name]!r}")
        return value

    return _Reading(
        where=where,
        malignant=row["truth"] == "malignant",
        decision=(row["before_decision"], row["after_decision"]),
        confidence=(number("before_confidence"), number("after_confidence")),
        seconds=(number("before_seconds"), number("after_seconds")),
        advice=row["model_decision"],
        model=row["model"],
    )


def _crossed(found: dict[tuple[str, str], _Reading], left_out: Counter[str]) -> ReaderTable:
    """Keeps the cases that every reader has read: otherwise differences between readers could be differences between cases."""
    truths: dict[str, _Reading] = {}
    for (_, case), reading in found.items():
        first = truths.setdefault(case, reading)
        if first.malignant != reading.malignant:
            raise ReaderTableError(f"the case {case} has two truths: at {first.where} and at {reading.where}")
    readers = sorted({reader for reader, _ in found})
    cases = [case for case in sorted(truths) if all((reader, case) in found for reader in readers)]
    malignant = np.array([truths[case].malignant for case in cases], bool)
    if min(malignant.sum(), (~malignant).sum()) < _LEAST:
        skipped = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"
        raise ReaderTableError(
            f"at least {_LEAST} malignant and {_LEAST} benign cases must have been read by every reader. Received: "
            f"{int(malignant.sum())} and {int((~malignant).sum())}, of {len(truths)} cases and {len(readers)} readers; "
            f"readings left out: {skipped}"
        )
    left_out["not read by every reader"] = len(found) - len(readers) * len(cases)
    readings = [[found[reader, case] for case in cases] for reader in readers]

    def of(name: str) -> NDArray[np.generic]:
        return np.moveaxis(np.array([[getattr(each, name) for each in row] for row in readings]), -1, 0)

    return ReaderTable(
        readers=tuple(readers),
        cases=tuple(cases),
        malignant=malignant,
        decision=of("decision").astype(np.str_),
        confidence=of("confidence").astype(np.float64),
        seconds=of("seconds").astype(np.float64),
        advice=np.array([[each.advice for each in row] for row in readings]),
        models=tuple(sorted({each.model for row in readings for each in row})),
        left_out={reason: count for reason, count in left_out.items() if count},
    )
