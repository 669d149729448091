"""Ranks every recipe, and averages of several, with intervals and paired tests, from a study's scores alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.metrics import Floats
from aiderm_trainer.evaluation.multiple_testing import holm
from aiderm_trainer.study import statistics
from aiderm_trainer.study.results import Part, Results
from aiderm_trainer.study.selection import select
from aiderm_trainer.study.youden import youden_threshold

METRICS = ("roc_auc", "pr_auc", "accuracy", "balanced_accuracy", "f1", "sensitivity", "specificity", "brier", "ece")
SIGNIFICANT = 0.05
GREEDY = "greedy selection"
AVERAGE = "average of all"

Kind = Literal["solo", "ensemble"]
Verdict = Literal["real", "these networks", "not shown"]


@dataclass(frozen=True)
class Figure:
    """A mean over folds with its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Entry:
    """One row of the leaderboard.

    Attributes:
        name: name of the recipe, or of the average.
        kind: one network, or several.
        figures: by metric.
        auc: ROC AUC of each fold, seeds averaged.
        members: for an ensemble, the share of each recipe's networks, averaged over folds.
    """

    name: str
    kind: Kind
    figures: dict[str, Figure]
    auc: tuple[float, ...]
    members: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Difference in ROC AUC between two entries.

    Attributes:
        better, worse: names.
        mean: over folds, at least 0.
        low, high: 95% interval of the corrected resampled t-test, not adjusted for the number of pairs.
        p_t: p-value of that test, adjusted by Holm.
        p_bootstrap: p-value of the paired bootstrap over groups, adjusted by Holm.
    """

    better: str
    worse: str
    mean: float
    low: float
    high: float
    p_t: float
    p_bootstrap: float

    @property
    def verdict(self) -> Verdict:
        """``real``: both tests are significant; ``these networks``: only the bootstrap is, which takes the networks as given."""
        if max(self.p_t, self.p_bootstrap) < SIGNIFICANT:
            return "real"
        return "these networks" if self.p_bootstrap < SIGNIFICANT else "not shown"


@dataclass(frozen=True)
class Leaderboard:
    """The whole leaderboard.

    Attributes:
        entries: best first.
        solo: differences between recipes, one family of tests.
        ensembles: differences between ensembles and recipes, another family of tests.
    """

    entries: tuple[Entry, ...]
    solo: tuple[Difference, ...]
    ensembles: tuple[Difference, ...]


@dataclass(frozen=True)
class _Scored:
    """Held-out scores of an entry: for each fold one array and one threshold for each seed."""

    name: str
    kind: Kind
    scores: dict[str, list[NDArray[np.float32]]]
    thresholds: dict[str, list[float]]
    members: dict[str, float]


def leaderboard(results: Results) -> Leaderboard:
    """Ranks a study's recipes and ensembles by ROC AUC on held-out folds.

    Args:
        results: of a study with numbered folds.

    Raises:
        ValueError: no recipe has finished in every fold.
    """
    scored = _solo(results)
    if not scored:
        raise ValueError("no recipe has finished in every fold")
    solo = [entry.name for entry in scored]
    scored += _ensembles(results)
    rows = {fold: _held_out_rows(results, fold) for fold in results.folds}
    ratio = float(np.mean([t.held_out_rows / (t.train_rows + t.validation_rows) for t in results.trials]))
    entries = [_entry(entry, results, rows, ratio) for entry in scored]
    aucs = {entry.name: np.array(entry.auc) for entry in entries}
    drawn = _draws(scored, results, rows)
    pairs = list(combinations(solo, 2))
    mixed = [(e.name, s) for e in scored if e.kind == "ensemble" for s in solo]
    return Leaderboard(
        tuple(sorted(entries, key=lambda entry: -entry.figures["roc_auc"].mean)),
        _differences(pairs, aucs, drawn, ratio),
        _differences(mixed, aucs, drawn, ratio),
    )


def _held_out_rows(results: Results, fold: str) -> NDArray[np.int32]:
    return next(part.index for key, part in results.held_out.items() if key[1] == fold)


def _solo(results: Results) -> list[_Scored]:
    entries = []
    for recipe in results.plan.recipes:
        seeds = results.seeds(recipe.name)
        if seeds:
            keys = {fold: [(recipe.name, fold, seed) for seed in seeds] for fold in results.folds}
            scores = {fold: [results.held_out[key].score for key in of] for fold, of in keys.items()}
            thresholds = {fold: [_threshold(results, results.validation[key]) for key in of] for fold, of in keys.items()}
            entries.append(_Scored(recipe.name, "solo", scores, thresholds, {}))
    return entries


def _threshold(results: Results, part: Part) -> float:
    return youden_threshold(results.malignant[part.index], part.score)


def _ensembles(results: Results) -> list[_Scored]:
    """Averages over seeds, the average of all, and greedy selection, whose weights are chosen on each fold's validation rows."""
    seeds = {recipe.name: found for recipe in results.plan.recipes if (found := results.seeds(recipe.name))}
    every = [(name, seed) for name, of in seeds.items() for seed in of]
    chosen: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
    for name, of in seeds.items():
        if len(of) > 1:
            chosen[f"{name}, {len(of)} seeds"] = {fold: {(name, s): 1 / len(of) for s in of} for fold in results.folds}
    if len(seeds) > 1:
        share = {(name, seed): 1 / len(seeds) / len(of) for name, of in seeds.items() for seed in of}
        chosen[AVERAGE] = dict.fromkeys(results.folds, share)
    if len(every) > 1:
        chosen[GREEDY] = {fold: _greedy(results, fold, every) for fold in results.folds}
    return [_averaged(results, name, weights) for name, weights in chosen.items()]


