"""Measures where the model looks: its heatmap against lesion outlines, and its answer once the lesion is painted over.

Bissoto et al. (CVPRW 2019 and 2020): a model that still predicts the label of an image without its lesion uses the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aiderm_core.bundle.manifest import Input, Metric
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.outline import largest_piece
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.painted_over import paint_over
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import ScoredSplit
from aiderm_trainer.evaluation.stress import BATCH, MAX_SIDE

WORKERS = 4
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")

Floats = metrics.Floats
Flags = NDArray[np.bool_]

DEFINITIONS = {
    "area_inside": "mean share of the image that lies inside the outline: what a heatmap without a view would have",
    "energy_inside": "mean share of the heatmap's energy inside the outline",
    "energy_inside_malignant": "the same, malignant lesions alone",
    "peak_inside": "share of images whose heatmap has its peak inside the outline",
    "peak_inside_malignant": "the same, malignant lesions alone",
    "roc_auc": "ROC AUC of the images as they are, of those that were painted over",
    "painted_roc_auc": "ROC AUC of the same images with the lesion painted over by skin; 0.5: nothing but the lesion counts",
    "dice": "mean Dice coefficient of the model's outline and the drawn one: twice the common area by the sum of both",
    "jaccard": "mean Jaccard coefficient of the two: common area by the area that either covers",
    "painted_suspicious": "share of the painted images with a malignancy at or above the threshold",
}


class OutlineError(ValueError):
    """An outline that cannot be read, or outlines that belong to no image."""


class OutlineReport(ReportPart):
    """Results on images with outlines.

    Attributes:
        split: the split that the images are from.
        count: images with an outline.
        blank: images among them whose heatmap is all zeros; the heatmap metrics leave them out.
        unpaintable: images with too little skin around the lesion to paint it over.
        painted: images that were painted over: the biopsied ones if it is known which those are, else all.
        biopsied_only: whether only biopsied lesions were painted over.
        metrics: see ``DEFINITIONS``, with group-bootstrap intervals; dice and jaccard only if the graph draws an outline.
        domains: domain -> dice and jaccard over its images.
    """

    split: str
    count: int
    blank: int
    unpaintable: int
    painted: int = 0
    biopsied_only: bool = False
    metrics: dict[str, Metric]
    domains: dict[str, dict[str, Metric]] = Field(default_factory=dict)


def find_outlines(folder: Path, rows: Sequence[Row]) -> dict[str, Path]:
    """Maps the path of each row to its outline, the file in ``folder`` with the same name apart from the suffix.

    ``NAME_segmentation.png``, the naming of the ISIC archive, is found too.

    Raises:
        OutlineError: no folder, or no row has an outline.
    """
    if not folder.is_dir():
        raise OutlineError(f"the outlines must be a folder of images. Received: {folder}")
    files = {
        path.stem.removesuffix("_segmentation"): path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES
    }
    found = {row.path: files[stem] for row in rows if (stem := Path(row.path).stem) in files}
    if not found:
        raise OutlineError(f"{folder} holds no outline NAME.png for any of {len(rows)} images. Received: {len(files)} files")
    return found


def read_outline(file: Path, width: int, height: int, geometry: str) -> Flags:
    """The outline on the assessed region of a ``width`` x ``height`` image, ``[side, side]``.

    The file may have any size. It covers the whole image, or only the assessed region if it is square.

    Raises:
        OutlineError: the file is not an image, or marks nothing.
    """
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise OutlineError(f"{file.name} is no image that can be read")
    region = assessed_region(width, height, geometry)
    if mask.shape[0] != mask.shape[1]:  # drawn on the whole image
        own = assessed_region(mask.shape[1], mask.shape[0], geometry)
        mask = mask[own.y : own.y + own.height, own.x : own.x + own.width]
    level = (mask > 0).astype(np.float32) if mask.max() < 128 else mask.astype(np.float32) / 255
    inside = cv2.resize(level, (region.width, region.height), interpolation=cv2.INTER_LINEAR) > 0.5
    if not inside.any():
        raise OutlineError(f"{file.name} marks no lesion")
    return np.asarray(inside, np.bool_)


def heat_inside(heatmap: NDArray[np.float32], outline: Flags) -> tuple[float, bool] | None:
    """Share of the heatmap's energy inside the outline, and whether its peak is inside; None for a heatmap of zeros.

    Args:
        heatmap: ``[h, w]``, not negative; enlarged as the service enlarges it for the page.
        outline: ``[S, S]``, True inside the lesion.
    """
    grown = cv2.resize(heatmap, outline.shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0)
    total = float(grown.sum(dtype=np.float64))
    if total <= 0:
        return None
    peak = np.unravel_index(int(grown.argmax()), grown.shape)
    return float(grown[outline].sum(dtype=np.float64)) / total, bool(outline[peak])


def measure_outlines(
    of: ScoredSplit,
    files: Mapping[str, Path],
    biopsied: Sequence[bool | None] | None = None,
    domains: Sequence[str] | None = None,
    *,
    replicates: int,
    seed: int,
) -> OutlineReport:
    """Scores every outlined image unchanged, for its heatmap, and the biopsied ones painted over as well.

    On all lesions the control means little: the outline's shape and position alone identify naevi that nobody biopsied.

    Args:
        of: the scored split.
        files: result of ``find_outlines``.
        biopsied: for each row of ``of.scores``; if no lesion is known to be biopsied, all are painted over.
        domains: for each row of ``of.scores``.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.

    Raises:
        OutlineError: no row of the split has an outline, or one cannot be read.
    """
    runtime, scores, root, manifest, split = of
    index = [i for i, row in enumerate(scores.rows) if (row.split or split) == split and row.path in files]
    rows = [scores.rows[i] for i in index]
    if not rows:
        raise OutlineError(f"no {split} image has an outline")
    was = [biopsied is not None and biopsied[i] is True for i in index]
    chosen = was if any(was) else [True] * len(rows)
    found = _Measured.empty(len(rows))
    at = 0

    def load(number: int) -> _Loaded:
        row = rows[number]
        return _load(row, files[row.path], root, manifest.input, chosen[number])

    for batch in batched(prefetch(load, range(len(rows)), workers=WORKERS, ahead=2 * BATCH), BATCH):
        found.add(at, batch, runtime)
        at += len(batch)
    return OutlineReport(
        split=split,
        count=len(rows),
        blank=int(np.isnan(found.energy).sum()),
        unpaintable=int(np.isnan(found.after[chosen]).sum()),
        painted=int((~np.isnan(found.after)).sum()),
        biopsied_only=any(was),
        metrics=_with_intervals(rows, found, manifest.decision.threshold, replicates, seed),
        domains=_by_domain(rows, [] if domains is None else [domains[i] for i in index], found, replicates, seed),
    )


def drawn(probability: NDArray[np.float32], side: int) -> Flags:
    """The model's outline as the service draws it: the largest piece, filled, bool ``[side, side]``."""
    inside = cv2.resize(probability, (side, side), interpolation=cv2.INTER_LINEAR) > 0.5
    found = largest_piece(inside)
    return np.zeros_like(inside) if found is None else found


