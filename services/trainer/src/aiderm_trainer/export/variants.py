"""Compares a variant of a graph with f32: what it loses, and its own threshold and band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import MAX_AUC_LOSS, MAX_FLIPPED, DecisionRule, Golden, Manifest, Variant
from aiderm_core.runtime import Runtime
from aiderm_trainer.evaluation.cohorts import decisions
from aiderm_trainer.evaluation.scores import Scores
from aiderm_trainer.export.golden import answer_cases
from aiderm_trainer.training.objective import within_domain_auc

Reduced = Literal["bf16", "int8"]

ROUNDED_TOLERANCE = 0.02
"""How far a graph of reduced precision may deviate from its golden answers: processors sum in different orders, and rounding
turns that into steps. A larger deviation means another graph."""


@dataclass(frozen=True)
class PrecisionTrial:
    """The outcome of one precision: ``variant`` if it may be offered, else ``reason``, which says why not."""

    precision: Reduced
    auc_loss: float | None
    flipped: float | None
    variant: Variant | None
    reason: str = ""


def domain_auc(of: Scores, malignancy: NDArray[np.float32]) -> float:
    """AUC inside a domain, on biopsied lesions, of a malignancy ``[N]`` for the rows of ``of``."""
    return within_domain_auc(malignancy.astype(np.float64), of.rows)


def outside_novelty(malignancy: NDArray[np.float32], rule: DecisionRule) -> NDArray[np.int_]:
    """Decisions without the novelty limit: 0 below band and threshold, 1 inside the band, 2 above."""
    low, high = rule.uncertain
    inside = (malignancy >= low) & (malignancy <= high)
    return np.where(inside, 1, np.where(malignancy >= rule.threshold, 2, 0))


def _malignant(scores: Scores) -> NDArray[np.bool_]:
    return np.array([row.malignant for row in scores.rows])


def own_rule(malignancy: NDArray[np.float32], before: Scores, rule: DecisionRule) -> DecisionRule:
    """Returns a rule that puts the same share of calibration rows on each side as ``rule`` does in f32.

    Threshold and lower bound move to the same quantile of the malignant rows, which determines their sensitivity, and the
    upper bound to the same quantile of the benign rows; between two rows they are interpolated linearly.
    """
    malignant = _malignant(before)

    def moved(bound: float, among: NDArray[np.bool_]) -> float:
        old, new = ([0.0, *np.sort(np.clip(part[among], 0.0, 1.0)), 1.0] for part in (before.malignancy, malignancy))
        return float(np.interp(bound, old, new))

    low, high = rule.uncertain
    threshold = moved(rule.threshold, malignant)
    band = (min(moved(low, malignant), threshold), max(moved(high, ~malignant), threshold))
    return DecisionRule(threshold=threshold, target_sensitivity=rule.target_sensitivity, uncertain=band)


def assess(
    precision: Reduced,
    path: str,
    manifest: Manifest,
    before: Sequence[Scores],
    after: Sequence[Scores],
    golden: Golden,
    *,
    one_rule: bool = False,
) -> PrecisionTrial:
    """Compares a variant with f32.

    Args:
        precision: precision of the variant.
        path: path of its graph in the bundle.
        manifest: the bundle's manifest.
        before: scores of the calibration rows and of the validation rows in f32.
        after: the same, by the variant.
        golden: its answers for the golden inputs.
        one_rule: whether it uses the bundle's own rule, because it computes the same network; else it gets a rule that is
            fitted to its calibration scores.
    """
    rule = None if one_rule else own_rule(after[0].malignancy, before[0], manifest.decision)
    full, reduced = (domain_auc(scores[1], scores[1].malignancy) for scores in (before, after))
    decided, decided_now = decisions(_inside(before[1]), manifest), decisions(_inside(after[1]), manifest, rule)
    flipped = float((decided != decided_now).mean())
    loss = full - reduced
    if loss > MAX_AUC_LOSS or flipped > MAX_FLIPPED:
        reason = f"AUC loss {loss:.4f} (allowed {MAX_AUC_LOSS:g}), {flipped:.2%} of decisions flipped (allowed {MAX_FLIPPED:.1%})"
        return PrecisionTrial(precision, loss, flipped, None, reason)
    evaluation = {
        "validation rows": float(len(before[1].rows)),
        "auc inside a domain, f32": full,
        f"auc inside a domain, {precision}": reduced,
        "mean difference of malignancy": float(np.abs(before[1].malignancy - after[1].malignancy).mean()),
    }
    variant = Variant(
        runtime="openvino", precision=precision, path=path, auc_loss=loss, flipped=flipped, decision=rule, golden=golden,
        evaluation=evaluation,
    )  # fmt: skip
    return PrecisionTrial(precision, loss, flipped, variant)


def _inside(scores: Scores) -> Scores:
    return replace(scores, malignancy=np.clip(scores.malignancy, 0.0, 1.0))


def golden_of(folder: Path, manifest: Manifest, runtime: Runtime, tolerance: float = ROUNDED_TOLERANCE) -> Golden:
    """A variant's answers for a bundle's golden inputs, and the tolerance for other processors."""
    paths = [case.path for case in manifest.golden.cases]
    return Golden(tolerance=tolerance, cases=answer_cases(folder, paths, runtime, manifest.input))
