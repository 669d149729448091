"""Analyses what the model changes for the readers of a study: how well they decide, how long they take, how they follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aiderm_core.bundle.manifest import Metric
from aiderm_core.decision import Decision
from aiderm_trainer.evaluation.obuchowski_rockette import Floats, Interval, difference, jackknife_covariance, single
from aiderm_trainer.evaluation.reader_table import NO_REFER, REFER, UNSURE, ReaderTable
from aiderm_trainer.evaluation.report_part import ReportPart

Unsure = Literal["refer", "no_refer"]
DEFINITIONS: Final = {
    "auc": "AUC of the confidence: sure not to refer is lowest, unsure is in the middle, sure to refer is highest",
    "sensitivity": "share of malignant cases that are referred",
    "specificity": "share of benign cases that are not referred",
    "net_benefit": "malignant cases referred, less the benign ones at the odds of the threshold probability, per case "
    "(Vickers and Elkin, Medical Decision Making 2006)",
    "seconds": "mean time per case in seconds; with the model: both decisions together",
}
ADVICE: Final = {
    "followed_right": "right advice that the reader's final decision follows",
    "followed_wrong": "wrong advice that the reader's final decision follows",
    "switched_right": "right advice against the reader's first decision that changed it",
    "switched_wrong": "wrong advice against the reader's first decision that changed it",
    "corrected": "readings that were wrong without the model and right with it",
    "misled": "readings that were right without the model and wrong with it",
}
_SHARES: Final = ("auc", "sensitivity", "specificity")


class BesideModel(ReportPart):
    """One figure without and with the model; ``p`` is that of the difference, None where the readings have no variance."""

    without: Metric
    with_model: Metric
    difference: Metric
    p: float | None


class Readers(ReportPart):
    """Results of one reader or of all. ``figures``: see ``DEFINITIONS``; ``advice``: see ``ADVICE``, only those with readings."""

    figures: dict[str, BesideModel]
    advice: dict[str, Metric]


class ReaderStudy(ReportPart):
    """Results of a reader study.

    Attributes:
        cases: number of cases that every reader read.
        malignant: number of malignant cases among them.
        models: the models that gave the advice.
        unsure: the decision that unsure counts as.
        prevalence: prevalence of malignant cases that the net benefit assumes.
        threshold: probability of malignancy at which referring is as good as not referring, in the net benefit.
        left_out: number of readings that do not count, by reason.
        pooled: all readers; the intervals generalise to other readers and cases, or to other cases only if there is one reader.
        by_reader: each reader; the intervals generalise to other cases.
    """

    cases: int
    malignant: int
    models: list[str]
    unsure: Unsure
    prevalence: float
    threshold: float
    left_out: dict[str, int]
    pooled: Readers
    by_reader: dict[str, Readers]


class _Figure(NamedTuple):
    """``value``: ``[2, R]``; ``left_out``: ``[2, R, K]``, the value without case k."""

    value: Floats
    left_out: Floats


def reader_study(
    table: ReaderTable, *, unsure: Unsure, threshold: float, prevalence: float | None, replicates: int, seed: int
) -> ReaderStudy:
    """Analyses a table.

    Args:
        table: the readings.
        unsure: the decision that unsure counts as.
        threshold: threshold probability of the net benefit, between 0 and 1.
        prevalence: prevalence of malignant cases in the net benefit, between 0 and 1; that of the table when None.
        replicates: bootstrap resamples of readers and cases, for the advice.
        seed: seed of the resampling.

    Raises:
        ValueError: a threshold or prevalence that is not between 0 and 1.
    """
    share = float(table.malignant.mean()) if prevalence is None else prevalence
    for name, value in (("threshold", threshold), ("prevalence", share)):
        if not 0 < value < 1:
            raise ValueError(f"the {name} must lie between 0 and 1. Received: {value}")
    figures = _figures(table, unsure, threshold, share)
    flags = _advice(table, unsure)
    everyone = slice(None)
    drawn = _resampled(flags, replicates, seed) if len(table.readers) > 1 else None
    return ReaderStudy(
        cases=len(table.cases),
        malignant=int(table.malignant.sum()),
        models=list(table.models),
        unsure=unsure,
        prevalence=share,
        threshold=threshold,
        left_out=table.left_out,
        pooled=_readers(figures, flags, everyone, table.malignant, drawn),
        by_reader={
            name: _readers(figures, flags, slice(i, i + 1), table.malignant, None) for i, name in enumerate(table.readers)
        },
    )


def suspicion(table: ReaderTable) -> Floats:
    """Scores ``[2, R, K]``: 1 + confidence, positive for refer and negative for no referral; 0 for unsure."""
    sign = np.select([table.decision == REFER, table.decision == NO_REFER], [1.0, -1.0], 0.0)
    return np.asarray(sign * (1.0 + table.confidence))


def auc_figure(score: Floats, malignant: NDArray[np.bool_]) -> _Figure:
    """The empirical AUC of scores ``[2, R, K]``, ties counted half; leave-one-out by the placements of DeLong et al. (1988)."""
    positive, negative = score[..., malignant], score[..., ~malignant]
    above = (positive[..., :, None] > negative[..., None, :]) + 0.5 * (positive[..., :, None] == negative[..., None, :])
    value, m, n = above.mean(axis=(-1, -2)), positive.shape[-1], negative.shape[-1]
    left_out = np.empty(score.shape)
    left_out[..., malignant] = (m * value[..., None] - above.mean(axis=-1)) / (m - 1)
    left_out[..., ~malignant] = (n * value[..., None] - above.mean(axis=-2)) / (n - 1)
    return _Figure(value, left_out)


def _mean_figure(values: Floats, among: NDArray[np.bool_]) -> _Figure:
    """The mean of values ``[2, R, K]`` over the cases in ``among``."""
    count, chosen = among.sum(), values[..., among]
    value = chosen.mean(axis=-1)
    left_out = np.repeat(value[..., None], values.shape[-1], axis=-1)
    left_out[..., among] = (count * value[..., None] - chosen) / (count - 1)
    return _Figure(value, left_out)


def _figures(table: ReaderTable, unsure: Unsure, threshold: float, prevalence: float) -> dict[str, _Figure]:
    refers = _refers(table.decision, unsure).astype(np.float64)
    sensitivity = _mean_figure(refers, table.malignant)
    specificity = _mean_figure(1.0 - refers, ~table.malignant)
    seconds = np.stack([table.seconds[0], table.seconds.sum(axis=0)])
    cost = threshold / (1 - threshold) * (1 - prevalence)

    def net_benefit(hits: Floats, correct: Floats) -> Floats:
        return np.asarray(prevalence * hits - cost * (1 - correct))

    return {
        "auc": auc_figure(suspicion(table), table.malignant),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "net_benefit": _Figure(*(net_benefit(hits, correct) for hits, correct in zip(sensitivity, specificity, strict=True))),
        "seconds": _mean_figure(seconds, np.ones_like(table.malignant)),
    }


def _refers(decision: NDArray[np.str_], unsure: Unsure) -> NDArray[np.bool_]:
    return np.asarray((decision == REFER) | ((decision == UNSURE) & (unsure == REFER)))


def _advice(table: ReaderTable, unsure: Unsure) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each key of ``ADVICE``, which readings show it and among which readings it is counted, ``[R, K]`` each."""
    before, after = _refers(table.decision, unsure)
    refer = table.advice == Decision.SUSPICIOUS.value
    advised = refer | (table.advice == Decision.LOW_SUSPICION.value)  # uncertain and rejected advise nothing
    right, truth = refer == table.malignant, np.broadcast_to(table.malignant, before.shape)
    follows, against, everyone = after == refer, before != refer, np.ones_like(before)
    return {
        "followed_right": (follows, advised & right),
        "followed_wrong": (follows, advised & ~right),
        "switched_right": (follows, advised & right & against),
        "switched_wrong": (follows, advised & ~right & against),
        "corrected": ((before != truth) & (after == truth), everyone),
        "misled": ((before == truth) & (after != truth), everyone),
    }