def overlap(one: Flags, other: Flags) -> tuple[float, float]:
    """Dice and Jaccard coefficients of two masks of one shape; 1 where both are empty."""
    both, total = int(np.count_nonzero(one & other)), int(one.sum()) + int(other.sum())
    return (2 * both / total, both / (total - both)) if total else (1.0, 1.0)


# The model's input, the outline on the assessed region, and the input with the lesion painted over if wanted and possible.
_Loaded = tuple[NDArray[np.uint8], Flags, NDArray[np.uint8] | None]


@dataclass(frozen=True)
class _Measured:
    """Figures of N images, NaN where undefined, see ``DEFINITIONS``; malignancy ``before`` and ``after`` painting over."""

    dice: Floats
    jaccard: Floats
    area: Floats
    energy: Floats
    peak: Floats
    before: Floats
    after: Floats

    @classmethod
    def empty(cls, count: int) -> _Measured:
        return cls(*(np.full(count, np.nan) for _ in range(7)))

    def add(self, at: int, batch: Sequence[_Loaded], runtime: Runtime) -> None:
        """Runs the graph on a batch whose first image is number ``at``."""
        answer = runtime.run(np.stack([image for image, _, _ in batch]))
        paintable = [i for i, (_, _, painted) in enumerate(batch) if painted is not None]
        if paintable:
            images = np.stack([painted for _, _, painted in batch if painted is not None])
            self.after[[at + i for i in paintable]] = runtime.run(images).malignancy
            self.before[[at + i for i in paintable]] = answer.malignancy[paintable]
        for i, (_, outline, _) in enumerate(batch):
            self.area[at + i] = outline.mean()
            if answer.outline is not None:
                self.dice[at + i], self.jaccard[at + i] = overlap(drawn(answer.outline[i], len(outline)), outline)
            if (found := heat_inside(answer.heatmap[i], outline)) is not None:
                self.energy[at + i], self.peak[at + i] = found


