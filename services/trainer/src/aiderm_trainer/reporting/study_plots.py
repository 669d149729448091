"""Draws a study's plots as PNG files: the leaderboard with its intervals, every pair's difference, and sources left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aiderm_trainer.reporting.plots import COLOURS
from aiderm_trainer.study.leaderboard import Difference, Entry, Leaderboard

LEADERBOARD = "leaderboard.png"
DIFFERENCES = "differences.png"
SOURCES = "sources.png"
DOMAINS = "domains.png"
_MARKS = {"real": "**", "these networks": "*", "not shown": ""}


def plot_leaderboard(path: Path, entries: Sequence[Entry]) -> None:
    """Plots the ROC AUC of each entry: the mean over folds with its interval, and the value of each fold."""
    figure = Figure(figsize=(8.0, 1.2 + 0.42 * len(entries)), layout="constrained")
    axis = figure.add_subplot()
    for place, entry in enumerate(reversed(entries)):
        value = entry.figures["roc_auc"]
        colour = COLOURS[1] if entry.kind == "solo" else COLOURS[2]
        axis.plot(entry.auc, [place] * len(entry.auc), "o", color=colour, alpha=0.3, markersize=4)
        reach = [[value.mean - value.low], [value.high - value.mean]]
        axis.errorbar([value.mean], [place], xerr=reach, fmt="s", color=colour, capsize=3)
    axis.set_yticks(range(len(entries)), [entry.name for entry in reversed(entries)])
    axis.set_xlabel("ROC AUC on held-out folds: mean, 95% interval, each fold; blue: one network, red: several")
    axis.grid(visible=True, axis="x", alpha=0.3)
    _save(figure, path)


def plot_differences(path: Path, board: Leaderboard) -> None:
    """Plots a matrix of differences in ROC AUC, row minus column, with the test result of each."""
    names = [entry.name for entry in board.entries]
    place = {name: i for i, name in enumerate(names)}
    values, marks = np.full((len(names), len(names)), np.nan), {}
    pairs: tuple[Difference, ...] = (*board.solo, *board.ensembles)
    for pair in pairs:
        row, column = place[pair.better], place[pair.worse]
        values[row, column], values[column, row] = pair.mean, -pair.mean
        marks[row, column] = marks[column, row] = _MARKS[pair.verdict]
    side = 2.5 + 0.75 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.add_subplot()
    reach = float(np.nanmax(np.abs(values))) if marks else 1.0
    image = axis.imshow(values, cmap="RdBu", vmin=-reach or -1, vmax=reach or 1)
    for (row, column), mark in marks.items():
        dark = abs(values[row, column]) > 0.6 * reach
        text = f"{values[row, column]:+.3f}{mark}"
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_title("ROC AUC, row less column\n** real   * only for the networks trained here   (none) not shown", fontsize=9)
    figure.colorbar(image, ax=axis, shrink=0.7)
    _save(figure, path)


def plot_sources(path: Path, sources: Sequence[str], bars: Sequence[tuple[str, Sequence[tuple[float, float, float]]]]) -> None:
    """Plots the ROC AUC of each recipe in each source; ``bars`` holds recipes with their (value, low, high) by source."""
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.add_subplot()
    width = 0.8 / len(bars)
    for number, (name, values) in enumerate(bars):
        at = np.arange(len(sources)) + (number - (len(bars) - 1) / 2) * width
        mean = np.array([value for value, _, _ in values])
        reach = np.abs(np.array([[value - low, high - value] for value, low, high in values]).T)
        axis.errorbar(at, mean, yerr=reach, fmt="s", color=COLOURS[(number + 1) % len(COLOURS)], capsize=3, label=name)
    many = len(sources) > 4
    axis.set_xticks(range(len(sources)), sources, rotation=20 if many else 0, ha="right" if many else "center")
    axis.set_ylabel("ROC AUC")
    axis.grid(visible=True, axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # Without the Software entry, which names matplotlib's version, the same data always give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
