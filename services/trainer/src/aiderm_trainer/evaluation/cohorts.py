"""Builds cohorts (the rows of one split, or of one source inside it) and computes all their metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.decision import Decision, decide
from aiderm_core.most_likely import at_even_prevalence
from aiderm_core.quality.measurements import warnings as quality_warnings
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import Estimate, bootstrap
from aiderm_trainer.evaluation.scores import Scores

MAIN_SPLIT = "test"
OPERATING_POINTS = (0.80, 0.90, 0.95)
PREVALENCES = (0.01, 0.05, 0.10)


@dataclass(frozen=True)
class Cohort:
    """Arrays of N rows.

    Attributes:
        groups: N names of the unit that the bootstrap resamples.
        malignant: ``[N]``.
        malignancy: ``[N]``, 0..1.
        probability: ``[N, C]`` in the manifest's label order.
        class_index: ``[N]``, the true label's index; -1 where it is unknown or not modelled.
        dx_known: ``[N]``.
        melanoma: ``[N]``.
        decision: ``[N]``, values of ``Decision``.
    """

    groups: list[str]
    malignant: NDArray[np.bool_]
    malignancy: metrics.Floats
    probability: metrics.Floats
    class_index: NDArray[np.int64]
    dx_known: NDArray[np.bool_]
    melanoma: NDArray[np.bool_]
    decision: NDArray[np.str_]


def decisions(scores: Scores, manifest: Manifest, rule: DecisionRule | None = None) -> NDArray[np.str_]:
    """Returns what the service would decide for each row: ``[N]``, values of ``Decision``; by the manifest's rule by default."""
    return np.array(
        [
            decide(float(p), float(d), measures, quality_warnings(measures, manifest.quality), manifest, rule).decision.value
            for p, d, measures in zip(scores.malignancy, scores.novelty, scores.measures, strict=True)
        ]
    )


def cohorts(scores: Scores, manifest: Manifest) -> dict[str, Cohort]:
    """Returns the cohorts ``SPLIT`` and, for each source with both labels in it, ``SPLIT/source=NAME``.

    Raises:
        ValueError: no rows, or probabilities whose number differs from that of the manifest's labels.
    """
    if not scores.rows:
        raise ValueError("there are no scores to evaluate")
    if scores.probability.shape[1] != len(manifest.labels):
        raise ValueError(f"{len(manifest.labels)} labels need as many probabilities. Received: {scores.probability.shape[1]}")
    said = decisions(scores, manifest)
    split = np.array([row.split or MAIN_SPLIT for row in scores.rows])
    source = np.array([row.source for row in scores.rows])
    malignant = np.array([bool(row.malignant) for row in scores.rows])
    chosen: dict[str, NDArray[np.bool_]] = {}
    for name in np.unique(split):
        chosen[str(name)] = split == name
        for origin in np.unique(source[split == name]):
            inside = (split == name) & (source == origin)
            if len(np.unique(malignant[inside])) == 2:
                chosen[f"{name}/source={origin}"] = inside
    return {name: cohort(scores, manifest, said, np.flatnonzero(rows)) for name, rows in chosen.items()}


def cohort(scores: Scores, manifest: Manifest, said: NDArray[np.str_], index: NDArray[np.intp]) -> Cohort:
    """The cohort of the rows at ``index``; ``said`` holds the decisions on all rows."""
    rows = [scores.rows[i] for i in index]
    ids = {label.id: number for number, label in enumerate(manifest.labels)}
    return Cohort(
        groups=[row.group for row in rows],
        malignant=np.array([bool(row.malignant) for row in rows]),
        malignancy=scores.malignancy[index].astype(np.float64),
        probability=scores.probability[index].astype(np.float64),
        class_index=np.array([ids.get(manifest.class_map.get(row.dx, row.dx), -1) if row.dx else -1 for row in rows]),
        dx_known=np.array([bool(row.dx) for row in rows]),
        melanoma=np.array([row.dx == "mel" for row in rows]),
        decision=said[index],
    )


def main_split(names: list[str]) -> str:
    """The split that plots show: ``test``, or else the first one."""
    splits = [name for name in names if "/" not in name]
    return MAIN_SPLIT if MAIN_SPLIT in splits else splits[0]


def estimate(of: Cohort, manifest: Manifest, replicates: int, seed: int) -> dict[str, Estimate]:
    """Computes counts and every metric that is defined for the rows, with intervals."""
    counts = {
        "n": len(of.groups),
        "n_groups": len(set(of.groups)),
        "n_malignant": of.malignant.sum(),
        "n_melanoma": of.melanoma.sum(),
        "n_known_class": (of.class_index >= 0).sum(),
    }
    stated = {key: Estimate(float(value), None, 0) for key, value in counts.items()}
    found = bootstrap(of.groups, lambda weights: _metrics(of, manifest, weights), replicates, seed)
    bound = Estimate(metrics.ece_bound(of.malignancy, seed=seed), None, 0)
    return stated | _bounded(found, of) | {"ece_bound": bound}


