"""Combining several images of one lesion, and when that is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.combine import SPREAD_LIMIT, View, combine
from aiderm_core.decision import Decision, decide

RULE = DecisionRule(threshold=0.15, target_sensitivity=0.95, uncertain=(0.13, 0.23))
SHARES = st.floats(0.0, 1.0)


def view(malignancy: float, manifest: Manifest, *, kind: int = 0, doubtful: bool = False) -> View:
    """An image whose malignancy is nearly all in one malignant class, the ``kind``-th; likewise for the benign classes."""
    malignant = np.array([label.malignant for label in manifest.labels])
    probabilities = np.empty(len(malignant))
    for group, weight in ((malignant, malignancy), (~malignant, 1 - malignancy)):
        shares = np.full(group.sum(), 0.001)
        shares[kind % len(shares)] = 1.0
        probabilities[group] = weight * shares / shares.sum()
    return View(probabilities, malignancy, doubtful)


def codes(found) -> list[str]:
    return [reason.code for reason in found.verdict.reasons]


@pytest.mark.parametrize(
    ("malignancies", "decision", "reasons"),
    [
        ([0.9, 0.8], Decision.SUSPICIOUS, ["threshold"]),
        ([0.05, 0.01], Decision.LOW_SUSPICION, ["threshold"]),
        ([0.05], Decision.LOW_SUSPICION, ["threshold"]),
        ([0.9, 0.2], Decision.SUSPICIOUS, ["threshold"]),
        ([0.2, 0.2], Decision.UNCERTAIN, ["band"]),
        ([0.2, 0.1], Decision.UNCERTAIN, ["band"]),
        ([0.14, 0.08], Decision.LOW_SUSPICION, ["threshold"]),  # combined outside the band, and close to each other
        ([0.2, 0.01], Decision.UNCERTAIN, ["disagreement"]),  # far from each other
        ([0.9, 0.01], Decision.UNCERTAIN, ["disagreement"]),
        ([0.25, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001], Decision.UNCERTAIN, ["disagreement"]),
        ([0.9, 0.2, 0.12], Decision.UNCERTAIN, ["disagreement"]),
        ([], Decision.REJECTED, ["no_image"]),
    ],
)
def test_decisions(manifest, malignancies, decision, reasons):
    found = combine([None, *(view(value, manifest) for value in malignancies)], manifest, RULE)
    assert (found.verdict.decision, codes(found)) == (decision, reasons)
    assert found.counted == tuple(range(1, len(malignancies) + 1))
    assert (found.spread is None) == (len(malignancies) < 2)


def test_the_images_that_disagree_are_named(manifest):
    found = combine([view(value, manifest) for value in (0.9, 0.01, 0.2, 0.02)], manifest, RULE)
    assert (found.disagreement.higher, found.disagreement.lower) == ((0, 2), (1, 3))
    assert "low for pictures 2 and 4 alone, but not for pictures 1 and 3 alone" in found.verdict.reasons[-1].text


def test_an_image_of_doubtful_quality_does_not_lower_the_suspicion(manifest):
    doubtful = view(0.01, manifest, doubtful=True)
    raised = combine([view(0.3, manifest), doubtful], manifest, RULE)
    assert (raised.verdict.decision, raised.counted) == (Decision.SUSPICIOUS, (0,))
    assert combine([view(0.01, manifest), doubtful], manifest, RULE).verdict.decision is Decision.LOW_SUSPICION
    alone = combine([doubtful, doubtful, None], manifest, RULE)
    assert (alone.verdict.decision, codes(alone), alone.counted) == (Decision.UNCERTAIN, ["quality"], (0, 1))


def test_two_images_that_are_sure_of_cancer_but_not_of_its_kind_stay_sure(manifest):
    """The normalised geometric mean over all classes at once would give about 0.1."""
    found = combine([view(0.7, manifest, kind=0), view(0.7, manifest, kind=1)], manifest, RULE)
    assert found.malignancy == pytest.approx(0.7)
    assert found.probabilities[:2] == pytest.approx([found.probabilities[0]] * 2)


@given(values=st.lists(st.tuples(SHARES, st.integers(0, 2), st.booleans()), min_size=1, max_size=8))
def test_laws_of_the_combination(manifest, values):
    views = [view(p, manifest, kind=kind, doubtful=doubtful and p < RULE.threshold) for p, kind, doubtful in values]
    found = combine(views, manifest, RULE)
    counted = [views[index].malignancy for index in found.counted]
    assert found.counted
    assert min(counted) - 2e-6 <= found.malignancy <= max(counted) + 2e-6
    malignant = np.array([label.malignant for label in manifest.labels])
    assert found.probabilities.sum() == pytest.approx(1.0)
    assert found.probabilities[malignant].sum() == pytest.approx(found.malignancy, abs=1e-12)
    if found.verdict.decision is Decision.LOW_SUSPICION:
        assert max(counted) <= RULE.uncertain[1], "an image was suspicious on its own"
        assert all(item.malignancy < RULE.threshold for item in views if item.doubtful)
        assert found.disagreement is None
    backwards = combine(views[::-1], manifest, RULE)
    assert backwards.verdict.decision is found.verdict.decision
    assert backwards.malignancy == pytest.approx(found.malignancy, rel=1e-9)
    if len(views) == 1 and not views[0].doubtful:
        assert found.verdict == decide(found.malignancy, 0.0, {}, (), manifest, RULE)


def test_the_limit_of_the_spread_is_one_of_log_odds(manifest):
    low, high = 0.1, 0.2
    assert math.log(high / (1 - high)) - math.log(low / (1 - low)) < SPREAD_LIMIT
    assert combine([view(low, manifest), view(high, manifest)], manifest, RULE).disagreement is None
