"""Metrics with intervals as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.findings import Findings
from aiderm_trainer.evaluation.learning_curve import CurvePoint
from aiderm_trainer.evaluation.subgroups import TESTED
from aiderm_trainer.reporting.formatting import describe


def metrics_table(metrics: Mapping[str, Mapping[str, Metric]]) -> Table:
    """One row a metric, one column a split or source."""
    shown = {name: values for name, values in metrics.items() if "/" not in name or "/source=" in name}
    return _table("value [95% interval, bootstrap over groups]", "metric", shown, flip=True)


def findings_tables(findings: Findings) -> list[Table]:
    """Artefacts, outlines, close-ups and subgroups, as far as they were looked into."""
    tables = []
    if (domains := findings.domains) is not None:
        tables.append(_table("biopsied lesions", "measure", {"value": domains.biopsied}, flip=True))
        inside = {each.name: {"roc_auc": each.auc, "ece": each.ece} for each in domains.domains}
        shown = {name: {key: value for key, value in of.items() if value is not None} for name, of in inside.items()}
        tables.append(_table("inside each domain", "domain", shown))
        pairs = {f"{each.higher} above {each.lower}": {"roc_auc": each.auc} for each in domains.cameras}
        if pairs:
            tables.append(_table("camera told from the score on naevi that nobody biopsied; 0.5: blind", "cameras", pairs))
    if findings.orientations is not None:
        title = f"{findings.orientations.count} images in eight orientations"
        tables.append(_table(title, "measure", {"value": findings.orientations.metrics}, flip=True))
    if findings.stress is not None:
        title = f"artefacts on {findings.stress.count} {findings.stress.split} images"
        tables.append(_table(title, "artefact", findings.stress.artefacts))
    if findings.outlines is not None:
        title = f"outlines of {findings.outlines.count} {findings.outlines.split} images"
        tables.append(_table(title, "measure", {"value": findings.outlines.metrics}, flip=True))
    if (close := findings.close_ups) is not None:
        figures = {"accepted": close.accepted, "AUROC of novelty": close.auroc, "lesions rejected": close.lesions_rejected}
        tables.append(_table(f"{close.count} close-ups", "measure", {"value": figures}, flip=True))
    if findings.left_out:
        tables.append(_table("trained without the source, tested on it", "source", findings.left_out))
    if findings.subgroups:
        tables.append(_subgroups(findings))
    return tables


def learning_curve_table(points: Sequence[CurvePoint]) -> Table:
    """What recalibrating with so many images of a domain that was left out gives on its other images."""
    table = Table(title="recalibrated with images of the domain, tested on its others: median over draws")
    for heading in ("domain", "images", "ECE", "as good as perfect", "sensitivity", "specificity"):
        table.add_column(heading, justify="left" if heading == "domain" else "right")
    for each in points:
        share = f"{each.within_bound:.0%}"
        table.add_row(
            each.domain, str(each.images), f"{each.ece:.3f}", share, f"{each.sensitivity:.3f}", f"{each.specificity:.3f}"
        )
    return table


def _subgroups(findings: Findings) -> Table:
    """Those that can be compared with the rest; the report holds all."""
    table = Table(title="subgroups with enough cases; worse: significantly, corrected for their number (Holm)")
    for heading in ("subgroup", "images", "malignant", *(describe(name) for name in TESTED), "worse"):
        table.add_column(heading)
    for each in findings.subgroups:
        if each.compared:
            values = [_cell(each.metrics.get(name)) for name in TESTED]
            flag = ", ".join(describe(name) for name in each.worse)
            table.add_row(f"{each.family}: {each.name}", str(each.count), str(each.malignant), *values, flag)
    return table


def _table(title: str, corner: str, columns: Mapping[str, Mapping[str, Metric]], *, flip: bool = False) -> Table:
    """One row a key of ``columns``; flipped, one column a key."""
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    table = Table(title=title)
    table.add_column(corner)
    for heading in columns if flip else names:
        table.add_column(heading if flip else describe(heading), justify="right")
    if flip:
        for name in names:
            table.add_row(describe(name), *(_cell(values.get(name)) for values in columns.values()))
    else:
        for key, values in columns.items():
            table.add_row(key.replace("_", " "), *(_cell(values.get(name)) for name in names))
    return table


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    if metric.ci95 is None:
        return f"{metric.value:.3f}".rstrip("0").rstrip(".")
    return f"{metric.value:.3f} [{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]"
