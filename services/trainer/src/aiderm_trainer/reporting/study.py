"""The report of a study: words, tables and plots, made from its committed results and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.reporting import study_plots, study_text
from aiderm_trainer.reporting.camera import CAMERA_FILE, camera_section, read_camera_study
from aiderm_trainer.study import files
from aiderm_trainer.study.leaderboard import Leaderboard, leaderboard
from aiderm_trainer.study.plan import BY_DOMAIN, LEAVING_OUT, PlanError
from aiderm_trainer.study.results import FILES, PLAN_FILE, Results, load
from aiderm_trainer.study.threshold import youden_threshold

SOURCES_FOLDER = "sources"
DOMAINS_FOLDER = "domains"
LEFT_OUT_FILE = "left_out.json"  # what `export --left-out` reads


@dataclass(frozen=True)
class StudyDocument:
    """A report that was written.

    Attributes:
        document: its Markdown text.
        terminal: its main table.
    """

    document: str
    terminal: Table


def publish(study: Path, folder: Path) -> None:
    """Copies a finished study's results to a folder that is committed: no images, no weights, no paths.

    Raises:
        PlanError: the study is not finished.
    """
    load(study)
    for name in FILES:
        files.write_bytes(folder / name, (study / name).read_bytes())


def write_report(folder: Path, document: Path, results: Results | None = None) -> StudyDocument:
    """Writes the document, and beside the results its plots and ``left_out.json``.

    Args:
        folder: of the results, which may hold those of a study by sources in ``sources/``.
        document: the Markdown file.
        results: of the folder, where they are at hand.

    Raises:
        PlanError: the folder holds no finished study.
    """
    results = results or load(folder)
    where = Path(os.path.relpath(folder, document.parent))
    by_source = load(folder / SOURCES_FOLDER) if (folder / SOURCES_FOLDER / PLAN_FILE).exists() else None
    if results.plan.folds in LEAVING_OUT:
        table = sources_of(results)
        plot = study_plots.DOMAINS if results.plan.folds == BY_DOMAIN else study_plots.SOURCES
        study_plots.plot_sources(folder / plot, *_bars(table))
        files.write_text(folder / LEFT_OUT_FILE, _left_out(table))
        text = study_text.sources_document(results, table, _link(where / plot))
        terminal = _sources_table(table)
    else:
        board = leaderboard(results)
        study_plots.plot_leaderboard(folder / study_plots.LEADERBOARD, board.entries)
        study_plots.plot_differences(folder / study_plots.DIFFERENCES, board)
        text = study_text.document(results, board, _link(where / study_plots.LEADERBOARD), _link(where / study_plots.DIFFERENCES))
        terminal = _board_table(board)
        if by_source is not None:
            table = sources_of(by_source)
            study_plots.plot_sources(folder / study_plots.SOURCES, *_bars(table))
            files.write_text(folder / SOURCES_FOLDER / LEFT_OUT_FILE, _left_out(table))
            text += "\n" + study_text.sources_section(by_source, table, _link(where / study_plots.SOURCES))
        if (folder / DOMAINS_FOLDER / PLAN_FILE).exists():
            by_domain = load(folder / DOMAINS_FOLDER)
            table = sources_of(by_domain)
            study_plots.plot_sources(folder / study_plots.DOMAINS, *_bars(table))
            files.write_text(folder / DOMAINS_FOLDER / LEFT_OUT_FILE, _left_out(table))
            text += "\n" + study_text.sources_section(by_domain, table, _link(where / study_plots.DOMAINS))
    if (camera := folder / CAMERA_FILE).is_file():
        text += "\n" + camera_section(read_camera_study(camera))
    files.write_text(document, text)
    return StudyDocument(text, terminal)


def sources_of(results: Results) -> list[study_text.SourceRow]:
    """Figures of each recipe in each source or domain that it was not trained on; in domains, of biopsied lesions where known.

    Raises:
        PlanError: the study leaves no sources out.
    """
    if results.plan.folds not in LEAVING_OUT:
        raise PlanError(f"the study leaves neither sources nor domains out. Received: folds = {results.plan.folds}")
    rows = []
    for recipe in results.plan.recipes:
        for source in results.folds:
            keys = [(recipe.name, source, seed) for seed in recipe.seeds if (recipe.name, source, seed) in results.held_out]
            if not keys:
                continue
            index = results.held_out[keys[0]].index
            counted = results.counted[index] if results.plan.folds == BY_DOMAIN else np.ones(len(index), bool)
            index = index[counted]
            scores = [results.held_out[key].score[counted].astype(np.float64) for key in keys]
            inner = [results.validation[key] for key in keys]
            thresholds = [youden_threshold(results.malignant[part.index], part.score) for part in inner]
            malignant = results.malignant[index]
            found = bootstrap(
                [str(group) for group in results.group[index]], study_text.source_statistic(malignant, scores, thresholds)
            )
            inside = float(np.mean([t.validation_auc for t in results.trials if (t.recipe, t.fold) == (recipe.name, source)]))
            rows.append(study_text.SourceRow(recipe.name, source, int((~malignant).sum()), int(malignant.sum()), inside, found))
    return rows


def _bars(table: Sequence[study_text.SourceRow]) -> tuple[list[str], list[tuple[str, list[tuple[float, float, float]]]]]:
    sources = list(dict.fromkeys(row.source for row in table))
    recipes = list(dict.fromkeys(row.recipe for row in table))
    complete = [name for name in recipes if sum(row.recipe == name for row in table) == len(sources)]
    if not complete:
        raise PlanError("no recipe has finished with every source left out")
    values = {(row.recipe, row.source): row.estimates["roc_auc"] for row in table}
    return sources, [
        (name, [(e.value, *(e.ci95 or (e.value, e.value))) for e in (values[name, source] for source in sources)])
        for name in complete
    ]


def _left_out(table: Sequence[study_text.SourceRow]) -> str:
    """The first recipe's figures, source -> metric -> {value, ci95}, for the cards of models of its kind."""
    found = {
        row.source: {
            name: {"value": round(e.value, 4), "ci95": e.ci95 and [round(v, 4) for v in e.ci95]}
            for name, e in row.estimates.items()
        }
        for row in table
        if row.recipe == table[0].recipe
    }
    return json.dumps(found, indent=1) + "\n"


def _link(path: Path) -> str:
    return path.as_posix()


def _board_table(board: Leaderboard) -> Table:
    shown = ("roc_auc", "accuracy", "brier")  # what a terminal has room for; the document holds all
    table = Table(title="mean over folds [95% interval]")
    for name in ("recipe", "ROC AUC", "accuracy", "Brier"):
        table.add_column(name, no_wrap=name != "recipe")
    for entry in board.entries:
        table.add_row(entry.name, *(study_text.figure(entry.figures[metric]) for metric in shown))
    return table


def _sources_table(rows: Sequence[study_text.SourceRow]) -> Table:
    table = Table(title="ROC AUC in what was left out [95% interval]")
    for name in ("recipe", "left out", "ROC AUC"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.recipe, row.source, study_text.estimate(row.estimates["roc_auc"]))
    return table
