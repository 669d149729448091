"""Builds the contents of a study's report for its templates: the set-up, the tables and the gain from averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import Estimate
from aiderm_trainer.evaluation.metrics import Floats
from aiderm_trainer.reporting.tables import Table
from aiderm_trainer.study.folds import FEWEST
from aiderm_trainer.study.leaderboard import AVERAGE, GREEDY, METRICS, Difference, Entry, Leaderboard
from aiderm_trainer.study.plan import BY_DOMAIN, Recipe
from aiderm_trainer.study.record import TrialResult
from aiderm_trainer.study.results import Results

_HEADINGS = ("ROC AUC", "PR AUC", "accuracy", "balanced accuracy", "F1", "sensitivity", "specificity", "Brier", "ECE")
_SMALLEST = 0.0005  # a smaller lead does not count: the report would show it as 0.000


@dataclass(frozen=True)
class Setup:
    """The set-up of a study.

    Attributes:
        benign, malignant, groups: numbers of images, and of groups of images.
        sources: names.
        first: the first trial, which shows the sizes of a fold.
        hours: total duration of all trials.
        recipes: what was compared.
        seeds_differ: whether the recipes have different numbers of seeds.
    """

    benign: int
    malignant: int
    groups: int
    sources: list[str]
    first: TrialResult
    hours: float
    recipes: Table
    seeds_differ: bool


@dataclass(frozen=True)
class LeftOutRow:
    """Figures of a recipe in a source or domain that it was not trained on.

    Attributes:
        recipe, source: names.
        benign, malignant: images of the source.
        inside: AUC on the inner validation rows, which come from the sources used in training.
        estimates: roc_auc, sensitivity and specificity with intervals.
    """

    recipe: str
    source: str
    benign: int
    malignant: int
    inside: float
    estimates: dict[str, Estimate]

    @property
    def lost(self) -> float:
        """ROC AUC inside the sources used in training, minus that in the source left out."""
        return self.inside - self.estimates["roc_auc"].value


@dataclass(frozen=True)
class LeftOutPart:
    """The section of a study that leaves sources or domains out.

    Attributes:
        what: source or domain.
        table: a row for each recipe and source.
        worst: the row that loses most.
        mean_loss: of ROC AUC.
        train_rows: number of training images, by the source left out.
        plot: link to it.
        fewest: images of each label that a domain must have to be left out.
    """

    what: str
    table: Table
    worst: LeftOutRow
    mean_loss: float
    train_rows: dict[str, int]
    plot: str
    fewest: int = FEWEST


@dataclass(frozen=True)
class Averages:
    """The gain from averaging several networks.

    Attributes:
        solo: the best single network.
        best: the best average.
        lead: of the best average over the best single network; None if it does not lead.
        comparisons: each an average, a single network and their difference.
        greedy_shares: share of each recipe in the greedy selection, the largest first.
        really_worse: averages that are worse than a single network with the verdict ``real``.
    """

    solo: Entry
    best: Entry
    lead: Difference | None
    comparisons: list[tuple[Entry, Entry, Difference]]
    greedy_shares: list[tuple[str, float]]
    really_worse: list[str]


def setup(results: Results) -> Setup:
    """Returns the set-up of a study."""
    header = [
        "recipe",
        "architecture",
        "what is trained",
        "input",
        "parameters",
        "epochs at most",
        "seeds a fold",
        "seconds a trial",
    ]
    rows = []
    for recipe in results.plan.recipes:
        own = [t for t in results.trials if t.recipe == recipe.name]
        if own:
            epochs = recipe.train.head_epochs if recipe.frozen else recipe.train.epochs
            parameters, seconds = f"{own[0].parameters / 1e6:.1f} M", f"{np.median([t.seconds for t in own]):.0f}"
            trained = [f"{own[0].size} px", parameters, str(epochs), str(len(recipe.seeds)), seconds]
            rows.append([recipe.name, recipe.train.arch, _what_is_trained(recipe), *trained])
    return Setup(
        int((~results.malignant).sum()),
        int(results.malignant.sum()),
        len(np.unique(results.group)),
        sorted(np.unique(results.source)),
        results.trials[0],
        sum(t.seconds for t in results.trials) / 3600,
        Table("", header, rows),
        len({len(recipe.seeds) for recipe in results.plan.recipes}) > 1,
    )


def _what_is_trained(recipe: Recipe) -> str:
    if recipe.frozen:
        return "the head, on frozen ImageNet features"
    return "all of it, from random weights" if recipe.train.weights == "none" else "head, then the upper layers (fine-tuned)"


def board_table(board: Leaderboard) -> Table:
    """Every figure of every entry, best first; averages in italics."""
    rows = [
        [entry.name if entry.kind == "solo" else f"*{entry.name}*", *(str(entry.figures[metric]) for metric in METRICS)]
        for entry in board.entries
    ]
    return Table("", ["", *_HEADINGS], rows)


def published_table(results: Results, board: Leaderboard) -> Table | None:
    """The study's accuracies among published ones, best first; None if the plan names no published ones."""
    if not results.plan.published:
        return None
    ours = [
        (entry.figures["accuracy"].mean, [f"**{entry.name}**", str(entry.figures["accuracy"]), "this study: grouped folds"])
        for entry in board.entries
    ]
    theirs = [(p.accuracy, [p.name, f"{p.accuracy:.3f}", p.protocol]) for p in results.plan.published]
    return Table("", ["", "accuracy", "protocol"], [row for _, row in sorted([*ours, *theirs], key=lambda item: -item[0])])


