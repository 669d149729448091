"""Evaluates subgroups: metrics of each with intervals, and a flag where one is significantly worse than the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Metric
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import Estimate, bootstrap, replicate_weights
from aiderm_trainer.evaluation.cohorts import Cohort
from aiderm_trainer.evaluation.multiple_testing import holm
from aiderm_trainer.evaluation.report_part import ReportPart

MIN_CASES = 15  # of each label that a metric needs; fewer cannot be told from chance
LEVEL = 0.05
TESTED = ("roc_auc", "sensitivity", "specificity")
Flags = NDArray[np.bool_]


class GroupComparison(ReportPart):
    """A subgroup's metric against the rest of its family.

    Attributes:
        difference: subgroup minus rest, with its interval.
        p: two-sided, from the bootstrap.
        p_holm: ``p`` corrected for the number of subgroups in the family (Holm 1979).
        verdict: ``worse`` or ``better`` where ``p_holm`` is below 0.05, else ``no difference shown``.
    """

    difference: Metric
    p: float
    p_holm: float
    verdict: Literal["worse", "better", "no difference shown"]


class Subgroup(ReportPart):
    """One subgroup of a split; a metric without the cases that it needs is absent from ``compared``."""

    family: str
    name: str
    count: int
    malignant: int
    melanoma: int
    metrics: dict[str, Metric]
    compared: dict[str, GroupComparison]

    @property
    def worse(self) -> list[str]:
        """Names of the metrics in which the subgroup is significantly worse."""
        return [name for name, found in self.compared.items() if found.verdict == "worse"]

    @property
    def too_few(self) -> list[str]:
        """Names of the metrics for which there are too few cases."""
        return [name for name in TESTED if name not in self.compared]


def subgroups(of: Cohort, families: Mapping[str, Sequence[str]], threshold: float, replicates: int, seed: int) -> list[Subgroup]:
    """Evaluates every value of every family.

    A subgroup is compared with all other rows of the split whose value is known. If either side has fewer than ``MIN_CASES``
    groups of a label that a metric needs, nothing is claimed.

    Args:
        of: N rows of one split.
        families: family -> N values, empty where unknown; a family with fewer than two values is left out.
        threshold: threshold at which a row is called malignant.
        replicates: bootstrap resamples of groups.
        seed: seed of the resampling.

    Raises:
        ValueError: a family that does not have N values.
    """
    out: list[Subgroup] = []
    blocks = list(replicate_weights(of.groups, replicates, seed))
    for family, values in families.items():
        if len(values) != len(of.groups):
            raise ValueError(f"family {family} needs {len(of.groups)} values. Received: {len(values)}")
        value = np.array(values)
        names = [str(name) for name in dict.fromkeys(sorted(values)) if name]
        if len(names) < 2:
            continue
        compared: dict[str, dict[str, tuple[Metric, float]]] = {metric: {} for metric in TESTED}
        for name in names:
            inside, rest = value == name, (value != name) & (value != "")
            for metric in TESTED:
                if _enough(of, inside, metric) and _enough(of, rest, metric):
                    compared[metric][name] = _difference(of, inside, rest, metric, threshold, blocks)
        corrected = {
            metric: dict(zip(found, holm([p for _, p in found.values()]), strict=True)) for metric, found in compared.items()
        }
        for name in names:
            comparisons = {
                metric: _comparison(*compared[metric][name], corrected[metric][name])
                for metric in TESTED
                if name in compared[metric]
            }
            out.append(_subgroup(of, value == name, family, name, threshold, comparisons, replicates, seed))
    return out


def _needs(of: Cohort, metric: str) -> tuple[Flags, ...]:
    return {"roc_auc": (of.malignant, ~of.malignant), "sensitivity": (of.malignant,), "specificity": (~of.malignant,)}[metric]


def _enough(of: Cohort, rows: Flags, metric: str) -> bool:
    groups = np.array(of.groups)
    return all(len(np.unique(groups[rows & label])) >= MIN_CASES for label in _needs(of, metric))


def _value(of: Cohort, rows: Flags, metric: str, threshold: float, weights: metrics.Floats) -> metrics.Floats:
    """Returns one metric ``[B]`` of the rows for weights ``[B, N]``."""
    y, score, w = of.malignant[rows], of.malignancy[rows], weights[:, rows]
    if metric == "roc_auc":
        return metrics.roc_auc(y, score, w)
    called = score >= threshold
    return metrics.share(called, w, y) if metric == "sensitivity" else metrics.share(~called, w, ~y)


def _difference(
    of: Cohort, inside: Flags, rest: Flags, metric: str, threshold: float, blocks: Sequence[metrics.Floats]
) -> tuple[Metric, float]:
    """Difference with its percentile interval and two-sided p (Davison and Hinkley 1997, section 4.2)."""

    def gap(weights: metrics.Floats) -> metrics.Floats:
        return _value(of, inside, metric, threshold, weights) - _value(of, rest, metric, threshold, weights)

    point = float(gap(metrics.unit_weights(len(of.groups)))[0])
    drawn = np.concatenate([gap(block) for block in blocks])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2.0 * (1 + float(tail)) / (1 + len(drawn)))
    return Metric(value=point, ci95=(float(low), float(high))), p


def _comparison(difference: Metric, p: float, p_holm: float) -> GroupComparison:
    verdict: Literal["worse", "better", "no difference shown"] = "no difference shown"
    if p_holm < LEVEL:
        verdict = "worse" if difference.value < 0 else "better"
    return GroupComparison(difference=difference, p=p, p_holm=p_holm, verdict=verdict)


def _subgroup(
    of: Cohort,
    rows: Flags,
    family: str,
    name: str,
    threshold: float,
    compared: dict[str, GroupComparison],
    replicates: int,
    seed: int,
) -> Subgroup:
    inside = np.flatnonzero(rows)
    groups = [of.groups[i] for i in inside]
    part = np.ones(len(inside), np.bool_)
    alone = Cohort(
        groups, of.malignant[inside], of.malignancy[inside], of.probability[inside], of.class_index[inside],
        of.dx_known[inside], of.melanoma[inside], of.decision[inside],
    )  # fmt: skip
    found = bootstrap(
        groups, lambda weights: {metric: _value(alone, part, metric, threshold, weights) for metric in TESTED}, replicates, seed
    )
    return Subgroup(
        family=family,
        name=name,
        count=len(inside),
        malignant=int(alone.malignant.sum()),
        melanoma=int(alone.melanoma.sum()),
        metrics={metric: _metric(alone, metric, value) for metric, value in found.items()},
        compared=compared,
    )


def _metric(of: Cohort, name: str, found: Estimate) -> Metric:
    if name != "roc_auc":
        found = found.of_trials(len(set(np.array(of.groups)[_needs(of, name)[0]])))
    return found.metric()
