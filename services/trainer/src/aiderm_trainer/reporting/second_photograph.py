"""Renders the section of docs/study.md on how a second photograph changes the answer, from second_photograph.json."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiderm_trainer.evaluation.second_photograph import DEFINITIONS, SAME_PHOTOGRAPH, SecondPhotographStudy
from aiderm_trainer.reporting.render import render
from aiderm_trainer.reporting.tables import Table
from aiderm_trainer.reporting.wording import cell

RESULTS_FILE: Final = "second_photograph.json"


def second_photograph_section(folder: Path) -> str:
    """Renders the section with its heading; empty if the folder holds no results.

    Raises:
        ValueError: the results are not of the expected form.
    """
    file = folder / RESULTS_FILE
    if not file.is_file():
        return ""
    study = SecondPhotographStudy.model_validate_json(file.read_bytes())
    real = study.real.metrics if study.real else {}
    rows = [
        [text, cell(study.views.metrics.get(name)), cell(real.get(name))]
        for name, text in DEFINITIONS.items()
        if name in study.views.metrics
    ]
    table = Table("What a second photograph changes", ["share of", "views of one image", "real photographs"], rows)
    return render("second_photograph.md.j2", study=study, table_of_changes=table, same=SAME_PHOTOGRAPH)