def _greedy(results: Results, fold: str, every: Sequence[tuple[str, int]]) -> dict[tuple[str, int], float]:
    parts = {f"{name}\n{seed}": results.validation[name, fold, seed] for name, seed in every}
    malignant = results.malignant[next(iter(parts.values())).index]
    found = select(
        {key: part.score.astype(np.float64) for key, part in parts.items()},
        lambda score: metrics.roc_auc(malignant, score).item(),
    )
    split = {key: key.split("\n") for key in found.weights}
    return {(split[key][0], int(split[key][1])): weight for key, weight in found.weights.items()}


def _averaged(results: Results, name: str, weights: Mapping[str, Mapping[tuple[str, int], float]]) -> _Scored:
    scores, thresholds = {}, {}
    share: Counter[str] = Counter()
    for fold, of in weights.items():
        held = np.sum([w * results.held_out[recipe, fold, seed].score for (recipe, seed), w in of.items()], axis=0)
        inner = np.sum([w * results.validation[recipe, fold, seed].score for (recipe, seed), w in of.items()], axis=0)
        first = next(iter(of))
        index = results.validation[first[0], fold, first[1]].index
        scores[fold] = [held.astype(np.float32)]
        thresholds[fold] = [_threshold(results, Part(index, inner.astype(np.float32)))]
        for (recipe, _), weight in of.items():
            share[recipe] += weight / len(weights)  # type: ignore[assignment]  # a Counter adds floats just as well
    return _Scored(name, "ensemble", scores, thresholds, dict(share))


def _entry(scored: _Scored, results: Results, rows: Mapping[str, NDArray[np.int32]], ratio: float) -> Entry:
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for fold, index in rows.items():
        seeds = [
            _figures(results.malignant[index], score, threshold)
            for score, threshold in zip(scored.scores[fold], scored.thresholds[fold], strict=True)
        ]
        for name in METRICS:
            values[name].append(float(np.mean([figures[name] for figures in seeds])))
    figures = {
        name: Figure(float(np.mean(of)), *statistics.corrected_interval(of, ratio, (0.0, 1.0))) for name, of in values.items()
    }
    return Entry(scored.name, scored.kind, figures, tuple(values["roc_auc"]), scored.members)


def _figures(malignant: NDArray[np.bool_], score: NDArray[np.float32], threshold: float) -> dict[str, float]:
    called = metrics.at_threshold(malignant, score, threshold)
    return {
        "roc_auc": metrics.roc_auc(malignant, score).item(),
        "pr_auc": metrics.pr_auc(malignant, score).item(),
        "brier": metrics.brier(malignant, score).item(),
        "ece": metrics.expected_calibration_error(malignant, score).item(),
        **{name: called[name].item() for name in METRICS if name in called},
    }


def _draws(scored: Sequence[_Scored], results: Results, rows: Mapping[str, NDArray[np.int32]]) -> dict[str, Floats]:
    """Mean AUC over folds of each entry in bootstrap replicates, which resample the groups of every fold."""
    total: dict[str, Floats] = {}
    for number, (fold, index) in enumerate(rows.items()):
        drawn = statistics.bootstrap_auc(
            results.malignant[index],
            results.group[index],
            {entry.name: [score.astype(np.float64) for score in entry.scores[fold]] for entry in scored},
            statistics.SEED + number,
        )
        for name, values in drawn.items():
            total[name] = total.get(name, np.zeros(len(values))) + values / len(rows)
    return total


def _differences(
    pairs: Sequence[tuple[str, str]], aucs: Mapping[str, Floats], drawn: Mapping[str, Floats], ratio: float
) -> tuple[Difference, ...]:
    # The better entry of a pair comes first; pairs are in the order of the ranking.
    ordered = sorted(
        (pair if aucs[pair[0]].mean() >= aucs[pair[1]].mean() else pair[::-1] for pair in pairs),
        key=lambda pair: (-aucs[pair[0]].mean(), -aucs[pair[1]].mean()),
    )
    gaps = [aucs[a] - aucs[b] for a, b in ordered]
    by_t = holm([statistics.corrected_t_test(gap, ratio) for gap in gaps])
    errors = [float(np.nanstd(drawn[a] - drawn[b], ddof=1)) for a, b in ordered]
    by_bootstrap = holm([statistics.normal_test(float(gap.mean()), e) for gap, e in zip(gaps, errors, strict=True)])
    return tuple(
        Difference(a, b, float(gap.mean()), *statistics.corrected_interval(gap, ratio), p_t, p_bootstrap)
        for (a, b), gap, p_t, p_bootstrap in zip(ordered, gaps, by_t, by_bootstrap, strict=True)
    )
