"""Checks a split for leaks by comparing the images themselves, not only what the table says about them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_trainer.data.alignment import SIDE, find_aligned, grey_image, nearest
from aiderm_trainer.data.duplicates import find_near_duplicates, join_groups
from aiderm_trainer.data.sources.index import look
from aiderm_trainer.data.split import LeakError, SplitError
from aiderm_trainer.data.table import SPLITS, Row, as_split

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
NAMED = 20
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Leak:
    """Two images that belong together but are on different sides of the split; ``kind`` is group, file or near-duplicate."""

    kind: str
    first: Row
    second: Row

    def __str__(self) -> str:
        sides = (f"{row.path} in {row.split or 'none'}" for row in (self.first, self.second))
        return f"{self.kind}: {' and '.join(sides)}"


def find_leaks(rows: Sequence[Row], root: Path, *, embed: Embed | None = None, progress: bool = True) -> list[Leak]:
    """Finds images on different sides of the split that are the same file, in the same group, or near-duplicates.

    Args:
        rows: the rows of the split.
        root: folder that their paths are relative to.
        embed: uint8 ``[N, 224, 224, 3]`` -> ``[N, D]``; if given, zoomed and rotated copies are searched for as well.
        progress: shows progress bars.

    Returns:
        The leaks: groups, then files, then near-duplicates; each pair occurs once.

    Raises:
        SplitError: an image is missing, unreadable, or not the file that the table describes.
    """
    shas, thumbnails = _read(rows, root, progress)
    leaks: dict[tuple[int, int], str] = {}
    for kind, keys in (("group", [row.group for row in rows]), ("file", shas)):
        for first, second in _across(rows, keys):
            leaks.setdefault((first, second), kind)
    pairs = [(pair.first, pair.second) for pair in find_near_duplicates(thumbnails, progress=progress)]
    if embed is not None:
        pairs += aligned_pairs(rows, root, embed, progress=progress, skip=lambda a, b: rows[a].split == rows[b].split)
    for first, second in pairs:
        if rows[first].split != rows[second].split:
            leaks.setdefault((first, second), "near-duplicate")
    order = ("group", "file", "near-duplicate")
    ordered = sorted(leaks.items(), key=lambda item: (order.index(item[1]), item[0]))
    return [Leak(kind, rows[first], rows[second]) for (first, second), kind in ordered]


def check_images(rows: Sequence[Row], root: Path, *, embed: Embed | None = None, progress: bool = True) -> None:
    """Raises an error if ``find_leaks`` finds any leak.

    Raises:
        LeakError: there are leaks; the message lists the first ones.
        SplitError: an image is missing, unreadable, or not the file that the table describes.
    """
    leaks = find_leaks(rows, root, embed=embed, progress=progress)
    if leaks:
        rest = [f"... and {len(leaks) - NAMED} more"] if len(leaks) > NAMED else []
        listed = "\n".join(["", *map(str, leaks[:NAMED]), *rest])
        raise LeakError(f"{len(leaks)} pair(s) of images are on different sides of the split:{listed}")


def repaired(rows: Sequence[Row], pairs: Sequence[tuple[int, int]]) -> list[Row]:
    """Repairs a split: images that belong together become one group on one side.

    A merged group moves to the earliest of train, validation, calibration and test that held one of its images. So the later
    sides hold nothing that an existing model was trained or selected on, and the new split can evaluate that model.

    Args:
        rows: the rows of a split.
        pairs: positions of images that belong together.

    Returns:
        The rows in their original order, with groups and sides changed.
    """
    joined = join_groups(rows, pairs)
    side: dict[str, str] = {}
    for row in joined:
        here = side.get(row.group)
        if here is None or SPLITS.index(as_split(row.split)) < SPLITS.index(as_split(here)):
            side[row.group] = row.split
    return [replace(row, split=as_split(side[row.group])) for row in joined]


def aligned_pairs(
    rows: Sequence[Row],
    root: Path,
    embed: Embed,
    *,
    progress: bool = True,
    skip: Callable[[int, int], bool] = lambda first, second: False,
) -> list[tuple[int, int]]:
    """Finds pairs of images that can be aligned, among those whose embeddings are similar.

    Args:
        rows: images that can be read.
        root: folder that their paths are relative to.
        embed: see ``find_leaks``.
        progress: shows progress bars.
        skip: returns whether a pair of positions needs no comparison.
    """
    parts = []
    for start in track(range(0, len(rows), _BATCH), "embedding images", disable=not progress):
        images = [_pixels(row, root) for row in rows[start : start + _BATCH]]
        parts.append(embed(np.stack([to_model_input(pixels, SIDE) for pixels in images])))
    if not parts:
        return []
    candidates = [pair for pair in nearest(np.concatenate(parts)) if not skip(*pair)]
    found = find_aligned(lambda position: grey_image(_pixels(rows[position], root)), candidates, progress=progress)
    return [(pair.first, pair.second) for pair in found]


def _pixels(row: Row, root: Path) -> NDArray[np.uint8]:
    return decode_image((root / row.path).read_bytes()).pixels


def _read(rows: Sequence[Row], root: Path, progress: bool) -> tuple[list[str], NDArray[np.uint8]]:
    """Reads the current checksums and thumbnails of the files."""
    shas, thumbnails, problems = [], [], []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        looks = pool.map(look, [root / row.path for row in rows])
        for row, seen in zip(rows, track(looks, "reading images", total=len(rows), disable=not progress), strict=True):
            if isinstance(seen, str):
                problems.append(f"{row.path}: {seen}")
                continue
            if seen[0] != row.sha256:
                problems.append(f"{row.path}: another file than the table's")
            shas.append(seen[0])
            thumbnails.append(seen[1])
    if problems:
        raise SplitError(f"{len(problems)} of {len(rows)} images differ from the split. First: {'; '.join(problems[:5])}")
    return shas, np.stack(thumbnails)


def _across(rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[int, int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        members[key].append(position)
    return [
        (first, second)
        for positions in members.values()
        if len({rows[position].split for position in positions}) > 1
        for first, second in combinations(positions, 2)
        if rows[first].split != rows[second].split
    ]
