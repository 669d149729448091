"""Renders the document that reports how well changes of a lesion are measured, from the results of that measurement."""

from __future__ import annotations

from aiderm_trainer.evaluation.lesion_change import DEFINITIONS, LesionChangeStudy
from aiderm_trainer.reporting.render import render, without_gaps
from aiderm_trainer.reporting.tables import Table
from aiderm_trainer.reporting.wording import cell


def lesion_change_document(study: LesionChangeStudy) -> str:
    """Renders the document as Markdown."""
    heads = ["pairs of photographs", "pairs", "compared"]
    overview = [
        [kind.title, str(kind.pairs), cell(kind.metrics["comparable"]), _obstacles(kind.obstacles)] for kind in study.kinds
    ]
    tables = [Table("What is compared", [*heads, "obstacles"], overview)]
    for title, names in (
        ("Growth", ("error_median", "error_mean", "error_p95", "within_5", "covered", "apart_10")),
        ("What is found", ("growth_median", "growth_spread", "colour_median", "colour_p95", "changed")),
    ):
        rows = [
            [kind.title, *(cell(kind.metrics.get(name)) for name in names)]
            for kind in study.kinds
            if any(name in kind.metrics for name in names)
        ]
        tables.append(Table(title, ["pairs of photographs", *(DEFINITIONS[name] for name in names)], rows))
    return without_gaps(render("lesion_change.md.j2", study=study, tables_of_change=tables))


def _obstacles(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "-"
