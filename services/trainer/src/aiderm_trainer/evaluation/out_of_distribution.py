"""Measures how many out-of-distribution images of a folder a bundle accepts, and how well novelty separates them from lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.decision import Decision, decide
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.prefetch import batched, prefetch
from aiderm_core.quality import measurements
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.sources.folders import IMAGE_SUFFIXES
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.report_part import ReportPart
from aiderm_trainer.evaluation.scores import DECODERS, Scores
from aiderm_trainer.evaluation.stress import BATCH


class OutOfDistribution(ReportPart):
    """Results for a folder of images without a dermoscopic lesion.

    Attributes:
        count: images that could be decoded.
        undecodable: files that the service would refuse before the model sees them.
        accepted: share that is not rejected, with the Clopper-Pearson interval.
        auroc: AUROC of novelty for these images against the lesions, with its bootstrap interval.
        lesions_rejected: share of lesions that the same rules reject.
    """

    count: int
    undecodable: int
    accepted: Metric
    auroc: Metric
    lesions_rejected: Metric


def measure_out_of_distribution(
    runtime: Runtime, scores: Scores, manifest: Manifest, folder: Path, *, replicates: int, seed: int
) -> OutOfDistribution:
    """Scores every image under ``folder``.

    Args:
        runtime: the bundle's graph.
        scores: its answers on lesions.
        manifest: the bundle's manifest.
        folder: folder of images, searched recursively.
        replicates: bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        ValueError: the folder holds no image that can be decoded.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    spec = manifest.input

    def load(number: int) -> tuple[NDArray[np.uint8], dict[str, float]] | None:
        try:
            image = decode_image(files[number].read_bytes(), size=spec.size)
        except ImageError:
            return None
        height, width = image.pixels.shape[:2]
        region = crop(image.pixels, assessed_region(width, height, spec.geometry))
        measures = measurements.measure(region, resolution=min(image.width, image.height))
        return to_model_input(image.pixels, spec.size, spec.geometry), measures

    novelty: list[float] = []
    accepted = 0
    for batch in batched(prefetch(load, range(len(files)), workers=DECODERS, ahead=2 * BATCH), BATCH):
        ready = [item for item in batch if item is not None]
        if not ready:
            continue
        answer = runtime.run(np.stack([image for image, _ in ready]))
        novelty.extend(float(value) for value in answer.novelty)
        for i, (_, measures) in enumerate(ready):
            said = decide(float(answer.malignancy[i]), float(answer.novelty[i]), measures, (), manifest)
            accepted += said.decision is not Decision.REJECTED
    if not novelty:
        raise ValueError(f"{folder} holds no image that can be decoded. Received: {len(files)} files")
    far = [
        decide(float(p), float(d), measures, (), manifest).decision is Decision.REJECTED
        for p, d, measures in zip(scores.malignancy, scores.novelty, scores.measures, strict=True)
    ]
    outside = np.array([True] * len(novelty) + [False] * len(scores.rows))
    value = np.concatenate([np.array(novelty), scores.novelty.astype(np.float64)])
    groups = [f"outside {i}" for i in range(len(novelty))] + [f"lesion {row.group}" for row in scores.rows]
    found = bootstrap(groups, lambda weights: {"auroc": metrics.roc_auc(outside, value, weights)}, replicates, seed)["auroc"]
    return OutOfDistribution(
        count=len(novelty),
        undecodable=len(files) - len(novelty),
        accepted=_proportion(accepted, len(novelty)),
        auroc=found.metric(),
        lesions_rejected=_proportion(sum(far), len(far)),
    )


def _proportion(successes: int, trials: int) -> Metric:
    interval = stats.binomtest(successes, trials).proportion_ci(method="exact")
    return Metric(value=successes / trials, ci95=(float(interval.low), float(interval.high)))
