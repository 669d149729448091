"""Assesses one image: decodes it, measures its quality, runs the model and decides. Every service assesses images with this."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import DecisionRule, Input, Manifest
from aiderm_core.decision import Verdict, decide
from aiderm_core.imaging.budget import Budget
from aiderm_core.imaging.decode import DecodePlan, decoding
from aiderm_core.imaging.geometry import Region, assessed_region, crop, to_model_input
from aiderm_core.imaging.image import ImageInfo
from aiderm_core.imaging.limits import Limits
from aiderm_core.most_likely import MostLikely, most_likely
from aiderm_core.quality import measurements
from aiderm_core.runtime import Hint, Outputs, Runtime

# Outputs are sums of float32: up to this distance outside 0..1 is rounding; beyond it, the graph is broken.
ROUNDING = 1e-4


class BrokenOutputError(RuntimeError):
    """A model's outputs are not probabilities and must not be served."""


@dataclass(frozen=True)
class Seconds:
    """Seconds that each stage took."""

    decode: float
    quality: float
    forward: float


@dataclass(frozen=True)
class ImageAssessment:
    """The assessment of one image.

    Attributes:
        image: format, size and notes on decoding.
        region: the part of the upright image that was assessed.
        measures: values of ``measurements.METRICS``.
        warnings: for measures beyond the manifest's limits.
        probabilities: ``[C]``, 0..1, in the manifest's label order.
        malignancy: 0..1.
        most_likely: the class that fits best at even prevalence; None if the manifest has no class shares.
        novelty: distance from the training images, on the manifest's scale.
        heatmap: ``[h, w]``, 0..1.
        outline: ``[h, h]``, 0..1, the probability that each place lies inside the lesion; None if the graph has no such output.
        square: the model's input, uint8 ``[S, S, 3]``; ``aiderm_core.outline`` measures colours on it.
        verdict: the decision and its reasons.
        seconds: duration of each stage.
    """

    image: ImageInfo
    region: Region
    measures: dict[str, float]
    warnings: tuple[measurements.QualityWarning, ...]
    probabilities: NDArray[np.float32]
    malignancy: float
    most_likely: MostLikely | None
    novelty: float
    heatmap: NDArray[np.float32]
    outline: NDArray[np.float32] | None
    square: NDArray[np.uint8]
    verdict: Verdict
    seconds: Seconds


class _Prepared(NamedTuple):
    """A decoded image: its description, the assessed region, and the pixels for the model and for the measurements."""

    info: ImageInfo
    region: Region
    batch: NDArray[np.uint8]
    working: NDArray[np.uint8]


def assess(
    data: bytes,
    *,
    manifest: Manifest,
    runtime: Runtime,
    rule: DecisionRule,
    limits: Limits,
    before_inference: Callable[[], Hint] = lambda: "latency",
    budget: Budget | None = None,
    deadline: float | None = None,
    planned: DecodePlan | None = None,
) -> ImageAssessment:
    """Assesses one image.

    Args:
        data: a file's bytes.
        manifest: manifest of the model that ``runtime`` holds.
        runtime: scores uint8 ``[1, S, S, 3]``.
        rule: threshold and uncertain band of the variant that runs.
        limits: size limits for the image.
        before_inference: called before inference; returns how the graph should use the cores, and may raise to stop.
        budget: limits decoded bytes; held only until the model's input is ready.
        deadline: for waiting for the budget and for decoding, as ``time.monotonic`` counts.
        planned: result of ``decode.plan`` for the image at the model's size, if known already.

    Raises:
        ImageError: the image cannot be assessed.
        BudgetTimeoutError: the budget had no room before the deadline.
        DecodeTimeoutError: the image was not decoded before the deadline.
        BrokenOutputError: the graph's outputs are not valid.
    """
    start = time.perf_counter()
    image = _prepare(data, manifest.input, limits, budget, deadline, planned)
    decoded = time.perf_counter()
    measures = measurements.measure(image.working, image.working, min(image.region.width, image.region.height))
    warnings = measurements.warnings(measures, manifest.quality)
    measured = time.perf_counter()
    outputs = runtime.run(image.batch, before_inference())
    answered = time.perf_counter()
    checked = checked_outputs(outputs, len(manifest.labels))
    probabilities, malignancy, novelty = checked.probability[0], float(checked.malignancy[0]), float(checked.novelty[0])
    return ImageAssessment(
        image=image.info,
        region=image.region,
        measures=measures,
        warnings=warnings,
        probabilities=probabilities,
        malignancy=malignancy,
        most_likely=most_likely(probabilities, manifest),
        novelty=novelty,
        heatmap=outputs.heatmap[0],
        outline=None if outputs.outline is None else outputs.outline[0],
        square=image.batch[0],
        verdict=decide(malignancy, novelty, measures, warnings, manifest, rule),
        seconds=Seconds(decoded - start, measured - decoded, answered - measured),
    )


def _prepare(
    data: bytes, spec: Input, limits: Limits, budget: Budget | None, deadline: float | None, planned: DecodePlan | None
) -> _Prepared:
    with decoding(data, limits, spec.size, budget, deadline, planned) as image:
        info, region = image.info, assessed_region(image.width, image.height, spec.geometry)
        height, width = image.pixels.shape[:2]  # less than the image's size if it was decoded at a smaller scale
        square = crop(image.pixels, assessed_region(width, height, spec.geometry))
        batch = to_model_input(square, spec.size)[np.newaxis]
        # At the usual input size, model and measurements use the same pixels; scaling twice would take longer than measuring.
        same = spec.size == measurements.WORKING_SIZE
        working = batch[0] if same else to_model_input(square, measurements.WORKING_SIZE)
        del image, square  # the only references to the pixels
    return _Prepared(info, region, batch, working)


def checked_outputs(outputs: Outputs, classes: int) -> Outputs:
    """Returns a graph's answers with probabilities and malignancy clipped to 0..1, where rounding left them slightly outside.

    Raises:
        BrokenOutputError: an output is not finite, is not a probability, or has the wrong number of classes.
    """
    probability, malignancy, novelty = outputs.probability, outputs.malignancy, outputs.novelty
    maps = [drawn for drawn in (outputs.heatmap, outputs.outline) if drawn is not None]
    if probability.shape[1] != classes or not all(np.isfinite(values).all() for values in (novelty, *maps)):
        raise BrokenOutputError(f"expected {classes} finite numbers. Received: {probability}, novelty {novelty}")
    everything = np.append(probability, malignancy)
    if not (np.isfinite(everything).all() and everything.min() >= -ROUNDING and everything.max() <= 1 + ROUNDING):
        raise BrokenOutputError(f"probabilities must lie in 0..1. Received: {probability}, malignancy {malignancy}")
    return replace(outputs, probability=np.clip(probability, 0.0, 1.0), malignancy=np.clip(malignancy, 0.0, 1.0))
