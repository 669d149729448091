"""Turns a folder or a table into SPLIT.csv: index, find duplicates, merge groups, split, check, write, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.class_names import class_id, parse_class, with_positive
from aiderm_trainer.data.domains import labels_by_domain, with_domains
from aiderm_trainer.data.duplicates import find_near_duplicates, join_groups, same_files
from aiderm_trainer.data.leaks import Embed, aligned_pairs
from aiderm_trainer.data.sources.index import USUAL_COLUMNS, Columns, Index, IndexingError, Unreadable, index
from aiderm_trainer.data.split import DEFAULT_FRACTIONS, fingerprint, make_split, write_split
from aiderm_trainer.data.table import SPLITS, Row, Split

_LISTED: Final = 10
_DOMAIN_SIZE: Final = 224  # side of the images that domains are found from


@dataclass(frozen=True)
class PrepareReport:
    """The findings and decisions of ``prepare``.

    Attributes:
        data: the folder that the split's paths are relative to.
        out: the SPLIT.csv.
        fingerprint: sha256 of SPLIT.csv.
        rows: the rows of the split.
        unreadable: files that were left out because they cannot be decoded.
        undiagnosed: images of a table that were left out because it gives no diagnosis for them.
        repeated: paths left out because another path has the same bytes and the same label.
        contradictory: paths left out because identical files have both labels.
        near_duplicates: pairs of paths that show the same scene, whether or not they were already in one group.
        joined_groups: by how much equal bytes and near-duplicates lowered the number of groups.
        mixed_groups: groups that hold benign and malignant images; they are kept, for the user to check.
    """

    data: Path
    out: Path
    fingerprint: str
    rows: list[Row]
    unreadable: list[Unreadable]
    undiagnosed: list[str]
    repeated: list[str]
    contradictory: list[str]
    near_duplicates: list[tuple[str, str]]
    joined_groups: int
    mixed_groups: list[str]

    def counts(self) -> dict[tuple[str, bool, Split], int]:
        """Images by source, malignant and split."""
        counted: Counter[tuple[str, bool, Split]] = Counter()
        for row in self.rows:
            if row.split:
                counted[row.source, row.malignant, row.split] += 1
        return dict(counted)

    def __rich__(self) -> RenderableType:
        table = Table(title=f"{len(self.rows)} images, {len({row.group for row in self.rows})} groups: {self.out}")
        for heading in ("source", "label"):
            table.add_column(heading)
        for heading in (*SPLITS, "all"):
            table.add_column(heading, justify="right")
        counts = self.counts()
        for source, malignant in sorted({(source, malignant) for source, malignant, _ in counts}):
            cells = [counts.get((source, malignant, split), 0) for split in SPLITS]
            table.add_row(source, "malignant" if malignant else "benign", *map(str, cells), str(sum(cells)))
        table.add_section()
        totals = [sum(count for (_, _, split), count in counts.items() if split == side) for side in SPLITS]
        table.add_row("all", "", *map(str, totals), str(sum(totals)))
        domains = Table(title="labels by domain")
        for heading in ("domain", "benign", "malignant", "biopsied or malignant", ""):
            domains.add_column(heading, justify="left" if heading in ("domain", "") else "right")
        for labels in labels_by_domain(self.rows):
            warning = "gives the label away" if labels.gives_label_away else ""
            domains.add_row(labels.domain, str(labels.benign), str(labels.malignant), str(labels.biopsied), warning)
        lines = [f"near-duplicate pairs: {len(self.near_duplicates)}; groups joined: {self.joined_groups}"]
        lines += _listing("unreadable, left out", [f"{item.path}: {item.reason}" for item in self.unreadable])
        lines += _listing("without a diagnosis, left out", self.undiagnosed)
        lines += _listing("same bytes as another image, left out", self.repeated)
        lines += _listing("same bytes with both labels, left out", self.contradictory)
        lines += _listing("groups with both labels, kept", self.mixed_groups)
        if telling := [labels.domain for labels in labels_by_domain(self.rows) if labels.gives_label_away]:
            lines.append(
                f"warning: {', '.join(telling)}: nearly all images have one label, so a model can answer by recognising the "
                "camera. Train with --balance domain and --domain-offset 1"
            )
        lines.append(f"sha256 of the split: {self.fingerprint}")
        return Group(table, domains, Text("\n".join(lines)))


def _listing(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    rest = [f"  ... and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return [f"{what}: {len(items)}", *(f"  {item}" for item in items[:_LISTED]), *rest]


def prepare(
    data: Path,
    out: Path,
    columns: Columns = USUAL_COLUMNS,
    *,
    positive: Sequence[str] = (),
    seed: int = 0,
    fractions: Mapping[Split, float] = DEFAULT_FRACTIONS,
    near_duplicates: bool = True,
    embed: Embed | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Writes SPLIT.csv for a folder tree or a table.

    Args:
        data: a folder ``split/class/*.jpg`` or ``class/*.jpg``, or a CSV table of paths and labels.
        out: the SPLIT.csv to write; replaced in one step.
        columns: the table's columns. For images of unknown domain, one is found (see ``domains``).
        positive: classes that count as malignant. If given, any class name is accepted, and all other classes count as benign.
        seed: another seed gives another split.
        fractions: share of each split.
        near_duplicates: also joins the groups of images that show the same scene.
        embed: uint8 ``[N, 224, 224, 3]`` -> ``[N, D]``; if given, zoomed and freely rotated copies are found as well.
        progress: shows a progress bar.

    Returns:
        The report; print it with rich.

    Raises:
        IndexingError: the data cannot be indexed, no image is left, or a positive class has no images.
        SplitError: the fractions are invalid.
    """
    found = index(data, columns, classify=with_positive(positive) if positive else parse_class, progress=progress)
    kept, repeated, contradictory = _without_repeats(found)
    _check_classes(data, found, positive, kept, contradictory)
    pairs = _copies(found, kept, embed, progress) if near_duplicates else []
    # All rows take part, so that a copy that is left out still links its groups.
    joined = join_groups(found.rows, pairs)
    rows = make_split([joined[position] for position in kept], fractions, seed)
    unknown = Images([row for row in rows if not row.domain], found.root, _DOMAIN_SIZE, budget=0)
    rows = with_domains(rows, (image for batch in unknown.batches(64) for image in batch))
    write_split(out, rows)
    labels: dict[str, set[bool]] = {}
    for row in rows:
        labels.setdefault(row.group, set()).add(row.malignant)
    before = len({found.rows[position].group for position in kept})
    return PrepareReport(
        data=found.root,
        out=out,
        fingerprint=fingerprint(out),
        rows=rows,
        unreadable=found.unreadable,
        undiagnosed=found.undiagnosed,
        repeated=repeated,
        contradictory=contradictory,
        near_duplicates=[(found.rows[first].path, found.rows[second].path) for first, second in pairs],
        joined_groups=before - len(labels),
        mixed_groups=sorted(group for group, both in labels.items() if len(both) > 1),
    )