_Flags = Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]


def _resampled(flags: _Flags, replicates: int, seed: int) -> dict[str, tuple[float, float]]:
    """95% percentile intervals over resampled readers and resampled cases (A. B. Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 2007, shows that they are not too short for crossed effects)."""
    rng = np.random.default_rng(seed)
    readers, cases = next(iter(flags.values()))[0].shape
    rows = rng.multinomial(readers, np.full(readers, 1 / readers), replicates).astype(np.float64)
    columns = rng.multinomial(cases, np.full(cases, 1 / cases), replicates).astype(np.float64)

    def total(counted: NDArray[np.bool_]) -> Floats:
        return np.asarray(np.einsum("br,rk,bk->b", rows, counted.astype(np.float64), columns, optimize=True))

    found = {}
    for name, (shows, among) in flags.items():
        whole, part = total(among), total(shows & among)
        drawn = part[whole > 0] / whole[whole > 0]
        if len(drawn) and np.ptp(drawn) > 0:
            low, high = np.percentile(drawn, [2.5, 97.5])
            found[name] = (float(low), float(high))
    return found


def _readers(
    figures: Mapping[str, _Figure],
    flags: _Flags,
    which: slice,
    malignant: NDArray[np.bool_],
    drawn: Mapping[str, tuple[float, float]] | None,
) -> Readers:
    """Results of the readers ``which``; ``drawn``: intervals of the advice, or None for one reader's Wilson intervals (1927)."""
    compared = {name: _compare(name, _Figure(of.value[:, which], of.left_out[:, which])) for name, of in figures.items()}
    if drawn is None:
        totals = {"sensitivity": int(malignant.sum()), "specificity": int((~malignant).sum())}
        for name, total in totals.items():
            each = compared[name]
            changed = {side: _wilson(round(getattr(each, side).value * total), total) for side in ("without", "with_model")}
            compared[name] = each.model_copy(update=changed)
    advice = {}
    for name, (shows, among) in flags.items():
        count, part = int(among[which].sum()), int((shows & among)[which].sum())
        if count:
            advice[name] = _wilson(part, count) if drawn is None else Metric(value=part / count, ci95=drawn.get(name))
    return Readers(figures=compared, advice=advice)


def _compare(name: str, of: _Figure) -> BesideModel:
    covariance = jackknife_covariance(of.left_out)
    bound: Callable[[float], float] = (lambda value: min(max(value, 0.0), 1.0)) if name in _SHARES else (lambda value: value)

    def metric(found: Interval, limit: Callable[[float], float]) -> Metric:
        ci95 = None if found.ci95 is None else (limit(found.ci95[0]), limit(found.ci95[1]))
        return Metric(value=found.value, ci95=ci95)

    changed = difference(of.value, covariance)
    without, with_model = (single(of.value[way], covariance[way, :, way]) for way in range(2))
    return BesideModel(
        without=metric(without, bound),
        with_model=metric(with_model, bound),
        difference=metric(changed, lambda value: value),
        p=changed.p,
    )


def _wilson(part: int, whole: int) -> Metric:
    found = stats.binomtest(part, whole).proportion_ci(method="wilson")
    return Metric(value=part / whole, ci95=(max(float(found.low), 0.0), min(float(found.high), 1.0)))
