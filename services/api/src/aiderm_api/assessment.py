"""From the bytes of one picture to an Assessment: decode, measure, run, decide. Knows nothing of HTTP or queues."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_api import schemas
from aiderm_core import quality
from aiderm_core.decision import Decision, decide
from aiderm_core.imaging import Limits, crop, decode_image, judged_region, to_model_input
from aiderm_core.manifest import DecisionRule, Manifest, Thorough
from aiderm_core.runtime import Hint, Outputs, Runtime
from aiderm_core.thorough import ThoroughRuntime

# Outputs are sums of float32: this far outside 0..1 is rounding, further is a broken graph.
ROUNDING = 1e-4
PEAK_ALPHA = 200


class BrokenOutputError(RuntimeError):
    """A graph answered with something that must never be served."""


def assess(
    data: bytes,
    *,
    manifest: Manifest,
    runtime: Runtime,
    rule: DecisionRule,
    limits: Limits,
    explain: bool = False,
    thorough: Thorough | None = None,
    request_id: str = "",
    between: Callable[[], Hint] = lambda: "latency",
) -> schemas.Assessment:
    """Judges one picture.

    Args:
        data: a file's bytes.
        manifest: of the model that ``runtime`` holds.
        runtime: answers for uint8 ``[1, S, S, 3]``.
        rule: threshold and band of the form that runs; those of ``thorough`` stand in for them.
        limits: what a picture may measure.
        explain: draw the heatmap as well.
        thorough: judge the picture in eight orientations by this; the picture alone when None.
        request_id: goes into the answer.
        between: called between decoding and inference; says how the graph is to use the cores, or raises to stop there.

    Raises:
        ImageError: the picture cannot be judged.
        BrokenOutputError: the graph's answer is no probability.
    """
    start = time.perf_counter()
    if thorough is not None:
        runtime, rule = ThoroughRuntime(runtime, manifest.labels, thorough.pool), thorough.decision
    image = decode_image(data, limits, manifest.input.size)
    region = judged_region(image.width, image.height, manifest.input.geometry)
    batch = to_model_input(image.pixels, manifest.input.size, manifest.input.geometry)[np.newaxis]
    decoded = time.perf_counter()
    # At the usual input size both want the same picture, and scaling it takes longer than all that is measured.
    working = batch[0] if manifest.input.size == quality.WORKING_SIZE else None
    height, width = image.pixels.shape[:2]  # fewer than the picture's own where it was decoded at a smaller scale
    square = crop(image.pixels, judged_region(width, height, manifest.input.geometry))
    measures: dict[str, float] = {}
    quality_seconds = 0.0

    def measure() -> None:
        nonlocal quality_seconds
        began = time.perf_counter()
        measures.update(quality.measure(square, working, min(region.width, region.height)))
        quality_seconds = time.perf_counter() - began

    outputs = runtime.run(batch, between(), measure)
    forward_seconds = time.perf_counter() - decoded
    warnings = quality.warnings(measures, manifest.quality)
    probabilities, malignancy, novelty = _checked(outputs, len(manifest.labels))
    verdict = decide(malignancy, novelty, measures, warnings, manifest, rule)
    rejected = verdict.decision is Decision.REJECTED
    return schemas.Assessment(
        request_id=request_id,
        model=schemas.ModelRef(name=manifest.name, version=manifest.version),
        thorough=thorough is not None,
        decision=verdict.decision,
        reasons=[schemas.ReasonOut(code=reason.code, text=reason.text) for reason in verdict.reasons],
        malignancy=None if rejected else _malignancy(malignancy, rule, manifest),
        classes=[] if rejected else _classes(probabilities, manifest),
        quality=schemas.Quality(
            **measures,
            warnings=[schemas.QualityWarningOut(code=item.code, text=item.text, advisory=item.advisory) for item in warnings],
        ),
        novelty=schemas.NoveltyOut(score=novelty, limit=manifest.novelty.limit),
        region=schemas.RegionOut(x=region.x, y=region.y, width=region.width, height=region.height),
        image=schemas.ImageOut(width=image.width, height=image.height, format=image.format, notes=list(image.notes)),
        heatmap=heatmap_uri(outputs.heatmap[0], manifest.input.size) if explain and not rejected else None,
        timing_ms=schemas.Timing(
            queue=0.0,
            decode=_ms(decoded - start),
            quality=_ms(quality_seconds),
            forward=_ms(forward_seconds),
            total=_ms(time.perf_counter() - start),
        ),
    )


def heatmap_uri(heatmap: NDArray[np.float32], size: int) -> str:
    """An RGBA PNG as a data URI: colour and opacity grow with the value, so that it can be laid over the picture.

    Args:
        heatmap: ``[h, w]``, 0..1.
        size: side of the PNG in pixels.
    """
    grown = cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_CUBIC)
    values = np.clip(grown, 0.0, 1.0)
    coloured = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.rint(values * PEAK_ALPHA).astype(np.uint8)
    ok, png = cv2.imencode(".png", np.dstack([coloured, alpha]))
    if not ok:
        raise BrokenOutputError(f"the heatmap cannot be drawn. Received: {list(heatmap.shape)}")
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")


def _checked(outputs: Outputs, classes: int) -> tuple[NDArray[np.float32], float, float]:
    probabilities, malignancy, novelty = outputs.probability[0], float(outputs.malignancy[0]), float(outputs.novelty[0])
    everything = np.append(probabilities, malignancy)
    if len(probabilities) != classes or not np.isfinite(novelty) or not np.isfinite(outputs.heatmap).all():
        raise BrokenOutputError(f"expected {classes} finite numbers. Received: {probabilities}, novelty {novelty}")
    if not (np.isfinite(everything).all() and everything.min() >= -ROUNDING and everything.max() <= 1 + ROUNDING):
        raise BrokenOutputError(f"probabilities must lie in 0..1. Received: {probabilities}, malignancy {malignancy}")
    return np.clip(probabilities, 0.0, 1.0), min(max(malignancy, 0.0), 1.0), novelty


def _malignancy(probability: float, rule: DecisionRule, manifest: Manifest) -> schemas.Malignancy:
    return schemas.Malignancy(
        probability=probability,
        threshold=rule.threshold,
        uncertain=rule.uncertain,
        prevalence=manifest.calibration.prevalence,
    )


def _classes(probabilities: NDArray[np.float32], manifest: Manifest) -> list[schemas.ClassProbability]:
    classes = [
        schemas.ClassProbability(id=label.id, name=label.name, malignant=label.malignant, probability=float(probability))
        for label, probability in zip(manifest.labels, probabilities, strict=True)
    ]
    return sorted(classes, key=lambda item: -item.probability)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
