"""Runs a bundle on a table of images, through the same code path as serving."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiderm_core.bundle.manifest import Input, Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.quality import measurements
from aiderm_core.runtime import Outputs, Runtime
from aiderm_trainer.data.table import Row

NAMED_PROBLEMS = 5
DECODERS = 4


class ScoringError(ValueError):
    """Images cannot be scored, or answers are not finite."""


@dataclass(frozen=True)
class Scores:
    """A bundle's answers, row by row.

    Attributes:
        rows: N rows of the table.
        probability: ``[N, C]`` in the manifest's label order.
        malignancy: ``[N]``, 0..1.
        novelty: ``[N]``.
        measures: N mappings with the quality metrics of the assessed region.
    """

    rows: list[Row]
    probability: NDArray[np.float32]
    malignancy: NDArray[np.float32]
    novelty: NDArray[np.float32]
    measures: list[dict[str, float]]

    def __post_init__(self) -> None:
        lengths = [len(part) for part in (self.rows, self.probability, self.malignancy, self.novelty, self.measures)]
        if len(set(lengths)) != 1 or self.probability.ndim != 2 or self.malignancy.ndim != 1 or self.novelty.ndim != 1:
            raise ValueError(f"scores must be [N, C], [N], [N] and N measures for N rows. Received lengths: {lengths}")

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> Scores:
        """The rows at ``index``, in that order."""
        picked = np.asarray(index, dtype=np.intp)
        return Scores(
            [self.rows[i] for i in picked],
            self.probability[picked],
            self.malignancy[picked],
            self.novelty[picked],
            [self.measures[i] for i in picked],
        )


class ScoredSplit(NamedTuple):
    """The images of one split with a bundle's scores: the input of every examination in a report.

    Attributes:
        runtime: the bundle's graph.
        scores: its answers; rows of other splits are allowed.
        root: folder of the images.
        manifest: the bundle's manifest.
        split: the split that is examined.
    """

    runtime: Runtime
    scores: Scores
    root: Path
    manifest: Manifest
    split: str


def score_bundle(
    runtime: Runtime,
    manifest_input: Input,
    rows: Sequence[Row],
    data_root: Path,
    batch: int = 32,
    *,
    progress: bool = True,
) -> Scores:
    """Reads, decodes and scores every row's image through ``aiderm_core`` alone.

    Args:
        runtime: the loaded graph.
        manifest_input: size and geometry that the graph was made for.
        rows: rows to score; ``path`` is relative to ``data_root``.
        data_root: the data folder.
        batch: images per call of the graph.
        progress: whether to draw a bar on standard error.

    Raises:
        ScoringError: no rows; images that are missing, unreadable or not those of the table (all are counted and the first
            few named; none is skipped silently); or answers that are not finite.
    """
    if not rows:
        raise ScoringError("there are no rows to score")
    if batch < 1:
        raise ValueError(f"batch must be at least 1. Received: {batch}")
    outputs: list[Outputs] = []
    measures: list[dict[str, float]] = []
    problems: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    def load(row: Row) -> _Loaded | str:
        return _load(row, data_root, manifest_input)

    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("Scoring", total=len(rows))
        for loaded in batched(prefetch(load, rows, workers=DECODERS, ahead=2 * batch), batch):
            problems.extend(item for item in loaded if isinstance(item, str))
            if not problems:  # after a problem, only the check of the images continues
                ready = [item for item in loaded if not isinstance(item, str)]
                outputs.append(runtime.run(np.stack([pixels for pixels, _ in ready])))
                measures.extend(metrics for _, metrics in ready)
            bar.advance(task, len(loaded))
    if problems:
        named = "; ".join(problems[:NAMED_PROBLEMS])
        more = f"; and {len(problems) - NAMED_PROBLEMS} more" if len(problems) > NAMED_PROBLEMS else ""
        raise ScoringError(f"{len(problems)} of {len(rows)} images cannot be scored: {named}{more}")
    scores = Scores(
        list(rows),
        np.concatenate([out.probability for out in outputs]),
        np.concatenate([out.malignancy for out in outputs]),
        np.concatenate([out.novelty for out in outputs]),
        measures,
    )
    for name in ("probability", "malignancy", "novelty"):
        broken = int((~np.isfinite(getattr(scores, name).reshape(len(rows), -1)).all(axis=1)).sum())
        if broken:
            raise ScoringError(f"the graph's {name} is not finite for {broken} of {len(rows)} images")
    return scores


_Loaded = tuple[NDArray[np.uint8], dict[str, float]]


def _load(row: Row, data_root: Path, spec: Input) -> _Loaded | str:
    """Returns the model's input and the quality metrics of one image, or a text that says what is wrong with it."""
    try:
        data = (data_root / row.path).read_bytes()
    except OSError as error:
        return f"{row.path}: {error.strerror or error}"
    digest = hashlib.sha256(data).hexdigest()
    if digest != row.sha256:
        return f"{row.path}: another file than the table's (sha256 {digest[:12]}, expected {row.sha256[:12]})"
    try:
        image = decode_image(data, size=spec.size)
    except ImageError as error:
        return f"{row.path}: {error.code}, {error.detail}"
    height, width = image.pixels.shape[:2]
    region = crop(image.pixels, assessed_region(width, height, spec.geometry))
    measures = measurements.measure(region, resolution=min(image.width, image.height))
    return to_model_input(image.pixels, spec.size, spec.geometry), measures
