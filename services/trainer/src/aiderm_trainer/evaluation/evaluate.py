"""Evaluates scores of an exported bundle (metrics with intervals, overall and inside each source) and writes the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aiderm_core.bundle.manifest import Manifest, Metric
from aiderm_core.decision import Decision
from aiderm_trainer.evaluation import metrics, report_schema
from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED, Estimate
from aiderm_trainer.evaluation.cohorts import Cohort, cohorts, estimate, main_split
from aiderm_trainer.evaluation.findings import NO_FINDINGS, Findings
from aiderm_trainer.evaluation.scores import Scores
from aiderm_trainer.evaluation.worst_errors import worst_errors, write_table
from aiderm_trainer.reporting import plots
from aiderm_trainer.reporting.render import render_page

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
ERRORS_FILE = "errors.csv"

Metrics = dict[str, dict[str, Metric]]


def evaluate_scores(scores: Scores, manifest: Manifest, replicates: int = REPLICATES, seed: int = SEED) -> Metrics:
    """Computes metrics with bootstrap 95% intervals.

    A proportion of exactly 0 or 1 has a Clopper-Pearson interval over groups instead; other metrics at their bound have none.
    Threshold metrics count every row; those named ``answered`` leave out what the bundle rejects or calls uncertain. Class
    metrics use the rows whose exact class is known; melanoma against the rest also uses benign rows of unknown class.

    Args:
        scores: scores of any splits.
        manifest: manifest of the bundle that answered: labels, decision rule, limits.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.

    Returns:
        ``SPLIT`` and, for each source with both labels, ``SPLIT/source=NAME`` -> metric -> value. A metric that is undefined
        for the rows is absent.
    """
    return _as_metrics({name: estimate(of, manifest, replicates, seed) for name, of in cohorts(scores, manifest).items()})


def write_report(
    folder: Path,
    scores: Scores,
    manifest: Manifest,
    history: Sequence[Mapping[str, object]] = (),
    replicates: int = REPLICATES,
    seed: int = SEED,
    findings: Findings = NO_FINDINGS,
) -> Metrics:
    """Evaluates and writes report.json (``report_schema.EvaluationReport``), report.html, errors.csv and the plots as PNG.

    Args:
        folder: the report folder itself, usually BUNDLE/report; created if it does not exist.
        scores: scores of any splits; plots show ``test``, or else the first split.
        manifest: manifest of the bundle that answered.
        history: the training log, one mapping per epoch; plotted only if it is not empty.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.
        findings: result of ``findings.investigate``.

    Returns:
        The result of ``evaluate_scores``, and ``findings.metrics()``.
    """
    parts = cohorts(scores, manifest)
    estimates = {name: estimate(of, manifest, replicates, seed) for name, of in parts.items()}
    main = main_split(list(parts))
    undefined = {
        name: {metric: found.undefined for metric, found in of.items() if found.undefined} for name, of in estimates.items()
    }
    report = report_schema.EvaluationReport(
        name=manifest.name,
        version=manifest.version,
        main=main,
        threshold=manifest.decision.threshold,
        uncertain=manifest.decision.uncertain,
        bootstrap=report_schema.Bootstrap(replicates=replicates, seed=seed, undefined=undefined),
        metrics=_as_metrics(estimates),
        segments={name: _curves(of, manifest, replicates, seed) for name, of in parts.items()},
        history=[{key: _plain(value) for key, value in epoch.items()} for epoch in history],
        findings=findings,
        errors=worst_errors(scores, manifest, main),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_FILE).write_text(report.model_dump_json() + "\n", encoding="utf-8")
    write_table(folder / ERRORS_FILE, report.errors, report.threshold)
    pictures = plots.write_plots(folder, report)
    (folder / PAGE_FILE).write_text(render_page(report, pictures), encoding="utf-8")
    return report.metrics | findings.metrics()


def _plain(value: object) -> float | str | None:
    """Converts a value of the history for JSON: a diverged epoch's NaN becomes null."""
    if isinstance(value, int | float | np.number):
        return float(value) if np.isfinite(value) else None
    return None if value is None else str(value)


def _as_metrics(estimates: Mapping[str, Mapping[str, Estimate]]) -> Metrics:
    return {name: {metric: found.metric() for metric, found in of.items()} for name, of in estimates.items()}


def _curves(of: Cohort, manifest: Manifest, replicates: int, seed: int) -> report_schema.Segment:
    y, score = of.malignant, of.malignancy
    roc, pr = report_schema.roc_and_pr(y, score)
    confusion = None
    ids = [label.id for label in manifest.labels]
    if len(ids) > 2 and (of.class_index >= 0).any():
        matrix = metrics.confusion(of.class_index, of.probability.argmax(axis=1), len(ids))[0]
        confusion = report_schema.ConfusionMatrix(labels=ids, counts=matrix.astype(int).tolist())
    return report_schema.Segment(
        count=len(y),
        malignant=int(y.sum()),
        roc=roc,
        pr=pr,
        reliability=report_schema.reliability(y, score),
        decision_curve=report_schema.decision_curve(y, score, of.groups, replicates, seed),
        histogram=report_schema.histogram(y, score),
        confusion=confusion,
        decisions=report_schema.DecisionCounts(
            malignant={d.value: int(((of.decision == d.value) & y).sum()) for d in Decision},
            benign={d.value: int(((of.decision == d.value) & ~y).sum()) for d in Decision},
        ),
    )
