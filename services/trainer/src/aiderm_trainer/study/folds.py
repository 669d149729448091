"""Makes a study's folds: groups stay whole, and every fold is checked for leaks and excludes the common test split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from aiderm_trainer.data.split import LeakError, check_leaks, make_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.plan import BY_DOMAIN, BY_SOURCE, PlanError

FEWEST: Final = 20  # benign and malignant images each that a domain needs to be left out: with fewer, its AUC is too uncertain


def make_folds(rows: Sequence[Row], folds: int | str, inner: float, seed: int) -> dict[str, list[Row]]:
    """Returns the rows of each fold with their part: ``train``, ``validation`` (to make choices on) or ``test`` (held out).

    All trials of a fold have the same parts, whatever their recipe and seed, so that differences are paired.

    Args:
        rows: to divide; their existing split is ignored.
        folds: a number (grouped and stratified by source, malignancy and dx), ``source`` or ``domain``: each is left out
            once, and groups that overlap it are excluded from training. A domain with fewer than ``FEWEST`` images of
            either label is never left out.
        inner: share of the remaining groups that becomes ``validation``.
        seed: of the division.

    Raises:
        PlanError: too few groups or sources, or a part without benign or malignant rows.
        LeakError: a file is in two groups.
    """
    ordered = sorted(rows, key=lambda row: row.path)
    if folds == BY_SOURCE:
        held_out = _by_source(ordered)
    elif folds == BY_DOMAIN:
        held_out = _by_domain(ordered)
    else:
        held_out = _stratified(ordered, int(folds), seed)
    return {name: _parts(name, ordered, out, inner, seed) for name, out in held_out.items()}


def _by_source(rows: Sequence[Row]) -> dict[str, set[str]]:
    sources: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sources[row.source].add(row.path)
    if len(sources) < 2:
        raise PlanError(f"leaving a source out takes at least two. Received: {', '.join(sources)}")
    return dict(sorted(sources.items()))


def _by_domain(rows: Sequence[Row]) -> dict[str, set[str]]:
    domains: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        domains[(row.domain or row.source).replace("/", "-")].append(row)  # a fold's name is also used as a file name
    fit = {}
    for name, members in sorted(domains.items()):
        malignant = sum(bool(row.malignant) for row in members)
        if min(malignant, len(members) - malignant) >= FEWEST:
            fit[name] = {row.path for row in members}
    if not fit or len(domains) < 2:
        raise PlanError(
            f"leaving a domain out takes two, one of them with {FEWEST} benign and {FEWEST} malignant images. "
            f"Received: {', '.join(domains)}"
        )
    return fit


def _stratified(rows: Sequence[Row], folds: int, seed: int) -> dict[str, set[str]]:
    groups = [row.group for row in rows]
    if len(set(groups)) < 2 * folds:
        raise PlanError(f"{folds} folds take at least {2 * folds} groups. Received: {len(set(groups))}")
    malignant = [f"{row.source} {int(row.malignant)}" for row in rows]
    stratum = [f"{base} {row.dx}" for base, row in zip(malignant, rows, strict=True)]
    sizes = Counter(stratum)
    # Diagnoses that are too rare to be in every fold are stratified as benign or malignant only.
    strata = np.array([full if sizes[full] >= folds else base for full, base in zip(stratum, malignant, strict=True)])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    cuts = splitter.split(np.zeros(len(rows)), strata, groups)
    return {str(number): {rows[i].path for i in held} for number, (_, held) in enumerate(cuts, start=1)}


def _parts(name: str, rows: Sequence[Row], held_out: set[str], inner: float, seed: int) -> list[Row]:
    outside = {row.group for row in rows if row.path in held_out}
    rest = [replace(row, split="") for row in rows if row.path not in held_out and row.group not in outside]
    fold = [replace(row, split="test") for row in rows if row.path in held_out]
    fold += make_split(rest, {"train": 1 - inner, "validation": inner}, seed) if rest else []
    check_leaks(fold)
    for part in ("train", "validation", "test"):
        sides = {row.malignant for row in fold if row.split == part}
        if sides != {False, True}:
            raise PlanError(f"fold {name}: benign and malignant rows must be in {part}. Received: {len(fold)} rows in all")
    return sorted(fold, key=lambda row: row.path)


def check_untouched(folds: dict[str, list[Row]], rows: Iterable[Row]) -> None:
    """Checks that no file or group of the common test split is in any fold.

    Raises:
        LeakError: one is.
    """
    test = [row for row in rows if row.split == "test"]
    forbidden = {row.sha256 for row in test} | {row.group for row in test}
    for name, fold in folds.items():
        found = [row.path for row in fold if row.sha256 in forbidden or row.group in forbidden]
        if found:
            raise LeakError(f"fold {name} holds {len(found)} row(s) of the common test split. First: {found[0]}")
