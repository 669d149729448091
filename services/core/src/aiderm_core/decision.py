"""Turns a model's outputs into one of four decisions, with pure functions and no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.quality.measurements import QualityWarning


class Decision(StrEnum):
    """The answer for an image. A result below the threshold does not mean "benign": the model misses some cancers."""

    LOW_SUSPICION = "low_suspicion"
    SUSPICIOUS = "suspicious"
    UNCERTAIN = "uncertain"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Reason:
    """Why a decision was taken: a stable code for programs, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """A decision and all reasons for it."""

    decision: Decision
    reasons: tuple[Reason, ...]


def decide(
    malignancy: float,
    novelty: float,
    measures: Mapping[str, float],
    warnings: Sequence[QualityWarning],
    manifest: Manifest,
    rule: DecisionRule | None = None,
) -> Verdict:
    """Makes the decision: the first of rejected, uncertain, suspicious and low suspicion that applies.

    Args:
        malignancy: calibrated probability, 0..1.
        novelty: distance from the training images, on the manifest's scale.
        measures: quality metrics of the assessed region, see ``aiderm_core.quality.measurements``.
        warnings: quality warnings for the same region; advisory ones do not affect the decision.
        manifest: manifest of the model that produced the outputs.
        rule: threshold and uncertain band to use; the manifest's own when None.

    Raises:
        ValueError: the malignancy lies outside 0..1, or the novelty or a measure is NaN: such an answer must never be served.
    """
    if not 0.0 <= malignancy <= 1.0:  # also false for NaN
        raise ValueError(f"malignancy must lie in 0..1. Received: {malignancy}")
    for name, value in (("novelty", novelty), *measures.items()):
        if math.isnan(value):
            raise ValueError(f"{name} must be a number. Received: NaN")
    rule = rule or manifest.decision

    reasons: list[Reason] = []
    if novelty > manifest.novelty.limit:
        reasons.append(Reason("novelty", "The picture does not resemble the dermoscopic pictures that the model was trained on."))
    for metric, limit in manifest.quality.items():
        if metric in measures and limit.beyond(measures[metric], limit.reject):
            reasons.append(Reason(f"quality_{metric}", f"The picture's {metric.replace('_', ' ')} does not allow an assessment."))
    if reasons:
        return Verdict(Decision.REJECTED, tuple(reasons))

    low, high = rule.uncertain
    if low <= malignancy <= high:
        reasons.append(Reason("band", "The estimate lies too close to the threshold to take a side."))
    if malignancy < rule.threshold and not all(warning.advisory for warning in warnings):
        reasons.append(Reason("quality", "The picture's quality is too low to support a low suspicion."))
    if reasons:
        return Verdict(Decision.UNCERTAIN, tuple(reasons))
    if malignancy >= rule.threshold:
        return Verdict(Decision.SUSPICIOUS, (Reason("threshold", "The estimate lies at or above the threshold."),))
    return Verdict(Decision.LOW_SUSPICION, (Reason("threshold", "The estimate lies below the threshold."),))
