"""The decision is the first of rejected, uncertain, suspicious and low suspicion that applies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiderm_core.bundle.manifest import DecisionRule, Manifest, QualityLimit
from aiderm_core.decision import Decision, Verdict, decide
from aiderm_core.quality.measurements import QualityWarning

WARNING = QualityWarning("sharpness", "The picture is blurred. Hold still.")
ADVICE = QualityWarning("hair", "Hair lies over part of the picture. Part it.", advisory=True)


@pytest.fixture(scope="module")
def model(manifest: Manifest) -> Manifest:
    limits = {
        "sharpness": QualityLimit(worse="low", warn=10.0, reject=2.0),
        "glare": QualityLimit(worse="high", warn=0.1, reject=0.5),
    }
    return manifest.model_copy(update={"quality": limits})


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize(
    ("malignancy", "novelty", "measures", "warnings", "decision", "reasons"),
    [
        (0.1, 0.0, {}, (), Decision.LOW_SUSPICION, ["threshold"]),
        (0.9, 0.0, {}, (), Decision.SUSPICIOUS, ["threshold"]),
        (0.0, 0.0, {}, (), Decision.LOW_SUSPICION, ["threshold"]),
        (1.0, 1000.0, {}, (), Decision.SUSPICIOUS, ["threshold"]),
        # the band includes its ends
        (0.4, 0.0, {}, (), Decision.UNCERTAIN, ["band"]),
        (0.5, 0.0, {}, (), Decision.UNCERTAIN, ["band"]),
        (0.6, 0.0, {}, (), Decision.UNCERTAIN, ["band"]),
        (math.nextafter(0.4, 0), 0.0, {}, (), Decision.LOW_SUSPICION, ["threshold"]),
        (math.nextafter(0.6, 1), 0.0, {}, (), Decision.SUSPICIOUS, ["threshold"]),
        # a poor image cannot reassure, but it can alarm
        (0.1, 0.0, {}, (WARNING,), Decision.UNCERTAIN, ["quality"]),
        (0.45, 0.0, {}, (WARNING,), Decision.UNCERTAIN, ["band", "quality"]),
        (0.55, 0.0, {}, (WARNING,), Decision.UNCERTAIN, ["band"]),
        (0.9, 0.0, {}, (WARNING,), Decision.SUSPICIOUS, ["threshold"]),
        # advice does not affect the decision
        (0.1, 0.0, {}, (ADVICE,), Decision.LOW_SUSPICION, ["threshold"]),
        (0.1, 0.0, {}, (ADVICE, WARNING), Decision.UNCERTAIN, ["quality"]),
        # rejection takes precedence
        (0.9, 1000.1, {}, (), Decision.REJECTED, ["novelty"]),
        (0.5, math.inf, {}, (WARNING,), Decision.REJECTED, ["novelty"]),
        (0.9, 0.0, {"sharpness": 1.9, "glare": 0.0}, (WARNING,), Decision.REJECTED, ["quality_sharpness"]),
        (0.9, 2000.0, {"sharpness": 0.0, "glare": 0.6}, (), Decision.REJECTED, ["novelty", "quality_sharpness", "quality_glare"]),
        (0.9, 0.0, {"sharpness": 2.0, "glare": 0.5}, (), Decision.SUSPICIOUS, ["threshold"]),
    ],
)
def test_order_of_decisions(
    model: Manifest,
    malignancy: float,
    novelty: float,
    measures: dict[str, float],
    warnings: tuple[QualityWarning, ...],
    decision: Decision,
    reasons: list[str],
) -> None:
    verdict = decide(malignancy, novelty, measures, warnings, model)
    assert verdict.decision is decision
    assert codes(verdict) == reasons
    assert all(reason.text.endswith(".") for reason in verdict.reasons)


def test_decisions_have_the_names_of_the_contract() -> None:
    assert [str(decision) for decision in Decision] == ["low_suspicion", "suspicious", "uncertain", "rejected"]


def test_no_text_says_benign(model: Manifest) -> None:
    for malignancy in (0.0, 0.45, 0.9):
        for reason in decide(malignancy, 0.0, {}, (), model).reasons:
            assert "benign" not in reason.text.lower()


def test_another_rule_replaces_the_manifests(model: Manifest) -> None:
    rule = DecisionRule(threshold=0.05, target_sensitivity=0.95, uncertain=(0.05, 0.05))
    assert decide(0.1, 0.0, {}, (), model, rule).decision is Decision.SUSPICIOUS


@pytest.mark.parametrize("malignancy", [math.nan, -0.01, 1.01, math.inf])
def test_impossible_probability_is_never_served(model: Manifest, malignancy: float) -> None:
    with pytest.raises(ValueError, match="malignancy must lie in"):
        decide(malignancy, 0.0, {}, (), model)


def test_novelty_must_be_a_number(model: Manifest) -> None:
    with pytest.raises(ValueError, match="novelty must be a number"):
        decide(0.5, math.nan, {}, (), model)


def test_measure_that_is_no_number_is_not_assessed(model: Manifest) -> None:
    with pytest.raises(ValueError, match="sharpness must be a number"):
        decide(0.5, 0.0, {"sharpness": math.nan}, (), model)


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_more_malignancy_never_calms(manifest: Manifest, a: float, b: float, warned: bool) -> None:
    order = [Decision.LOW_SUSPICION, Decision.UNCERTAIN, Decision.SUSPICIOUS]
    warnings = (WARNING,) if warned else ()
    low, high = sorted((a, b))
    first, second = (decide(value, 0.0, {}, warnings, manifest).decision for value in (low, high))
    assert order.index(first) <= order.index(second)
