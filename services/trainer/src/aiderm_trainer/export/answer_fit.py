"""Fits everything that is chosen on calibration rows: temperature, shift, threshold, uncertain band and novelty limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Calibration, DecisionRule, Histogram, Label, Reference
from aiderm_trainer.data.labels import class_index
from aiderm_trainer.evaluation.scores import Scores
from aiderm_trainer.export.calibration import fit_calibration
from aiderm_trainer.export.decision_limits import choose_decision, fit_novelty_limit

MELANOMA = "mel"
MIN_ROWS = 50  # a domain with fewer calibration rows counts in proportion to its size


@dataclass(frozen=True)
class Answers:
    """The fitted numbers that turn a graph's outputs into a decision."""

    decision: DecisionRule
    calibration: Calibration
    novelty_limit: float
    rejected: dict[str, float]
    reference: Reference


def fit_answers(
    scores: Scores,
    labels: Sequence[Label],
    target_sensitivity: float,
    temperature: float,
    shift: float,
) -> Answers:
    """Fits everything that is chosen on calibration rows, for a graph that already applies ``temperature`` and ``shift``.

    Probabilities are calibrated with the same weight for each domain, on biopsied lesions where that is known: lesions that
    nobody biopsied come from few cameras, and the fit would learn what those cameras look like. Threshold and novelty limit
    hold inside each domain that is large enough, on all rows.

    Args:
        scores: scores of the calibration rows.
        labels: the classes.
        target_sensitivity: sensitivity that the threshold must reach.
        temperature: temperature inside the graph.
        shift: malignant shift inside the graph.
    """
    malignant_classes = np.array([label.malignant for label in labels])
    malignant = np.array([row.malignant for row in scores.rows])
    # log p stands for the logits: they differ by a constant per row, which a softmax ignores.
    logits = np.log(np.maximum(scores.probability.astype(np.float64), 1e-12)) - shift * malignant_classes
    domain = np.array([row.domain or row.source for row in scores.rows])
    biopsied = np.array([row.biopsied is not False for row in scores.rows])  # unknown counts as biopsied
    fit = fit_calibration(
        logits,
        malignant_classes,
        malignant,
        class_index(scores.rows, labels),
        [row.group for row in scores.rows],
        _weights(domain, malignant, biopsied),
        domains=domain,
    )
    probability = np.exp(logits / fit.temperature + fit.malignant_shift * malignant_classes)
    malignancy = np.clip(probability[:, malignant_classes].sum(axis=1) / probability.sum(axis=1), 0.0, 1.0)
    melanoma = np.array([row.dx == MELANOMA for row in scores.rows])
    decision, coverage = choose_decision(malignancy, malignant, melanoma, domain, target_sensitivity)
    limit, rejected = fit_novelty_limit(scores.novelty, domain)
    top = float(np.quantile(scores.novelty, 0.99)) * 2
    return Answers(
        decision=decision,
        calibration=Calibration(
            method=fit.method + _chosen(domain, biopsied),
            temperature=temperature * fit.temperature,
            malignant_shift=fit.malignant_shift,
            prevalence=fit.prevalence,
            ece_before=fit.ece_before,
            ece_after=fit.ece_after,
            coverage=coverage,
        ),
        novelty_limit=limit,
        rejected=rejected,
        reference=Reference(score=_histogram(malignancy, 1.0), novelty=_histogram(scores.novelty.astype(np.float64), top)),
    )


def _weights(domain: NDArray[np.str_], malignant: NDArray[np.bool_], biopsied: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Equal weight per domain, less below ``MIN_ROWS`` rows; 0 for unbiopsied rows unless the others have only one label."""
    both = malignant[biopsied].any() and not malignant[biopsied].all()
    kept = biopsied if both else np.ones(len(domain), bool)
    names, number = np.unique(domain, return_inverse=True)
    counts = np.bincount(number[kept], minlength=len(names))
    weights = kept / np.maximum(counts, MIN_ROWS)[number]
    return np.asarray(weights * kept.sum() / weights.sum(), np.float64)


def _chosen(domain: NDArray[np.str_], biopsied: NDArray[np.bool_]) -> str:
    count, left_out = len(np.unique(domain)), int((~biopsied).sum())
    text = f"; each of {count} domains counts alike" if count > 1 else ""
    return text + (f"; {left_out} lesions without a biopsy are left out" if left_out else "")


def _histogram(values: NDArray[np.float64], top: float) -> Histogram:
    counts, edges = np.histogram(np.minimum(values, top), 20, (0.0, top))
    return Histogram(edges=[float(e) for e in edges], counts=[int(c) for c in counts])