def _check_classes(data: Path, found: Index, positive: Sequence[str], kept: Sequence[int], contradictory: Sequence[str]) -> None:
    there = {row.dx for row in found.rows}
    missing = [name for name in positive if class_id(name) not in there]
    if missing:
        raise IndexingError(f"{data} has no image of: {', '.join(missing)}; it has: {', '.join(sorted(there))}")
    if not kept:
        reasons = f"{len(found.unreadable)} are unreadable, {len(contradictory)} have both labels"
        raise IndexingError(f"{data}: no image is left; {reasons}")


def _copies(found: Index, kept: Sequence[int], embed: Embed | None, progress: bool) -> list[tuple[int, int]]:
    """Returns the pairs of rows that show the same scene, by their positions, in order."""
    pairs = {(p.first, p.second) for p in find_near_duplicates(found.thumbnails[np.array(kept)], progress=progress)}
    if embed is not None:
        pairs |= set(aligned_pairs([found.rows[position] for position in kept], found.root, embed, progress=progress))
    return [(kept[first], kept[second]) for first, second in sorted(pairs)]


def _without_repeats(found: Index) -> tuple[list[int], list[str], list[str]]:
    """Keeps one row per distinct file. Returns the kept positions, and the paths of repeated and of contradictory images."""
    repeated: list[str] = []
    contradictory: list[str] = []
    for members in same_files(found.rows):
        if len({row.malignant for row in members}) > 1 or len({row.dx for row in members if row.dx}) > 1:
            contradictory += [row.path for row in members]
            continue
        # Prefer the copy on a fixed side, then the one whose diagnosis is known.
        best = min(members, key=lambda row: (-SPLITS.index(row.split) if row.split else 0, not row.dx, row.path))
        repeated += [row.path for row in members if row is not best]
    gone = {*repeated, *contradictory}
    kept = [position for position, row in enumerate(found.rows) if row.path not in gone]
    return kept, sorted(repeated), sorted(contradictory)
