"""Renders the report page of a reader study."""

from __future__ import annotations

from aiderm_trainer.evaluation.reader_study import ADVICE, DEFINITIONS, BesideModel, Readers, ReaderStudy
from aiderm_trainer.reporting.render import render
from aiderm_trainer.reporting.tables import Table
from aiderm_trainer.reporting.wording import cell

_TITLES = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "net_benefit": "net benefit",
    "seconds": "seconds per case",
}


def reader_page(study: ReaderStudy) -> str:
    """Renders reader_study.html: one page without scripts that can be opened from disk and printed."""
    everyone = {"all readers": study.pooled} | study.by_reader if len(study.by_reader) > 1 else study.by_reader
    return render(
        "reader_study.html.j2",
        study=study,
        pooled=figures_table(study.pooled),
        by_figure=[
            Table(
                f"{_TITLES[name].capitalize()} by reader",
                ["", "without the model", "with the model", "difference", "p"],
                [[reader, *_cells(found.figures[name])] for reader, found in everyone.items()],
            )
            for name in study.pooled.figures
        ],
        advice=Table(
            "Advice",
            ["", *everyone],
            [[text, *(cell(found.advice.get(name)) for found in everyone.values())] for name, text in ADVICE.items()],
        ),
        definitions=[(_TITLES[name], text) for name, text in DEFINITIONS.items()],
    )


def figures_table(found: Readers) -> Table:
    """Table of the pooled figures of all readers, without and with the model."""
    return Table(
        "All readers",
        ["", "without the model", "with the model", "difference", "p"],
        [[_TITLES[name], *_cells(each)] for name, each in found.figures.items()],
    )


def _cells(found: BesideModel) -> list[str]:
    p = "-" if found.p is None else "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
    return [cell(found.without), cell(found.with_model), cell(found.difference), p]
