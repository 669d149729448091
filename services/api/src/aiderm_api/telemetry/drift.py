"""Compares the distributions of a model's answers with those for its reference images.

The distance is the population stability index, PSI = sum (p - q) ln(p / q) over bins with the shares p of the latest answers and
q of the reference (N. Siddiqi, Credit Risk Scorecards, Wiley 2006: investigate above 0.1, act above 0.25). Without drift it is
distributed approximately as (1/n + 1/m) times a chi-square variable with one degree of freedom less than there are bins, for n
answers and m reference images (B. Yurdakul, J. Naranjo, Statistical properties of the population stability index, J. Risk Model
Validation 14 (4), 2020). The 99.9% quantile of that distribution is exported too, so that a small window raises no false alarm.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import NormalDist

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from aiderm_core.bundle.manifest import Histogram, Manifest, Reference

MIN_ANSWERS = 100
MIN_SHARE = 0.05  # of the reference in a bin; smaller bins are joined, because the logarithm of a tiny share is mostly noise
_CHANCE = NormalDist().inv_cdf(0.999)
Served = Callable[[], Iterable[Manifest]]


def psi(reference: Sequence[int], observed: Sequence[int]) -> float:
    """Population stability index of two histograms with the same bins; half a count is added to each bin, so none is empty.

    Raises:
        ValueError: the numbers of bins differ, or there are no bins.
    """
    if len(reference) != len(observed) or not reference:
        raise ValueError(f"expected as many bins in both, at least one. Received: {len(reference)} and {len(observed)}")
    total = 0.0
    in_reference, in_observed = sum(reference) + len(reference) / 2, sum(observed) + len(observed) / 2
    for expected, found in zip(reference, observed, strict=True):
        q, p = (expected + 0.5) / in_reference, (found + 0.5) / in_observed
        total += (p - q) * math.log(p / q)
    return total


def psi_by_chance(bins: int, reference: int, observed: int) -> float:
    """The value that the index exceeds once in 1,000 times without any drift.

    The chi-square quantile follows E. B. Wilson and M. M. Hilferty, The distribution of chi-square, PNAS 17 (1931).

    Args:
        bins: at least 2.
        reference: images in the reference.
        observed: answers in the window.
    """
    degrees = bins - 1
    quantile = degrees * (1 - 2 / (9 * degrees) + _CHANCE * math.sqrt(2 / (9 * degrees))) ** 3
    return (1 / reference + 1 / observed) * quantile


def join_bins(reference: Histogram) -> tuple[list[float], list[int]]:
    """Joins neighbouring bins until each holds ``MIN_SHARE``; returns the inner edges (outer bins are open) and the counts."""
    least = MIN_SHARE * sum(reference.counts)
    edges: list[float] = []
    counts: list[int] = []
    held = 0
    for count, upper in zip(reference.counts, reference.edges[1:], strict=True):
        held += count
        if held and held >= least:
            counts.append(held)
            edges.append(upper)
            held = 0
    if held and counts:
        counts[-1] += held
    return edges[:-1], counts


class Distribution:
    """Distribution of one output of one model: all answers in the reference's bins, and the latest ones in joined bins."""

    def __init__(self, reference: Histogram, window: int) -> None:
        self._edges = reference.edges[1:-1]
        self._counts = [0] * len(reference.counts)
        self._sum = 0.0
        self._reference = reference.counts
        self._joined_edges, self._joined = join_bins(reference)
        self._latest: deque[int] = deque()
        self._window = window
        self._observed = [0] * len(self._joined)

    def observe(self, value: float) -> None:
        """Adds an answer; a full window drops its oldest."""
        self._counts[bisect_right(self._edges, value)] += 1
        self._sum += value
        if not self._joined:
            return
        if len(self._latest) == self._window:
            self._observed[self._latest.popleft()] -= 1
        place = bisect_right(self._joined_edges, value)
        self._latest.append(place)
        self._observed[place] += 1

    @property
    def answers(self) -> int:
        """The number of answers in the window."""
        return len(self._latest)

    def drift(self) -> tuple[float, float] | None:
        """The index, and the value that it reaches by chance; None with too few answers or a reference with a single bin."""
        if self.answers < MIN_ANSWERS or len(self._joined) < 2:
            return None
        return psi(self._joined, self._observed), psi_by_chance(len(self._joined), sum(self._joined), self.answers)

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """All answers as Prometheus' cumulative buckets, and their sum."""
        return _cumulative(self._edges, self._counts), self._sum

    def reference_buckets(self) -> list[tuple[str, float]]:
        """The reference in the same buckets."""
        return _cumulative(self._edges, self._reference)


def _cumulative(edges: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets = []
    for bound, count in zip([*(f"{edge:.6g}" for edge in edges), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


class DriftMonitor(Collector):
    """Distributions and drift of every serving model, as Prometheus metrics.

    Args:
        window: number of latest answers that are compared with the reference.
        served: the manifests of the serving models; the distributions of others are dropped at the next collection.
    """

    def __init__(self, window: int, served: Served) -> None:
        self._window = window
        self._served = served
        self._known: dict[tuple[str, str], dict[str, Distribution]] = {}

    def observe(self, manifest: Manifest, score: float | None, novelty: float) -> None:
        """Adds an answer; ``score`` is None for a rejected image, which was not assessed."""
        known = self._distributions(manifest)
        known["novelty"].observe(novelty)
        if score is not None:
            known["score"].observe(score)

    def _distributions(self, manifest: Manifest) -> dict[str, Distribution]:
        of_model = manifest.name, manifest.version
        known = self._known.get(of_model)
        if known is None:
            reference: Reference = manifest.reference
            known = self._known[of_model] = {
                "score": Distribution(reference.score, self._window),
                "novelty": Distribution(reference.novelty, self._window),
            }
        return known

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' client when metrics are collected."""
        serving = {(manifest.name, manifest.version): self._distributions(manifest) for manifest in self._served()}
        self._known = dict(serving)
        labels = ["model", "version"]
        by_output = [*labels, "output"]
        index = GaugeMetricFamily("aiderm_drift_psi", "Population stability index of the latest answers", labels=by_output)
        chance = GaugeMetricFamily(
            "aiderm_drift_psi_by_chance", "What it exceeds once in 1,000 times without drift", labels=by_output
        )
        answers = GaugeMetricFamily("aiderm_drift_answers", "Answers in the window", labels=by_output)
        for output, text in (("score", "Malignancy of assessed images"), ("novelty", "Novelty of images")):
            seen = HistogramMetricFamily(f"aiderm_{output}", text, labels=labels)
            reference = HistogramMetricFamily(f"aiderm_reference_{output}", f"{text}, on the calibration set", labels=labels)
            for of_model, known in serving.items():
                distribution = known[output]
                buckets, total = distribution.buckets()
                seen.add_metric(of_model, buckets, total)
                reference.add_metric(of_model, distribution.reference_buckets(), None)
                answers.add_metric([*of_model, output], distribution.answers)
                drift = distribution.drift()
                if drift is not None:
                    index.add_metric([*of_model, output], drift[0])
                    chance.add_metric([*of_model, output], drift[1])
            yield seen
            yield reference
        yield index
        yield chance
        yield answers
