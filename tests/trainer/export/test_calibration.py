import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit

from aiderm_trainer.export import calibration, decision_limits
from aiderm_trainer.export.decision_limits import ALPHA_BENIGN, ALPHA_MALIGNANT, MIN_POSITIVES

MALIGNANT = np.array([1, 1, 0, 0, 0])


def labelled_logits(seed, count=600, share=0.3, sharpness=1.0, shift=0.0, known=0.5):
    """Rows from a model that is perfectly calibrated at sharpness 1 and shift 0; other values miscalibrate it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 5)) * 1.5 + np.log(share / (1 - share)) * MALIGNANT
    classes = (np.exp(log_softmax(logits, axis=1)).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    classes[:2] = 0, 4
    index = np.where(rng.random(count) < known, classes, -1)
    return logits * sharpness + shift * MALIGNANT, MALIGNANT[classes].astype(bool), index


def reference_nll(logits, malignant, index, temperature=1.0, shift=0.0):
    """The negative log-likelihood with partial labels, computed row by row."""
    log_p = log_softmax(logits / temperature + shift * MALIGNANT, axis=1)
    losses = []
    for row, sick, known in zip(log_p, malignant, index, strict=True):
        losses.append(-row[known] if known >= 0 else -np.log(np.exp(row[sick == MALIGNANT]).sum()))
    return np.mean(losses)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 4.0), st.floats(-3, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_calibration_never_raises_the_nll_and_brings_the_mean_to_the_prevalence(seed, sharpness, shift, known):
    logits, malignant, index = labelled_logits(seed, 200, sharpness=sharpness, shift=shift, known=known)
    fit = calibration.fit_calibration(logits, MALIGNANT, malignant, index)
    assert (
        reference_nll(logits, malignant, index, fit.temperature, fit.malignant_shift)
        <= reference_nll(logits, malignant, index) + 1e-9
    )
    malignancy = calibration.malignancy(logits, MALIGNANT == 1, fit.temperature, fit.malignant_shift)
    assert fit.prevalence == pytest.approx(malignant.mean())
    assert malignancy.mean() == pytest.approx(malignant.mean(), abs=1e-4)


def test_a_known_temperature_and_shift_are_found_again():
    logits, malignant, index = labelled_logits(1, 6000, sharpness=2.0, shift=1.0)
    fit = calibration.fit_calibration(logits, MALIGNANT, malignant, index)
    assert fit.temperature == pytest.approx(2.0, rel=0.08)
    assert fit.malignant_shift == pytest.approx(-0.5, abs=0.1)  # a shift of 1 is halved by the temperature of 2
    assert "temperature kept" in fit.method
    assert fit.ece_after < 0.03 < fit.ece_before


def test_a_calibrated_model_keeps_temperature_one():
    logits, malignant, index = labelled_logits(5, 300)
    fit = calibration.fit_calibration(logits, MALIGNANT, malignant, index)
    assert fit.temperature == 1.0
    assert "temperature not kept" in fit.method


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5.0), st.floats(-4, 4))
def test_the_shift_is_added_to_the_log_odds_of_malignancy_and_changes_no_order(seed, temperature, shift):
    logits, _, _ = labelled_logits(seed, 50)
    shifted, unshifted = (calibration.malignancy(logits, MALIGNANT == 1, temperature, added) for added in (shift, 0.0))
    inside = (unshifted > 1e-9) & (unshifted < 1 - 1e-9)
    assert logit(shifted[inside]) == pytest.approx(logit(unshifted[inside]) + shift, abs=1e-5)
    order = np.argsort(unshifted, kind="stable")
    assert (np.diff(shifted[order]) >= -1e-12).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_a_prior_correction_moves_probability_threshold_and_band_together_so_that_no_decision_changes(seed, shift):
    rng = np.random.default_rng(seed)
    malignant = np.arange(300) % 3 == 0
    scores = expit(rng.normal(size=300) + 1.5 * malignant)
    corrected = expit(logit(scores) + shift)
    source = np.array(["a", "b"])[np.arange(300) % 2]
    verdicts = []
    for values in (scores, corrected):
        rule, _ = decision_limits.choose_decision(values, malignant, np.zeros(300, bool), source)
        low, high = rule.uncertain
        verdicts.append((values >= rule.threshold).astype(int) + 2 * ((values >= low) & (values <= high)))
    # Rounding to the grid may include a neighbour closer than 1e-6; most random scores are further apart.
    assert (verdicts[0] != verdicts[1]).sum() <= 1


def test_weights_count_like_repeated_rows_and_groups_stay_together():
    logits, malignant, index = labelled_logits(2, 150)
    times = np.random.default_rng(0).integers(1, 4, 150)
    names = np.arange(150)
    weighted = calibration.fit_calibration(logits, MALIGNANT, malignant, index, names, weights=times)
    repeated = calibration.fit_calibration(
        *(np.repeat(logits, times, axis=0), MALIGNANT, np.repeat(malignant, times), np.repeat(index, times)),
        np.repeat(names, times),
    )
    assert weighted.malignant_shift == pytest.approx(repeated.malignant_shift, abs=1e-4)
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-4)
    assert weighted.prevalence == pytest.approx(repeated.prevalence)
    assert weighted.method == repeated.method


def test_separable_labels_give_finite_numbers():
    logits = np.array([[9.0, 0, 0, 0, 0], [0, 0, 0, 9.0, 0]] * 20)
    fit = calibration.fit_calibration(logits, MALIGNANT, [1, 0] * 20, [0, 3] * 20)
    malignancy = calibration.malignancy(logits, MALIGNANT == 1, fit.temperature, fit.malignant_shift)
    assert malignancy[0] > 0.99 > 0.01 > malignancy[1]


def test_one_group_alone_leaves_the_temperature_at_one():
    logits, malignant, index = labelled_logits(3, 100, sharpness=3.0)
    fit = calibration.fit_calibration(logits, MALIGNANT, malignant, index, ["same"] * 100)
    assert fit.temperature == 1.0
    assert "too few groups" in fit.method


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": np.zeros((3, 5))}, "must be"),
        ({"logits": np.full((4, 5), np.nan)}, "finite"),
        ({"malignant": [1, 1, 1, 1], "class_index": [-1] * 4}, "both labels"),
        ({"class_index": [0, 0, 2, 5]}, r"-1\.\.4"),
        ({"class_index": [2, 0, 2, 2]}, "contradicts"),
        ({"malignant_classes": [1] * 5}, "malignant and one benign class"),
        ({"weights": [1, 1, 1, -1]}, "weights"),
    ],
)
def test_input_that_cannot_be_calibrated_is_refused(changes, message):
    good = {
        "logits": np.zeros((4, 5)),
        "malignant_classes": MALIGNANT,
        "malignant": [1, 1, 0, 0],
        "class_index": [0, -1, 2, -1],
    }
    calibration.fit_calibration(**good)
    with pytest.raises(ValueError, match=message):
        calibration.fit_calibration(**(good | changes))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(4, 500),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
    st.booleans(),
)
def test_the_rule_keeps_its_promises_on_the_rows_it_was_chosen_on(seed, count, target, coarse):
    rng = np.random.default_rng(seed)
    malignant = rng.random(count) < 0.5
    malignant[:2] = True, False
    melanoma = malignant & (rng.random(count) < 0.5)
    source = np.array(["a", "b", "c"])[rng.integers(0, 3, count)]
    scores = rng.beta(2 + 2 * malignant, 3)
    scores = np.round(scores, 1) if coarse else scores
    rule, coverage = decision_limits.choose_decision(scores, malignant, melanoma, source, target)
    called = scores >= rule.threshold
    assert called[malignant].mean() >= target
    for cases in (malignant, melanoma):
        for inside in (cases, *(cases & (source == name) for name in "abc")):
            if inside.sum() >= MIN_POSITIVES:
                assert called[inside].mean() >= target
    low, high = rule.uncertain
    assert low <= rule.threshold <= high
    assert coverage["malignant_below_band"] == pytest.approx((scores[malignant] < low).mean())
    assert coverage["malignant_below_band"] <= ALPHA_MALIGNANT
    assert coverage["benign_above_band"] == pytest.approx((scores[~malignant] > high).mean())
    assert coverage["benign_above_band"] <= ALPHA_BENIGN
    assert coverage["share_uncertain"] == pytest.approx(((scores >= low) & (scores <= high)).mean())
    assert coverage["sensitivity"] == pytest.approx(called[malignant].mean())
    assert coverage["specificity"] == pytest.approx((~called[~malignant]).mean())


def test_new_cases_are_missed_no_more_often_than_the_bound_says():
    rng = np.random.default_rng(0)
    missed, bounds = [], []
    for _ in range(300):
        malignant = np.arange(160) < 80
        scores = expit(rng.normal(size=160) + malignant)
        rule, coverage = decision_limits.choose_decision(scores, malignant, np.zeros(160, bool), ["a"] * 160)
        missed.append((expit(rng.normal(size=400) + 1) < rule.threshold).mean())
        bounds.append(coverage["miss_bound"])
    assert bounds[0] == pytest.approx(4 / 81)
    assert np.mean(missed) == pytest.approx(bounds[0], abs=0.006)


def test_the_hardest_source_sets_the_threshold_and_a_small_one_does_not():
    malignant = np.tile([True, False], 150)
    source = np.repeat(["easy", "hard", "small"], [140, 120, 40])
    scores = np.where(malignant, 0.9, 0.1) + np.linspace(0, 0.01, 300)
    scores[(source == "hard") & malignant] -= 0.4
    scores[(source == "small") & malignant] -= 0.1
    rule, coverage = decision_limits.choose_decision(scores, malignant, np.zeros(300, bool), source)
    assert 0.5 <= rule.threshold < 0.52
    assert coverage["sets_that_bind"] == 3  # all rows, and sources with 70 and 60 positives; 20 are too few
    scores[(source == "small") & malignant] = 0.05
    lower, _ = decision_limits.choose_decision(scores, malignant, np.zeros(300, bool), source)
    assert lower.threshold == pytest.approx(0.05, abs=1e-5)  # they still count among all malignant rows


def test_melanoma_alone_can_lower_the_threshold():
    malignant = np.arange(400) < 200
    melanoma = np.arange(400) < 80
    scores = np.where(malignant, 0.8, 0.1) + np.linspace(0, 0.01, 400)
    scores[:8] = 0.3  # a tenth of the melanomas, 4% of the malignant rows
    source = ["a", "b"] * 200  # each source alone has too few melanomas, but all together still bind
    without, _ = decision_limits.choose_decision(scores, malignant, np.zeros(400, bool), source)
    with_melanoma, _ = decision_limits.choose_decision(scores, malignant, melanoma, source)
    assert without.threshold > 0.79
    assert with_melanoma.threshold == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"malignancy": [0.1, 1.2]}, "0..1"),
        ({"malignancy": [0.1, np.nan]}, "0..1"),
        ({"malignant": [1, 1]}, "both labels"),
        ({"domain": ["a"]}, "lengths"),
        ({"target_sensitivity": 1.0}, "target_sensitivity"),
    ],
)
def test_a_rule_cannot_be_chosen_from_nonsense(changes, message):
    good = {"malignancy": [0.1, 0.9], "malignant": [0, 1], "is_melanoma": [0, 0], "domain": ["a", "a"]}
    decision_limits.choose_decision(**good)
    with pytest.raises(ValueError, match=message):
        decision_limits.choose_decision(**(good | changes))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 600), st.sampled_from([0.005, 0.015, 0.1]))
def test_the_novelty_limit_turns_away_at_most_the_given_share_of_each_source(seed, count, most):
    rng = np.random.default_rng(seed)
    source = np.array(["a", "b", "c"])[rng.integers(0, 3, count)]
    novelty = rng.gamma(2.0, size=count) * np.where(source == "c", 3, 1)
    limit, rates = decision_limits.fit_novelty_limit(novelty, source, most)
    assert set(rates) == {"all"} | {f"domain={name}" for name in np.unique(source)}
    for name in np.unique(source):
        assert rates[f"domain={name}"] == pytest.approx((novelty[source == name] > limit).mean())
    counts = {f"domain={name}": (source == name).sum() for name in np.unique(source)} | {"all": count}
    held = [rate for name, rate in rates.items() if name == "all" or counts[name] >= decision_limits.MIN_LESIONS]
    assert max(held) <= most
    assert limit in novelty  # no higher than the most demanding source needs


def test_one_odd_picture_of_a_small_source_does_not_open_the_gate():
    novelty = np.concatenate([np.linspace(0, 1, 1000), [50.0], np.linspace(0, 1, 50)])
    limit, rates = decision_limits.fit_novelty_limit(novelty, ["large"] * 1000 + ["small"] * 51)
    assert limit < 1.0
    assert rates["domain=small"] > 0


@pytest.mark.parametrize(
    ("novelty", "source", "share"), [([], [], 0.01), ([1.0], ["a", "b"], 0.01), ([np.inf], ["a"], 0.01), ([1.0], ["a"], 0.0)]
)
def test_a_limit_cannot_be_chosen_from_nonsense(novelty, source, share):
    with pytest.raises(ValueError, match=r"novelty|max_false_rejection"):
        decision_limits.fit_novelty_limit(novelty, source, share)
