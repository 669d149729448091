"""Evaluates scores of an exported bundle: metrics with intervals, overall and inside each source, and the report folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiderm_core.decision import Decision, decide
from aiderm_core.manifest import Manifest, Metric
from aiderm_core.quality import warnings as quality_warnings
from aiderm_trainer.evaluation import curves, metrics, plots
from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED, Estimate, bootstrap, exact_interval_at_bound
from aiderm_trainer.evaluation.scores import Scores

REPORT_FILE = "report.json"
ERRORS_FILE = "errors.csv"
MAIN_SPLIT = "test"

OPERATING_POINTS = (0.80, 0.90, 0.95)
PREVALENCES = (0.01, 0.05, 0.10)
WORST_ERRORS = 50

Metrics = dict[str, dict[str, Metric]]


@dataclass(frozen=True)
class _Segment:
    """Arrays of the rows of one split, or of one source inside it."""

    groups: list[str]
    malignant: NDArray[np.bool_]
    malignancy: metrics.Floats
    probability: metrics.Floats
    class_index: NDArray[np.int64]
    dx_known: NDArray[np.bool_]
    melanoma: NDArray[np.bool_]
    decision: NDArray[np.str_]


def evaluate_scores(scores: Scores, manifest: Manifest, replicates: int = REPLICATES, seed: int = SEED) -> Metrics:
    """Metrics with bootstrap 95% intervals.

    A proportion of exactly 0 or 1 has Clopper and Pearson's interval over groups instead; other metrics at their bound have none.
    Threshold metrics judge every row; those named ``answered`` leave out what the bundle rejects or calls uncertain. Metrics
    of classes use the rows whose exact class is known; melanoma against the rest also uses benign rows without one.

    Args:
        scores: of any splits.
        manifest: of the bundle that answered: labels, decision rule, limits.
        replicates: bootstrap resamples of groups.
        seed: of the resampling.

    Returns:
        ``SPLIT`` and, for each source with both labels, ``SPLIT/source=NAME`` -> metric -> value. A metric that the rows do
        not define is absent.
    """
    estimates = _estimates(_segments(scores, manifest), manifest, replicates, seed)
    return _as_metrics(estimates)


def write_report(
    folder: Path,
    scores: Scores,
    manifest: Manifest,
    history: Sequence[Mapping[str, object]] = (),
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Metrics:
    """Evaluates and writes the report: report.json (schema: ``curves.Report``), errors.csv and the plots as PNG.

    Args:
        folder: the report folder itself, usually BUNDLE/report; made when it is not there.
        scores: of any splits; plots show ``test``, or else the first split there is.
        manifest: of the bundle that answered.
        history: the training log, one mapping an epoch; without it there is no plot of it.
        replicates: bootstrap resamples of groups.
        seed: of the resampling.

    Returns:
        What ``evaluate_scores`` returns.
    """
    segments = _segments(scores, manifest)
    estimates = _estimates(segments, manifest, replicates, seed)
    splits = [name for name in segments if "/" not in name]
    main = MAIN_SPLIT if MAIN_SPLIT in segments else splits[0]
    undefined = {
        name: {metric: estimate.undefined for metric, estimate in of.items() if estimate.undefined}
        for name, of in estimates.items()
    }
    report = curves.Report(
        name=manifest.name,
        version=manifest.version,
        main=main,
        threshold=manifest.decision.threshold,
        uncertain=manifest.decision.uncertain,
        bootstrap=curves.Bootstrap(replicates=replicates, seed=seed, undefined=undefined),
        metrics=_as_metrics(estimates),
        segments={name: _curves(segment, manifest) for name, segment in segments.items()},
        history=[{key: _plain(value) for key, value in epoch.items()} for epoch in history],
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).write_text(report.model_dump_json() + "\n", encoding="utf-8")
    _write_errors(folder / ERRORS_FILE, scores, manifest, main)
    plots.write_plots(folder, report)
    return report.metrics


def _plain(value: object) -> float | str | None:
    """A history's value as JSON holds it: a diverged epoch's NaN becomes null."""
    if isinstance(value, int | float | np.number):
        return float(value) if np.isfinite(value) else None
    return None if value is None else str(value)


def _segments(scores: Scores, manifest: Manifest) -> dict[str, _Segment]:
    if not scores.rows:
        raise ValueError("there are no scores to evaluate")
    if scores.probability.shape[1] != len(manifest.labels):
        raise ValueError(f"{len(manifest.labels)} labels need as many probabilities. Received: {scores.probability.shape[1]}")
    decisions = _decisions(scores, manifest)
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
    return {name: _segment(scores, manifest, decisions, np.flatnonzero(rows)) for name, rows in chosen.items()}


def _decisions(scores: Scores, manifest: Manifest) -> NDArray[np.str_]:
    return np.array(
        [
            decide(float(p), float(d), measures, quality_warnings(measures, manifest.quality), manifest).decision.value
            for p, d, measures in zip(scores.malignancy, scores.novelty, scores.measures, strict=True)
        ]
    )


def _segment(scores: Scores, manifest: Manifest, decisions: NDArray[np.str_], index: NDArray[np.intp]) -> _Segment:
    rows = [scores.rows[i] for i in index]
    ids = {label.id: number for number, label in enumerate(manifest.labels)}
    return _Segment(
        groups=[row.group for row in rows],
        malignant=np.array([bool(row.malignant) for row in rows]),
        malignancy=scores.malignancy[index].astype(np.float64),
        probability=scores.probability[index].astype(np.float64),
        class_index=np.array([ids.get(manifest.class_map.get(row.dx, row.dx), -1) if row.dx else -1 for row in rows]),
        dx_known=np.array([bool(row.dx) for row in rows]),
        melanoma=np.array([row.dx == "mel" for row in rows]),
        decision=decisions[index],
    )


def _estimates(
    segments: Mapping[str, _Segment], manifest: Manifest, replicates: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    out: dict[str, dict[str, Estimate]] = {}
    for name, segment in segments.items():
        # The default binds this segment, not the loop's last one.
        def statistic(weights: metrics.Floats, segment: _Segment = segment) -> dict[str, metrics.Floats]:
            return _metrics(segment, manifest, weights)

        counts = {
            "n": len(segment.groups),
            "n_groups": len(set(segment.groups)),
            "n_malignant": segment.malignant.sum(),
            "n_melanoma": segment.melanoma.sum(),
            "n_known_class": (segment.class_index >= 0).sum(),
        }
        stated = {key: Estimate(float(value), None, 0) for key, value in counts.items()}
        out[name] = stated | _bounded(bootstrap(segment.groups, statistic, replicates, seed), segment)
    return out


def _bounded(estimates: dict[str, Estimate], segment: _Segment) -> dict[str, Estimate]:
    """Gives proportions of exactly 0 or 1 an exact interval, counting each group once; the bootstrap has none for them."""
    sick, answered = segment.malignant, np.isin(segment.decision, [Decision.SUSPICIOUS.value, Decision.LOW_SUSPICION.value])
    among = {
        "accuracy": np.ones_like(sick),
        "sensitivity": sick,
        "sensitivity_melanoma": segment.melanoma,
        "specificity": ~sick,
        "sensitivity_answered": answered & sick,
        "specificity_answered": answered & ~sick,
        "malignant_low_suspicion": sick,
        **{f"share_{decision.value}": np.ones_like(sick) for decision in Decision},
    }
    groups, out = np.array(segment.groups), dict(estimates)
    for name, rows in among.items():
        estimate = out.get(name)
        if estimate is not None and estimate.ci95 is None and estimate.value in (0.0, 1.0):
            interval = exact_interval_at_bound(estimate.value, len(np.unique(groups[rows])))
            out[name] = Estimate(estimate.value, interval, estimate.undefined)
    return out


def _metrics(segment: _Segment, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    """Every metric of a segment for weights ``[B, N]``."""
    y, score = segment.malignant, segment.malignancy
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
    }
    for level in OPERATING_POINTS:
        out[f"sensitivity_at_specificity_{level:.2f}"] = metrics.sensitivity_at_specificity(counts, level)
        out[f"specificity_at_sensitivity_{level:.2f}"] = metrics.specificity_at_sensitivity(counts, level)
    for prevalence in PREVALENCES:
        ppv, npv = metrics.predictive_values(out["sensitivity"], out["specificity"], prevalence)
        out[f"ppv_at_prevalence_{prevalence:.2f}"], out[f"npv_at_prevalence_{prevalence:.2f}"] = ppv, npv
    out |= _class_metrics(segment, manifest, weights)
    return out | _decision_metrics(segment, manifest, weights)


def _class_metrics(segment: _Segment, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    out = {}
    called = segment.malignancy >= manifest.decision.threshold
    out["sensitivity_melanoma"] = metrics.share(called, weights, segment.melanoma)
    ids = [label.id for label in manifest.labels]
    if len(ids) > 2:
        predicted = segment.probability.argmax(axis=1)
        out |= metrics.multiclass(metrics.confusion(segment.class_index, predicted, len(ids), weights))
    # A malignant lesion without a diagnosis may be a melanoma or not: it is left out.
    known = segment.dx_known | ~segment.malignant
    if "mel" in ids and known.any():
        melanoma = segment.probability[known, ids.index("mel")]
        out["melanoma_auc"] = metrics.roc_auc(segment.melanoma[known], melanoma, weights[:, known])
    return out


def _decision_metrics(segment: _Segment, manifest: Manifest, weights: metrics.Floats) -> dict[str, metrics.Floats]:
    out = {f"share_{decision.value}": metrics.share(segment.decision == decision.value, weights) for decision in Decision}
    suspicious, cleared = segment.decision == Decision.SUSPICIOUS.value, segment.decision == Decision.LOW_SUSPICION.value
    answered = suspicious | cleared
    out["sensitivity_answered"] = metrics.share(suspicious, weights, answered & segment.malignant)
    out["specificity_answered"] = metrics.share(cleared, weights, answered & ~segment.malignant)
    out["malignant_low_suspicion"] = metrics.share(cleared, weights, segment.malignant)
    return out


def _as_metrics(estimates: Mapping[str, Mapping[str, Estimate]]) -> Metrics:
    return {
        name: {metric: Metric(value=estimate.value, ci95=estimate.ci95) for metric, estimate in of.items()}
        for name, of in estimates.items()
    }


def _curves(segment: _Segment, manifest: Manifest) -> curves.Segment:
    y, score = segment.malignant, segment.malignancy
    roc, pr = curves.roc_and_pr(y, score)
    confusion = None
    ids = [label.id for label in manifest.labels]
    if len(ids) > 2 and (segment.class_index >= 0).any():
        matrix = metrics.confusion(segment.class_index, segment.probability.argmax(axis=1), len(ids))[0]
        confusion = curves.ConfusionMatrix(labels=ids, counts=matrix.astype(int).tolist())
    return curves.Segment(
        count=len(y),
        malignant=int(y.sum()),
        roc=roc,
        pr=pr,
        reliability=curves.reliability(y, score),
        decision_curve=curves.decision_curve(y, score),
        histogram=curves.histogram(y, score),
        confusion=confusion,
        decisions=curves.DecisionCounts(
            malignant={d.value: int(((segment.decision == d.value) & y).sum()) for d in Decision},
            benign={d.value: int(((segment.decision == d.value) & ~y).sum()) for d in Decision},
        ),
    )


def _write_errors(path: Path, scores: Scores, manifest: Manifest, split: str) -> None:
    """The worst errors of each kind by checksum: no picture and no path leaves the data folder."""
    decisions = _decisions(scores, manifest)
    threshold = manifest.decision.threshold
    missed: list[int] = []
    alarms: list[int] = []
    for i in np.argsort(scores.malignancy, kind="stable"):
        row, called = scores.rows[i], bool(scores.malignancy[i] >= threshold)
        if (row.split or MAIN_SPLIT) != split or called == bool(row.malignant):
            continue
        (missed if row.malignant else alarms).append(int(i))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["error", "sha256", "source", "dx", "malignancy", "threshold", "decision"])
        for kind, worst in (("missed", missed[:WORST_ERRORS]), ("false_alarm", alarms[::-1][:WORST_ERRORS])):
            for i in worst:
                row = scores.rows[i]
                score = f"{scores.malignancy[i]:.6f}"
                table.writerow([kind, row.sha256, row.source, row.dx, score, f"{threshold:.6f}", decisions[i]])
