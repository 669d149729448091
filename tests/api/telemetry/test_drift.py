"""Compares distributions with the reference, and tests when a difference counts as drift."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from scipy.stats import chi2

from aiderm_api.telemetry.drift import MIN_ANSWERS, MIN_SHARE, Distribution, DriftMonitor, join_bins, psi, psi_by_chance
from aiderm_core.bundle.manifest import Histogram, Manifest

EDGES = [float(edge) for edge in np.linspace(0, 1, 21)]
# Distributed like real scores: many next to zero, few in the middle.
SCORES = Histogram(edges=EDGES, counts=[742, 90, 67, 55, 41, 47, 36, 31, 25, 27, 23, 17, 25, 19, 20, 31, 26, 30, 36, 123])
COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


def test_psi_is_the_formula():
    # With half a count added to each bin, the shares are 1/4, 3/4 and 3/4, 1/4.
    assert psi([1, 4], [4, 1]) == pytest.approx((4.5 / 6 - 1.5 / 6) * math.log(3) * 2)


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_zero_only_for_the_same(first, second):
    second = (second * len(first))[: len(first)]
    assert psi(first, first) == 0
    assert psi(first, second) == pytest.approx(psi(second, first))
    assert psi(first, second) >= -1e-12


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 2])])
def test_psi_wants_the_same_bins(first, second):
    with pytest.raises(ValueError, match="Received"):
        psi(first, second)


def test_chance_is_the_quantile_of_the_chi_square():
    for bins in range(2, 21):
        exact = chi2.ppf(0.999, bins - 1) * (1 / 1500 + 1 / 700)
        assert psi_by_chance(bins, 1500, 700) == pytest.approx(exact, rel=0.04)


def test_chance_holds_in_simulation_and_a_shift_is_seen():
    random = np.random.default_rng(0)
    _, joined = join_bins(SCORES)
    shares = np.array(joined) / sum(joined)
    limit = psi_by_chance(len(joined), sum(joined), 1000)
    # Both samples vary, because the reference is a sample too.
    same = [psi(random.multinomial(sum(joined), shares).tolist(), random.multinomial(1000, shares).tolist()) for _ in range(2000)]
    assert np.mean(np.array(same) > limit) < 0.01
    assert limit < 0.1
    shifted = np.roll(shares, 1)
    assert psi(joined, random.multinomial(1000, shifted).tolist()) > 0.25


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_joined_bins_lose_nobody_and_are_none_too_thin(counts):
    histogram = Histogram(edges=[float(n) for n in range(len(counts) + 1)], counts=counts)
    edges, joined = join_bins(histogram)
    assert sum(joined) == sum(counts)
    assert len(edges) == max(0, len(joined) - 1)
    assert all(count >= MIN_SHARE * sum(counts) for count in joined)
    assert set(edges) <= set(histogram.edges)


def test_the_window_forgets_and_the_total_does_not():
    distribution = Distribution(SCORES, window=200)
    for _ in range(MIN_ANSWERS - 1):
        distribution.observe(0.99)
    assert distribution.drift() is None, "too few to tell"
    distribution.observe(0.99)
    index, chance = distribution.drift()
    assert index > 1 > chance
    # Scores distributed as in the reference push the earlier ones out of the window.
    for place, count in enumerate(SCORES.counts):
        for _ in range(round(count / sum(SCORES.counts) * 400)):
            distribution.observe(place / 20 + 0.025)
    rest = 200
    random = np.random.default_rng(1)
    for place in random.choice(20, rest, p=np.array(SCORES.counts) / sum(SCORES.counts)):
        distribution.observe(place / 20 + 0.025)
    assert distribution.answers == 200
    index, chance = distribution.drift()
    assert index < chance
    buckets, total = distribution.buckets()
    assert buckets[-1] == ("+Inf", MIN_ANSWERS + sum(round(c / sum(SCORES.counts) * 400) for c in SCORES.counts) + rest)
    assert total > 0.99 * MIN_ANSWERS


@given(st.floats(-10, 10, allow_nan=False))
def test_values_outside_of_the_reference_are_counted_at_its_ends(value):
    distribution = Distribution(SCORES, window=100)
    distribution.observe(value)
    assert distribution.buckets()[0][-1] == ("+Inf", 1.0)
    assert distribution.answers == 1


def test_a_reference_that_cannot_tell_gives_no_index():
    for counts in ([0, 0], [5, 0]):
        distribution = Distribution(Histogram(edges=[0, 1, 2], counts=counts), window=200)
        for _ in range(150):
            distribution.observe(0.5)
        assert distribution.drift() is None


def test_metrics_of_models_that_serve_and_of_no_others():
    shipped = Path(__file__).parents[3] / "models" / "melanoma"
    version = (shipped / "SERVING").read_text("utf-8").strip()
    manifest = Manifest.load(shipped / version)
    newer = manifest.model_copy(update={"version": "next"})
    serving = [manifest]
    monitor = DriftMonitor(1000, lambda: serving)
    registry = CollectorRegistry()
    registry.register(monitor)
    for _ in range(150):
        monitor.observe(manifest, 0.97, 99.0)
    monitor.observe(manifest, None, 99.0)  # a rejected image has no score
    monitor.observe(newer, 0.5, 0.5)
    text = generate_latest(registry).decode()
    labels = f'model="melanoma",version="{version}"'
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values[f"aiderm_score_count{{{labels}}}"] == "150.0"
    assert values[f"aiderm_novelty_count{{{labels}}}"] == "151.0"
    reference = f'aiderm_reference_score_bucket{{le="+Inf",{labels}}}'
    assert float(values[reference]) == sum(manifest.reference.score.counts)
    assert len([name for name in values if name.startswith("aiderm_score_bucket")]) == len(manifest.reference.score.counts)
    for output in ("score", "novelty"):
        name = f'{{model="melanoma",output="{output}",version="{version}"}}'
        index, chance = float(values["aiderm_drift_psi" + name]), float(values["aiderm_drift_psi_by_chance" + name])
        assert index > 0.25 > chance > 0
    assert "next" not in text
    serving[:] = [newer]
    assert f'version="{version}"' not in generate_latest(registry).decode()


def test_the_service_shows_what_it_answers(serve, forms):
    running = serve()
    for red, blue in ((230, 10), (25, 10), (230, 200)):
        running.client.post("/predict", files={"file": forms.png_of(red, blue=blue)})
    running.client.post("/predict?model=binary&thorough=true", files={"file": forms.png_of(230)})
    lines = set(running.client.get("/metrics").text.splitlines())
    assert 'aiderm_score_count{model="melanoma",version="1"} 2.0' in lines
    assert 'aiderm_score_bucket{le="0.5",model="melanoma",version="1"} 1.0' in lines
    assert 'aiderm_novelty_count{model="melanoma",version="1"} 3.0' in lines
    assert 'aiderm_drift_answers{model="melanoma",output="novelty",version="1"} 3.0' in lines
    assert 'aiderm_novelty_count{model="binary",version="1"} 0.0' in lines, "pooled views are another distribution"
    assert 'aiderm_decisions_total{decision="uncertain",model="binary",version="1"} 1.0' in lines