def _load(row: Row, file: Path, root: Path, spec: Input, paint: bool) -> _Loaded:
    """Reads one image, see ``_Loaded``."""
    pixels = decode_image((root / row.path).read_bytes()).pixels
    height, width = pixels.shape[:2]
    outline = read_outline(file, width, height, spec.geometry)
    square = np.ascontiguousarray(crop(pixels, assessed_region(width, height, spec.geometry)))
    if len(square) > MAX_SIDE:
        square = to_model_input(square, MAX_SIDE)
        outline = cv2.resize(outline.astype(np.uint8), square.shape[1::-1], interpolation=cv2.INTER_AREA) > 0
    painted = paint_over(square, outline, int(row.sha256[:15], 16)) if paint else None
    return to_model_input(square, spec.size), outline, None if painted is None else to_model_input(painted, spec.size)


def _weighted_mean(values: Floats, among: Flags, weights: Floats) -> Floats:
    w = weights[:, among]
    return metrics.ratio(w @ values[among], w.sum(axis=1))


def _agreement(of: _Measured, weights: Floats, among: Flags | None = None) -> dict[str, Floats]:
    """Dice and Jaccard; empty if the graph draws no outlines."""
    outlined = ~np.isnan(of.dice) if among is None else ~np.isnan(of.dice) & among
    if not outlined.any():
        return {}
    return {name: _weighted_mean(getattr(of, name), outlined, weights) for name in ("dice", "jaccard")}


def _by_domain(
    rows: Sequence[Row], domains: Sequence[str], of: _Measured, replicates: int, seed: int
) -> dict[str, dict[str, Metric]]:
    groups, found = [row.group for row in rows], {}
    for domain in sorted(set(domains)):
        among = np.array([name == domain for name in domains])
        estimates = bootstrap(groups, partial(_agreement, of, among=among), replicates, seed)
        if estimates:
            found[domain] = {name: estimate.metric() for name, estimate in estimates.items()}
    return found


def _with_intervals(rows: Sequence[Row], of: _Measured, threshold: float, replicates: int, seed: int) -> dict[str, Metric]:
    malignant = np.array([bool(row.malignant) for row in rows])
    seen, painted = ~np.isnan(of.energy), ~np.isnan(of.after)
    mean = _weighted_mean

    def statistic(weights: Floats) -> dict[str, Floats]:
        out = {
            "area_inside": mean(of.area, np.ones_like(seen), weights),
            "energy_inside": mean(of.energy, seen, weights),
            "energy_inside_malignant": mean(of.energy, seen & malignant, weights),
            "peak_inside": mean(of.peak, seen, weights),
            "peak_inside_malignant": mean(of.peak, seen & malignant, weights),
            "painted_suspicious": mean((of.after >= threshold).astype(np.float64), painted, weights),
        }
        out |= _agreement(of, weights)
        if painted.any():
            out["roc_auc"] = metrics.roc_auc(malignant[painted], of.before[painted], weights[:, painted])
            out["painted_roc_auc"] = metrics.roc_auc(malignant[painted], of.after[painted], weights[:, painted])
        return out

    groups = [row.group for row in rows]
    sizes = {"peak_inside": seen, "peak_inside_malignant": seen & malignant, "painted_suspicious": painted}
    found = bootstrap(groups, statistic, replicates, seed)
    for name in sizes.keys() & found:
        found[name] = found[name].of_trials(len(set(np.array(groups)[sizes[name]])))
    return {name: estimate.metric() for name, estimate in found.items()}
