"""Writes the report of a study (text, tables and plots) from its committed results alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from aiderm_core import files
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.reporting import study_plots, study_tables
from aiderm_trainer.reporting.camera import CAMERA_FILE, camera_section, read_camera_study
from aiderm_trainer.reporting.render import render, without_gaps
from aiderm_trainer.reporting.second_photograph import second_photograph_section
from aiderm_trainer.reporting.study_tables import LeftOutPart, LeftOutRow
from aiderm_trainer.study.leaderboard import SIGNIFICANT, Leaderboard, leaderboard
from aiderm_trainer.study.plan import BY_DOMAIN, LEAVING_OUT, PlanError
from aiderm_trainer.study.results import FILES, PLAN_FILE, Results, load
from aiderm_trainer.study.statistics import REPLICATES
from aiderm_trainer.study.youden import youden_threshold

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
    """Copies a finished study's results, which contain no images, weights or paths, to a folder that is committed.

    Raises:
        PlanError: the study is not finished.
    """
    load(study)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        files.write_bytes(folder / name, (study / name).read_bytes())


def write_report(folder: Path, document: Path, results: Results | None = None) -> StudyDocument:
    """Writes the document, and writes its plots and ``left_out.json`` beside the results.

    Args:
        folder: of the results; ``sources/`` and ``domains/`` in it may hold the results of studies that leave these out.
        document: the Markdown file.
        results: of the folder, if they have been loaded already.

    Raises:
        PlanError: the folder holds no finished study.
    """
    results = results or load(folder)
    link = Path(os.path.relpath(folder, document.parent))
    if results.plan.folds in LEAVING_OUT:
        part, rows = _left_out_part(results, folder, folder, link)
        text = render(
            "study.md.j2",
            results=results,
            board=None,
            left_out=[part],
            camera=_camera(folder),
            second_photograph=second_photograph_section(folder),
        )
        terminal = _left_out_table(rows)
    else:
        board = leaderboard(results)
        study_plots.plot_leaderboard(folder / study_plots.LEADERBOARD, board.entries)
        study_plots.plot_differences(folder / study_plots.DIFFERENCES, board)
        subfolders = [folder / name for name in (SOURCES_FOLDER, DOMAINS_FOLDER) if (folder / name / PLAN_FILE).exists()]
        text = render(
            "study.md.j2",
            results=results,
            board=board,
            setup=study_tables.setup(results),
            leaderboard=study_tables.board_table(board),
            published=study_tables.published_table(results, board),
            averages=study_tables.averages(board),
            plots={name: (link / f"{name}.png").as_posix() for name in ("leaderboard", "differences")},
            replicates=REPLICATES,
            significant=SIGNIFICANT,
            left_out=[_left_out_part(load(each), each, folder, link)[0] for each in subfolders],
            camera=_camera(folder),
            second_photograph=second_photograph_section(folder),
        )
        terminal = _leaderboard_table(board)
    text = without_gaps(text)
    files.write_text(document, text)
    return StudyDocument(text, terminal)


def _left_out_part(
    results: Results, results_folder: Path, plots_folder: Path, link: Path
) -> tuple[LeftOutPart, list[LeftOutRow]]:
    """Returns the document's part on a study that leaves sources or domains out; writes its plot and left_out.json."""
    rows = left_out_rows(results)
    plot = study_plots.DOMAINS if results.plan.folds == BY_DOMAIN else study_plots.SOURCES
    study_plots.plot_sources(plots_folder / plot, *_bars(rows))
    files.write_text(results_folder / LEFT_OUT_FILE, _left_out_json(rows))
    return study_tables.left_out_part(results, rows, (link / plot).as_posix()), rows


def _camera(folder: Path) -> str:
    file = folder / CAMERA_FILE
    return camera_section(read_camera_study(file)) if file.is_file() else ""


def left_out_rows(results: Results) -> list[LeftOutRow]:
    """Returns the figures of each recipe in each source or domain that was left out of its training.

    In domains, benign lesions known not to have been biopsied do not count.

    Raises:
        PlanError: the study leaves neither sources nor domains out.
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
                [str(group) for group in results.group[index]], study_tables.left_out_statistic(malignant, scores, thresholds)
            )
            inside = float(np.mean([t.validation_auc for t in results.trials if (t.recipe, t.fold) == (recipe.name, source)]))
            rows.append(LeftOutRow(recipe.name, source, int((~malignant).sum()), int(malignant.sum()), inside, found))
    return rows


def _bars(table: Sequence[LeftOutRow]) -> tuple[list[str], list[tuple[str, list[tuple[float, float, float]]]]]:
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


def _left_out_json(table: Sequence[LeftOutRow]) -> str:
    """The first recipe's figures, source -> metric -> {value, ci95}, for the model cards of networks made by that recipe."""
    found = {
        row.source: {
            name: {"value": round(e.value, 4), "ci95": e.ci95 and [round(v, 4) for v in e.ci95]}
            for name, e in row.estimates.items()
        }
        for row in table
        if row.recipe == table[0].recipe
    }
    return json.dumps(found, indent=1) + "\n"


def _leaderboard_table(board: Leaderboard) -> Table:
    shown = ("roc_auc", "accuracy", "brier")  # the terminal has room for these; the document has all
    table = Table(title="mean over folds [95% interval]")
    for name in ("recipe", "ROC AUC", "accuracy", "Brier"):
        table.add_column(name, no_wrap=name != "recipe")
    for entry in board.entries:
        table.add_row(entry.name, *(str(entry.figures[metric]) for metric in shown))
    return table


def _left_out_table(rows: Sequence[LeftOutRow]) -> Table:
    table = Table(title="ROC AUC in what was left out [95% interval]")
    for name in ("recipe", "left out", "ROC AUC"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.recipe, row.source, study_tables.estimate(row.estimates["roc_auc"]))
    return table