def _bounded(estimates: dict[str, Estimate], of: Cohort) -> dict[str, Estimate]:
    """Adds exact intervals to proportions of 0 or 1, which have no bootstrap interval; each group counts once."""
    sick, answered = of.malignant, np.isin(of.decision, [Decision.SUSPICIOUS.value, Decision.LOW_SUSPICION.value])
    among = {
        "accuracy": np.ones_like(sick),
        "sensitivity": sick,
        "sensitivity_melanoma": of.melanoma,
        "specificity": ~sick,
        "sensitivity_answered": answered & sick,
        "specificity_answered": answered & ~sick,
        "malignant_low_suspicion": sick,
        **{f"share_{decision.value}": np.ones_like(sick) for decision in Decision},
    }
    groups, out = np.array(of.groups), dict(estimates)
    for name, rows in among.items():
        found = out.get(name)
        if found is not None:
            out[name] = found.of_trials(len(np.unique(groups[rows])))
    return out


def _metrics(of: Cohort, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    """Every metric of a cohort for weights ``[B, N]``."""
    y, score = of.malignant, of.malignancy
    counts = metrics.sweep(y, score, weights)
    slope, intercept = metrics.calibration_line(y, score, weights)
    out = {
        "roc_auc": metrics.roc_auc_of(counts),
        "pr_auc": metrics.pr_auc_of(counts),
        **metrics.at_threshold(y, score, manifest.decision.threshold, weights),
        "brier": metrics.brier(y, score, weights),
        "ece": metrics.expected_calibration_error(y, score, weights),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "prevalence": metrics.share(y, weights),
        **_operating_points(counts, ""),
    }
    for prevalence in PREVALENCES:
        ppv, npv = metrics.predictive_values(out["sensitivity"], out["specificity"], prevalence)
        out[f"ppv_at_prevalence_{prevalence:.2f}"], out[f"npv_at_prevalence_{prevalence:.2f}"] = ppv, npv
    out |= _class_metrics(of, manifest, weights)
    return out | _decision_metrics(of, weights)


def _operating_points(counts: metrics.Sweep, prefix: str) -> dict[str, metrics.Floats]:
    out = {}
    for level in OPERATING_POINTS:
        out[f"{prefix}sensitivity_at_specificity_{level:.2f}"] = metrics.sensitivity_at_specificity(counts, level)
        out[f"{prefix}specificity_at_sensitivity_{level:.2f}"] = metrics.specificity_at_sensitivity(counts, level)
    return out


def _class_metrics(of: Cohort, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    out = {}
    called = of.malignancy >= manifest.decision.threshold
    out["sensitivity_melanoma"] = metrics.share(called, weights, of.melanoma)
    ids = [label.id for label in manifest.labels]
    if len(ids) > 2:
        predicted = of.probability.argmax(axis=1)
        out |= metrics.multiclass(metrics.confusion(of.class_index, predicted, len(ids), weights))
        if manifest.class_prior is not None:
            prior = np.array([manifest.class_prior[name] for name in ids])
            even = at_even_prevalence(of.probability, prior).argmax(axis=1)
            at_even = metrics.multiclass(metrics.confusion(of.class_index, even, len(ids), weights))
            out |= {f"{name}_even": values for name, values in at_even.items()}
    # A malignant lesion without a diagnosis may or may not be a melanoma, so it is left out.
    known = of.dx_known | ~of.malignant
    if "mel" in ids and known.any():
        counts = metrics.sweep(of.melanoma[known], of.probability[known, ids.index("mel")], weights[:, known])
        out["melanoma_auc"] = metrics.roc_auc_of(counts)
        out["melanoma_pr_auc"] = metrics.pr_auc_of(counts)
        out |= _operating_points(counts, "melanoma_")
    return out


def _decision_metrics(of: Cohort, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    out = {f"share_{decision.value}": metrics.share(of.decision == decision.value, weights) for decision in Decision}
    suspicious, cleared = of.decision == Decision.SUSPICIOUS.value, of.decision == Decision.LOW_SUSPICION.value
    answered = suspicious | cleared
    out["sensitivity_answered"] = metrics.share(suspicious, weights, answered & of.malignant)
    out["specificity_answered"] = metrics.share(cleared, weights, answered & ~of.malignant)
    out["malignant_low_suspicion"] = metrics.share(cleared, weights, of.malignant)
    return out
