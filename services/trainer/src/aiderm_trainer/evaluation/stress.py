"""Measures whether the model looks at the lesion or at the camera, by adding artefacts to test images and comparing answers.

The images and labels are the same with and without artefacts, so every comparison is paired (Maron et al. 2021,
doi:10.1016/j.ejca.2021.06.047, measured such brittleness for skin lesions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiderm_core.bundle.manifest import Input, Manifest, Metric
from aiderm_core.decision import Decision
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.quality import measurements
from aiderm_core.runtime import Outputs, Runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import drawn_artefacts, metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.cohorts import decisions
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import ScoredSplit, Scores

BATCH = 32
WORKERS = 4
MAX_SIDE = 512  # larger regions are shrunk before they are drawn on: every default model input is smaller
SAMPLE_SEED = 20_190_616

Pixels = NDArray[np.uint8]

DEFINITIONS = {
    "roc_auc": "ROC AUC with the artefact",
    "auc_loss": "ROC AUC without the artefact minus ROC AUC with it, on the same images",
    "flipped": "share of images whose malignancy moves to the other side of the threshold",
    "flipped_answers": "share of images that go from suspicious to low suspicion or back, both answered",
    "decision_changed": "share of images whose decision is another of the four, uncertain and rejected included",
    "newly_rejected": "share of images that are rejected with the artefact and were not without it",
}


class Stress(ReportPart):
    """How artefacts change the answers.

    Attributes:
        split: the split that the images are from.
        count: images, the same for each artefact.
        artefacts: name -> metric of ``DEFINITIONS`` -> value with its group-bootstrap interval.
    """

    split: str
    count: int
    artefacts: dict[str, dict[str, Metric]]


def measure_stress(
    of: ScoredSplit,
    *,
    images: int | None = None,
    names: Sequence[str] = tuple(drawn_artefacts.ARTEFACTS),
    replicates: int,
    seed: int,
    progress: bool = True,
) -> Stress:
    """Draws each artefact on each image, scores the result with the serving code, and compares.

    Args:
        of: the split, with its scores without artefacts.
        images: at most this many, in whole groups drawn at random with a fixed seed; all when None.
        names: artefacts to draw.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.
        progress: whether to draw a bar on standard error.

    Raises:
        ValueError: no rows of that split, or without both labels.
    """
    runtime, scores, root, manifest, split = of
    base = scores.take(sample(scores.rows, split, images))
    malignant = np.array([row.malignant for row in base.rows])
    if len(np.unique(malignant)) != 2:
        raise ValueError(f"stress needs benign and malignant {split} images. Received: {len(base.rows)} images of one label")
    spec, total = manifest.input, (len(names) + 1) * len(base.rows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: dict[str, dict[str, Metric]] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("Stress", total=total)
        pixels, shrunk = _working_pixels(base.rows, root, spec)
        bar.advance(task, len(base.rows))
        if shrunk:  # then the unchanged images are scored the same way, so that only the artefact differs
            base = _rescored(runtime, base, pixels, spec, lambda row, square: square)
        for name in names:
            stressed = _rescored(runtime, base, pixels, spec, _drawn(name))
            found[name] = compare(base, stressed, manifest, replicates, seed)
            bar.advance(task, len(base.rows))
    return Stress(split=split, count=len(base.rows), artefacts=found)


def _drawn(name: str) -> Callable[[Row, Pixels], Pixels]:
    return lambda row, square: drawn_artefacts.apply(name, square, row.sha256)


def sample(rows: Sequence[Row], split: str, images: int | None) -> NDArray[np.intp]:
    """Indices of a split's rows, or of a fixed random sample of whole groups of at most ``images`` rows.

    Raises:
        ValueError: no such rows, or ``images`` below 1.
    """
    index = np.array([i for i, row in enumerate(rows) if (row.split or split) == split], np.intp)
    if not len(index):
        raise ValueError(f"there are no {split} images to add artefacts to")
    if images is None or len(index) <= images:
        return index
    if images < 1:
        raise ValueError(f"there must be at least 1 image. Received: {images}")
    groups = np.array([rows[i].group for i in index])
    chosen: list[int] = []
    for group in np.random.default_rng(SAMPLE_SEED).permutation(np.unique(groups)):
        members = index[groups == group]
        if len(chosen) + len(members) <= images:
            chosen.extend(int(i) for i in members)
    return np.array(sorted(chosen), np.intp)


def compare(base: Scores, stressed: Scores, manifest: Manifest, replicates: int, seed: int) -> dict[str, Metric]:
    """Computes the metrics of ``DEFINITIONS`` for answers with and without an artefact on the same rows."""
    malignant = np.array([bool(row.malignant) for row in base.rows])
    groups = [row.group for row in base.rows]
    before, after = decisions(base, manifest), decisions(stressed, manifest)
    threshold = manifest.decision.threshold
    suspicious, cleared, rejected = Decision.SUSPICIOUS.value, Decision.LOW_SUSPICION.value, Decision.REJECTED.value
    shares = {
        "flipped": (base.malignancy >= threshold) != (stressed.malignancy >= threshold),
        "flipped_answers": ((before == suspicious) & (after == cleared)) | ((before == cleared) & (after == suspicious)),
        "decision_changed": before != after,
        "newly_rejected": (before != rejected) & (after == rejected),
    }

    def statistic(weights: metrics.Floats) -> Mapping[str, metrics.Floats]:
        with_it = metrics.roc_auc(malignant, stressed.malignancy, weights)
        without = metrics.roc_auc(malignant, base.malignancy, weights)
        return {
            "roc_auc": with_it,
            "auc_loss": without - with_it,
            **{name: metrics.share(flags, weights) for name, flags in shares.items()},
        }

    trials = len(set(groups))
    found = bootstrap(groups, statistic, replicates, seed)
    return {name: (of.of_trials(trials) if name in shares else of).metric() for name, of in found.items()}


def _working_pixels(rows: Sequence[Row], root: Path, spec: Input) -> tuple[list[Pixels], bool]:
    """Returns the assessed squares, at most ``MAX_SIDE`` wide, and whether any had to be shrunk."""

    def load(row: Row) -> tuple[Pixels, bool]:
        pixels = decode_image((root / row.path).read_bytes(), size=spec.size).pixels
        square = crop(pixels, assessed_region(pixels.shape[1], pixels.shape[0], spec.geometry))
        if len(square) > MAX_SIDE:
            return to_model_input(square, MAX_SIDE), True
        return np.ascontiguousarray(square), False

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="decode") as pool:
        loaded = list(pool.map(load, rows))
    return [pixels for pixels, _ in loaded], any(shrunk for _, shrunk in loaded)


def _rescored(
    runtime: Runtime, base: Scores, pixels: Sequence[Pixels], spec: Input, change: Callable[[Row, Pixels], Pixels]
) -> Scores:
    """Scores the changed images; the measured resolution stays that of the file."""

    def prepare(number: int) -> tuple[Pixels, dict[str, float]]:
        square = change(base.rows[number], pixels[number])
        kept = {name: value for name, value in base.measures[number].items() if name == "resolution"}
        return to_model_input(square, spec.size), measurements.measure(square) | kept

    outputs: list[Outputs] = []
    measures: list[dict[str, float]] = []
    for batch in batched(prefetch(prepare, range(len(pixels)), workers=WORKERS, ahead=2 * BATCH), BATCH):
        outputs.append(runtime.run(np.stack([image for image, _ in batch])))
        measures.extend(measured for _, measured in batch)
    return replace(
        base,
        probability=np.concatenate([out.probability for out in outputs]),
        malignancy=np.concatenate([out.malignancy for out in outputs]),
        novelty=np.concatenate([out.novelty for out in outputs]),
        measures=measures,
    )
