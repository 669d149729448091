"""Measures whether the answer depends on how the camera was turned; a photograph of a lesion has no correct orientation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.decision import Decision
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.runtime import Outputs
from aiderm_core.tta import VIEWS, views
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.cohorts import decisions
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import DECODERS, ScoredSplit, Scores
from aiderm_trainer.evaluation.stress import sample

BATCH = 8  # images per call, each in eight orientations

DEFINITIONS = {
    "side_depends": "share of images that lie above the threshold in one orientation and below it in another",
    "decision_depends": "share of images whose decision depends on the orientation, uncertain and rejected included",
    "both_answers": "share of images that get low suspicion in one orientation and suspicious in another",
    "spread": "mean difference between the highest and the lowest malignancy of one image",
}


class OrientationReport(ReportPart):
    """Answers for the same images in the eight orientations of the square; ``metrics``: see ``DEFINITIONS``."""

    split: str
    count: int
    metrics: dict[str, Metric]


def measure_orientations(
    of: ScoredSplit,
    *,
    images: int | None = None,
    replicates: int,
    seed: int,
    progress: bool = True,
) -> OrientationReport:
    """Turns and mirrors images of a split and compares the answers.

    Args:
        of: the scored split.
        images: at most this many, in whole groups drawn at random with a fixed seed; all when None.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.
        progress: whether to draw a bar on standard error.

    Raises:
        ValueError: no rows of that split.
    """
    runtime, scores, root, manifest, split = of
    base = scores.take(sample(scores.rows, split, images))
    spec = manifest.input

    def load(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        pixels = decode_image((root / base.rows[number].path).read_bytes(), size=spec.size).pixels
        return to_model_input(pixels, spec.size, spec.geometry)

    outputs: list[Outputs] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("Orientations", total=len(base.rows))
        for batch in batched(prefetch(load, range(len(base.rows)), workers=DECODERS, ahead=2 * BATCH), BATCH):
            outputs.append(runtime.run(views(np.stack(batch))))
            bar.advance(task, len(batch))
    malignancy = np.concatenate([out.malignancy for out in outputs]).reshape(-1, VIEWS)
    probability = np.concatenate([out.probability for out in outputs]).reshape(len(base.rows), VIEWS, -1)
    novelty = np.concatenate([out.novelty for out in outputs]).reshape(-1, VIEWS)
    turned = [
        replace(base, probability=probability[:, view], malignancy=malignancy[:, view], novelty=novelty[:, view])
        for view in range(VIEWS)
    ]
    return OrientationReport(split=split, count=len(base.rows), metrics=compare_orientations(turned, manifest, replicates, seed))


def compare_orientations(turned: list[Scores], manifest: Manifest, replicates: int, seed: int) -> dict[str, Metric]:
    """Computes the metrics of ``DEFINITIONS`` for answers on the same N rows in several orientations."""
    malignancy = np.stack([scores.malignancy for scores in turned], axis=1).astype(np.float64)
    said = np.stack([decisions(scores, manifest) for scores in turned], axis=1)
    above = malignancy >= manifest.decision.threshold
    shares = {
        "side_depends": above.any(axis=1) & ~above.all(axis=1),
        "decision_depends": (said != said[:, :1]).any(axis=1),
        "both_answers": (said == Decision.SUSPICIOUS.value).any(axis=1) & (said == Decision.LOW_SUSPICION.value).any(axis=1),
    }
    spread = np.ptp(malignancy, axis=1)
    groups = [row.group for row in turned[0].rows]

    def statistic(weights: metrics.Floats) -> dict[str, metrics.Floats]:
        out = {name: metrics.share(flags, weights) for name, flags in shares.items()}
        return out | {"spread": metrics.ratio(weights @ spread, weights.sum(axis=1))}

    trials = len(set(groups))
    found = bootstrap(groups, statistic, replicates, seed)
    return {name: (of.of_trials(trials) if name in shares else of).metric() for name, of in found.items()}
