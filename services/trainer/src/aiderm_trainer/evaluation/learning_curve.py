"""Measures how many labelled images a clinic needs for ``recalibrate``.

It uses scores of models that were trained without the domain: some of its images are drawn, threshold and probabilities are
fitted to them, and the fit is tested on the domain's other images.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.report_part import ReportPart

SIZES = (25, 50, 100, 200)
DRAWS = 50
SEED = 20_251_128
MIN_TESTED = 50  # images that must be left to test the fit on
MIN_OF_EACH = 2  # malignant and benign images that a draw needs: with one label nothing can be fitted
BOUND_DRAWS = 200
COLUMNS = ("domain", "group", "malignant", "malignancy")

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Recalibration:
    """A fit: a function that recalibrates malignancies ``[N]``, and the new threshold."""

    apply: Callable[[metrics.Floats], metrics.Floats]
    threshold: float


Fit = Callable[[metrics.Floats, Flags, Sequence[str]], Recalibration]


class CurvePoint(ReportPart):
    """Metrics of the recalibrated answers on a domain's other images, over repeated draws.

    Attributes:
        domain: domain that was left out of training.
        images: number of images in the fit; 0 is the model without recalibration.
        draws: number of draws; 1 without a fit.
        ece: median expected calibration error.
        ece_high: its 90th percentile.
        within_bound: share of draws whose error is not above what a perfectly calibrated model shows in 95% of draws.
        sensitivity, specificity: medians at the fitted threshold.
        sensitivity_low: 10th percentile.
    """

    domain: str
    images: int
    draws: int
    ece: float
    ece_high: float
    within_bound: float
    sensitivity: float
    sensitivity_low: float
    specificity: float


@dataclass(frozen=True)
class DomainScores:
    """Malignancies ``[N]`` of a model that was trained without the domain, with labels ``[N]`` and N group names."""

    domain: str
    malignancy: metrics.Floats
    malignant: Flags
    groups: list[str]


def read_domain_scores(file: Path) -> list[DomainScores]:
    """Reads a CSV table of ``COLUMNS``: one row per image, scored by a model that was trained without the row's domain.

    Raises:
        ValueError: a missing column, an invalid label or an invalid probability.
    """
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(f"{file} needs the columns {', '.join(COLUMNS)}. Missing: {', '.join(sorted(missing))}")
        lines = list(reader)
    for number, line in enumerate(lines, start=2):
        try:
            good = line["malignant"] in ("0", "1") and 0.0 <= float(line["malignancy"]) <= 1.0
        except ValueError:
            good = False
        if not good:
            received = f"{line['malignant']!r}, {line['malignancy']!r}"
            raise ValueError(f"{file}, line {number}: malignant must be 0 or 1, malignancy 0..1. Received: {received}")
    out = []
    for domain in dict.fromkeys(line["domain"] for line in lines):
        own = [line for line in lines if line["domain"] == domain]
        score = np.array([float(line["malignancy"]) for line in own])
        out.append(DomainScores(domain, score, np.array([line["malignant"] == "1" for line in own]), [x["group"] for x in own]))
    return out


def learning_curve(
    of: DomainScores,
    threshold: float,
    fit: Fit,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[CurvePoint]:
    """Computes the curve of one domain; a size that leaves fewer than ``MIN_TESTED`` images is left out.

    Args:
        of: the domain's scores.
        threshold: threshold of the model before recalibration.
        fit: the fit of ``recalibrate``, as a function of malignancies, labels and groups.
        sizes: images to fit to.
        draws: repetitions of each size, with whole groups drawn at random.
        seed: seed of the draws.
    """
    if of.malignant.all() or not of.malignant.any():
        return []
    unfitted = _test(of.malignant, of.malignancy, threshold)
    points = [_point(of.domain, 0, [unfitted])]
    for size in sizes:
        if len(of.groups) - size < MIN_TESTED:
            continue
        tested = []
        for drawn in _draws(of, size, draws, seed):
            fitted = fit(of.malignancy[drawn], of.malignant[drawn], [of.groups[i] for i in np.flatnonzero(drawn)])
            tested.append(_test(of.malignant[~drawn], fitted.apply(of.malignancy[~drawn]), fitted.threshold))
        if tested:
            points.append(_point(of.domain, size, tested))
    return points


def _draws(of: DomainScores, size: int, draws: int, seed: int) -> Iterator[Flags]:
    """Draws random whole groups of about ``size`` images with both labels, as flags ``[N]``."""
    names = np.array(of.groups)
    unique = np.unique(names)
    rng = np.random.default_rng([seed, size])
    for _ in range(draws):
        order = {name: place for place, name in enumerate(rng.permutation(unique))}
        first = np.argsort([order[name] for name in names], kind="stable")[:size]
        drawn = np.isin(names, names[first])
        few = min(int(side.sum()) for side in (of.malignant[drawn], ~of.malignant[drawn]))
        left = min(int(side.sum()) for side in (of.malignant[~drawn], ~of.malignant[~drawn]))
        if few >= MIN_OF_EACH and left >= 1:
            yield drawn


_Tested = tuple[float, bool, float, float]


def _test(malignant: Flags, malignancy: metrics.Floats, threshold: float) -> _Tested:
    """Calibration error, whether it is within the bound, sensitivity and specificity."""
    ece = metrics.expected_calibration_error(malignant, malignancy).item()
    bound = metrics.ece_bound(malignancy, draws=BOUND_DRAWS)
    called = malignancy >= threshold
    return ece, ece <= bound, float(called[malignant].mean()), float((~called)[~malignant].mean())


def _point(domain: str, images: int, tested: Sequence[_Tested]) -> CurvePoint:
    ece, within, sensitivity, specificity = (np.array(values, np.float64) for values in zip(*tested, strict=True))
    return CurvePoint(
        domain=domain,
        images=images,
        draws=len(tested),
        ece=float(np.median(ece)),
        ece_high=float(np.quantile(ece, 0.9)),
        within_bound=float(within.mean()),
        sensitivity=float(np.median(sensitivity)),
        sensitivity_low=float(np.quantile(sensitivity, 0.1)),
        specificity=float(np.median(specificity)),
    )