def averages(board: Leaderboard) -> Averages | None:
    """Compares averages with single networks; None if nothing was averaged."""
    several = [entry for entry in board.entries if entry.kind == "ensemble"]
    solo = next((entry for entry in board.entries if entry.kind == "solo"), None)
    if not several or solo is None:
        return None
    by_name = {entry.name: entry for entry in board.entries}
    differences = {frozenset((pair.better, pair.worse)): pair for pair in board.ensembles}
    pairs = [(entry, solo) for entry in several]
    for entry in several:
        own = entry.name.rsplit(", ", 1)[0]  # of "RECIPE, N seeds"
        if entry.name not in (AVERAGE, GREEDY) and own != solo.name:
            pairs.append((entry, by_name[own]))
    best = max(several, key=lambda entry: entry.figures["roc_auc"].mean)
    against = differences[frozenset((best.name, solo.name))]
    members = by_name[GREEDY].members if GREEDY in by_name else {}
    names = {entry.name for entry in several}
    return Averages(
        solo,
        best,
        against if against.better == best.name and against.mean >= _SMALLEST else None,
        [(entry, other, differences[frozenset((entry.name, other.name))]) for entry, other in pairs],
        sorted(members.items(), key=lambda item: -item[1]),
        sorted({pair.worse for pair in board.ensembles if pair.verdict == "real" and pair.better not in names}),
    )


def left_out_part(results: Results, rows: Sequence[LeftOutRow], plot: str) -> LeftOutPart:
    """The section of a study that leaves sources or domains out.

    Args:
        results: of the study.
        rows: its figures.
        plot: link to their plot.
    """
    what = "domain" if results.plan.folds == BY_DOMAIN else "source"
    header = [
        "recipe",
        f"{what} left out",
        "benign / malignant",
        "ROC AUC there",
        "inside",
        "sensitivity there",
        "specificity there",
    ]
    cells = []
    for row in rows:
        auc, sensitivity, specificity = (estimate(row.estimates[name]) for name in ("roc_auc", "sensitivity", "specificity"))
        counts = f"{row.benign:,} / {row.malignant:,}"
        cells.append([row.recipe, row.source, counts, auc, f"{row.inside:.3f}", sensitivity, specificity])
    return LeftOutPart(
        what=what,
        table=Table("", header, cells),
        worst=max(rows, key=lambda row: row.lost),
        mean_loss=float(np.mean([row.lost for row in rows])),
        train_rows={trial.fold: trial.train_rows for trial in results.trials},
        plot=plot,
    )


def left_out_statistic(
    malignant: NDArray[np.bool_], scores: Sequence[Floats], thresholds: Sequence[float]
) -> Callable[[Floats], dict[str, Floats]]:
    """Statistic for the bootstrap: ROC AUC, sensitivity and specificity, averaged over seeds."""

    def statistic(weights: Floats) -> dict[str, Floats]:
        called = [metrics.at_threshold(malignant, s, t, weights) for s, t in zip(scores, thresholds, strict=True)]
        return {
            "roc_auc": np.mean([metrics.roc_auc(malignant, s, weights) for s in scores], axis=0),
            **{name: np.mean([c[name] for c in called], axis=0) for name in ("sensitivity", "specificity")},
        }

    return statistic


def estimate(value: Estimate) -> str:
    """Formats a value with its bootstrap interval, if it has one."""
    return f"{value.value:.3f}" + (f" [{value.ci95[0]:.3f}, {value.ci95[1]:.3f}]" if value.ci95 else "")
