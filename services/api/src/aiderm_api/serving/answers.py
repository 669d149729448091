"""Builds the clients' view of an assessment. Independent of HTTP and queues."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import asdict

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_api import schemas
from aiderm_core.assess import BrokenOutputError, ImageAssessment
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.combine import CombinedAssessment
from aiderm_core.decision import Decision
from aiderm_core.most_likely import MostLikely
from aiderm_core.outline import measure_lesion
from aiderm_core.runtime import OPTIONAL_OUTPUTS, OUTPUTS, Outputs

PEAK_ALPHA = 200


def describe(
    found: ImageAssessment,
    manifest: Manifest,
    rule: DecisionRule,
    *,
    explain: bool,
    tta: bool,
    request_id: str,
) -> schemas.Assessment:
    """Describes an image's assessment for clients.

    Args:
        found: the assessment.
        manifest: the model's manifest.
        rule: the threshold and band that were applied.
        explain: also draw the heatmap and the lesion's outline.
        tta: whether orientations were averaged.
        request_id: id of the request, for the answer.

    Returns:
        The answer; the service fills in the queueing time and the total.

    Raises:
        BrokenOutputError: the heatmap cannot be drawn.
    """
    image, region, verdict, seconds = found.image, found.region, found.verdict, found.seconds
    rejected = verdict.decision is Decision.REJECTED
    return schemas.Assessment(
        request_id=request_id,
        model=schemas.ModelRef(name=manifest.name, version=manifest.version),
        thorough=tta,
        decision=verdict.decision,
        reasons=[schemas.ReasonOut(code=reason.code, text=reason.text) for reason in verdict.reasons],
        malignancy=None if rejected else _malignancy(found.malignancy, rule, manifest),
        classes=[] if rejected else _classes(found.probabilities, manifest),
        most_likely=None if rejected or found.most_likely is None else _most_likely(found.most_likely),
        quality=schemas.Quality(
            **found.measures,
            warnings=[
                schemas.QualityWarningOut(code=item.code, text=item.text, advisory=item.advisory) for item in found.warnings
            ],
        ),
        novelty=schemas.NoveltyOut(score=found.novelty, limit=manifest.novelty.limit),
        region=schemas.RegionOut(x=region.x, y=region.y, width=region.width, height=region.height),
        image=schemas.ImageOut(
            width=image.width, height=image.height, format=image.format, notes=list(image.notes), pixel_spacing_mm=image.spacing
        ),
        heatmap=heatmap_uri(found.heatmap, manifest.input.size) if explain and not rejected else None,
        lesion=_lesion(found, manifest) if explain and not rejected else None,
        timing_ms=schemas.Timing(
            queue=0.0,
            decode=_ms(seconds.decode),
            quality=_ms(seconds.quality),
            forward=_ms(seconds.forward),
            total=0.0,
        ),
    )


def describe_lesion(
    found: CombinedAssessment,
    images: list[schemas.BatchItem],
    twice: Collection[int],
    manifest: Manifest,
    rule: DecisionRule,
    *,
    tta: bool,
    request_id: str,
) -> schemas.LesionAssessment:
    """Describes a lesion's assessment for clients.

    Args:
        found: the assessment.
        images: the description of each image.
        twice: indices of the images that are the same file as an earlier one.
        manifest: the model's manifest.
        rule: the threshold and band that were applied.
        tta: whether orientations were averaged.
        request_id: id of the request, for the answer.
    """
    return schemas.LesionAssessment(
        request_id=request_id,
        model=schemas.ModelRef(name=manifest.name, version=manifest.version),
        thorough=tta,
        decision=found.verdict.decision,
        reasons=[schemas.ReasonOut(code=reason.code, text=reason.text) for reason in found.verdict.reasons],
        malignancy=None if found.malignancy is None else _malignancy(found.malignancy, rule, manifest),
        classes=[] if found.probabilities is None else _classes(found.probabilities, manifest),
        most_likely=None if found.most_likely is None else _most_likely(found.most_likely),
        counted=list(found.counted),
        left_out=[_left_out(item, item.index in twice) for item in images if item.index not in found.counted],
        spread=None if found.spread is None else schemas.SpreadOut(**asdict(found.spread)),
        disagreement=None
        if found.disagreement is None
        else schemas.DisagreementOut(higher=list(found.disagreement.higher), lower=list(found.disagreement.lower)),
        images=images,
    )


def _left_out(item: schemas.BatchItem, copy: bool) -> schemas.LeftOut:
    if copy and item.assessment is not None:
        reasons = [schemas.ReasonOut(code="same_file", text="The picture is the same file as one before it.")]
    elif item.assessment is not None:
        reasons = [reason for reason in item.assessment.reasons if reason.code != "band"]
    elif item.problem is not None:
        reasons = [schemas.ReasonOut(code=item.problem.code, text=item.problem.detail)]
    else:
        reasons = []
    return schemas.LeftOut(index=item.index, reasons=reasons)


def outputs_named(manifest: Manifest) -> tuple[str, ...]:
    """The names of the outputs of a model's graph."""
    return OUTPUTS if manifest.outline is None else (*OUTPUTS, *OPTIONAL_OUTPUTS)


