"""Formats the main tables of a report for the terminal; the report's files hold all of them."""

from __future__ import annotations

from collections.abc import Mapping

from rich import table as rich_table

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation.findings import Findings
from aiderm_trainer.reporting import tables
from aiderm_trainer.reporting.tables import Table


def report_tables(metrics: Mapping[str, Mapping[str, Metric]], findings: Findings, split: str) -> list[rich_table.Table]:
    """The tables of a report, the most important last."""
    repeated = {**metrics, **findings.metrics()}
    found = [
        *tables.results(metrics, split),
        tables.subgroups(findings),
        tables.stress(findings),
        tables.orientations(findings),
        tables.outlines(findings),
        tables.drawn_outlines(findings),
        tables.close_ups(findings),
        tables.left_out(findings),
        tables.learning_curve(findings),
        tables.cameras(findings),
        tables.domains(findings),
        tables.headline(repeated, split),  # last: a terminal shows its end
    ]
    return [terminal_table(each) for each in found if each is not None]


def terminal_table(of: Table) -> rich_table.Table:
    """Converts one table for the terminal."""
    out = rich_table.Table(title=of.title)
    for number, heading in enumerate(of.header):
        out.add_column(heading, justify="right" if number else "left", overflow="fold")
    for number, row in enumerate(of.rows):
        out.add_row(*(text.replace("**", "") for text in row), style="bold" if number in of.marked else None)
    return out
