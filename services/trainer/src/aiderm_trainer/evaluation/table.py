"""Metrics with intervals as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from aiderm_core.manifest import Metric
from aiderm_trainer.evaluation.card import describe


def metrics_table(metrics: Mapping[str, Mapping[str, Metric]]) -> Table:
    """One row a metric, one column a split or source."""
    table = Table(title="value [95% interval, bootstrap over groups]")
    table.add_column("metric")
    for split in metrics:
        table.add_column(split, justify="right")
    names = dict.fromkeys(name for values in metrics.values() for name in values)
    for name in names:
        table.add_row(describe(name), *(_cell(values.get(name)) for values in metrics.values()))
    return table


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    if metric.ci95 is None:
        return f"{metric.value:.3f}".rstrip("0").rstrip(".")
    return f"{metric.value:.3f} [{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]"