def outputs_of(found: ImageAssessment) -> Outputs:
    """Converts an assessment to a graph's outputs for one image; for a rejected image all but the novelty are NaN."""
    shown = np.float32(np.nan if found.verdict.decision is Decision.REJECTED else 1.0)
    return Outputs(
        probability=found.probabilities[np.newaxis] * shown,
        malignancy=np.array([found.malignancy], np.float32) * shown,
        heatmap=found.heatmap[np.newaxis] * shown,
        novelty=np.array([found.novelty], np.float32),
        outline=None if found.outline is None else found.outline[np.newaxis] * shown,
    )


def heatmap_uri(heatmap: NDArray[np.float32], size: int) -> str:
    """Draws a heatmap as the data URI of an RGBA PNG; colour and opacity grow with the value, so it can be laid over the image.

    Args:
        heatmap: ``[h, w]``, 0..1.
        size: side of the PNG in pixels.

    Raises:
        BrokenOutputError: the heatmap cannot be drawn.
    """
    enlarged = cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_CUBIC)
    values = np.clip(enlarged, 0.0, 1.0)
    coloured = cv2.applyColorMap(np.rint(values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = np.rint(values * PEAK_ALPHA).astype(np.uint8)
    return png_uri(np.dstack([coloured, alpha]))


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Encodes uint8 ``[H, W, 4]``, BGRA, as the data URI of a PNG.

    Raises:
        BrokenOutputError: the pixels cannot be encoded.
    """
    ok, png = cv2.imencode(".png", pixels)
    if not ok:
        raise BrokenOutputError(f"the image cannot be drawn. Received: {list(pixels.shape)}")
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")


def points_of(line: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Rounds a line ``[K, 2]`` to a tenth of a pixel."""
    return [(round(float(x), 1), round(float(y), 1)) for x, y in line]


def _lesion(found: ImageAssessment, manifest: Manifest) -> schemas.LesionOut | None:
    if found.outline is None or manifest.outline is None:
        return None
    lesion = measure_lesion(found.outline, found.square, found.region, manifest.outline.errors, found.image.spacing)
    if lesion is None:
        return None
    return schemas.LesionOut(
        outline=points_of(lesion.points),
        **{name: schemas.MeasureOut(**measure._asdict()) for name, measure in lesion.measures.items()},
        colours=[schemas.ColourOut(name=name, share=lesion.colours[name]) for name in lesion.present],
    )


def _malignancy(probability: float, rule: DecisionRule, manifest: Manifest) -> schemas.Malignancy:
    return schemas.Malignancy(
        probability=probability,
        threshold=rule.threshold,
        uncertain=rule.uncertain,
        prevalence=manifest.calibration.prevalence,
    )


def _classes(probabilities: NDArray[np.floating], manifest: Manifest) -> list[schemas.ClassProbability]:
    classes = [
        schemas.ClassProbability(id=label.id, name=label.name, malignant=label.malignant, probability=float(probability))
        for label, probability in zip(manifest.labels, probabilities, strict=True)
    ]
    return sorted(classes, key=lambda item: -item.probability)


def _most_likely(found: MostLikely) -> schemas.MostLikelyOut:
    return schemas.MostLikelyOut(
        id=found.id, name=found.name, probability_at_even_prevalence=min(1.0, found.probability), note=found.note
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
