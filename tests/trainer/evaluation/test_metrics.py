import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from aiderm_trainer.evaluation import metrics


@st.composite
def labelled_scores(draw):
    """Draws samples with both labels, scores with many ties, and integer weights."""
    count = draw(st.integers(4, 40))
    positive = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    positive[:2] = True, False
    score = np.array(draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))) / 12
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), dtype=float)
    weights[:2] = 1
    return positive, score, weights


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(labelled_scores())
def test_ranking_metrics_equal_scikit_learn_also_with_ties_and_weights(sample):
    y, s, w = sample
    assert metrics.roc_auc(y, s, w[None]).item() == pytest.approx(sk.roc_auc_score(y, s, sample_weight=w))
    assert metrics.pr_auc(y, s, w[None]).item() == pytest.approx(sk.average_precision_score(y, s, sample_weight=w))
    assert metrics.brier(y, s, w[None]).item() == pytest.approx(sk.brier_score_loss(y, s, sample_weight=w))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(labelled_scores(), st.integers(0, 12))
def test_threshold_metrics_equal_scikit_learn(sample, step):
    y, s, w = sample
    threshold = step / 12
    called = s >= threshold
    ours = {name: value.item() for name, value in metrics.at_threshold(y, s, threshold, w[None]).items()}
    theirs = {
        "accuracy": sk.accuracy_score(y, called, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called, sample_weight=w),
        "f1": sk.f1_score(y, called, sample_weight=w),
        "sensitivity": sk.recall_score(y, called, sample_weight=w),
        "specificity": sk.recall_score(~y, ~called, sample_weight=w),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value), name
    if called.any() and w[called].sum():
        assert ours["precision"] == pytest.approx(sk.precision_score(y, called, sample_weight=w))
    else:
        assert np.isnan(ours["precision"])
    if np.isfinite(ours["mcc"]):
        assert ours["mcc"] == pytest.approx(sk.matthews_corrcoef(y, called, sample_weight=w))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(labelled_scores())
def test_a_weight_counts_like_a_repeated_row(sample):
    y, s, w = sample
    times = w.astype(int)
    repeated_y, repeated_s = np.repeat(y, times), np.repeat(s, times)
    for metric in (metrics.roc_auc, metrics.pr_auc, metrics.brier):
        assert metric(y, s, w[None]).item() == pytest.approx(metric(repeated_y, repeated_s).item())
    for level in (0.5, 0.9, 1.0):
        for metric in (metrics.sensitivity_at_specificity, metrics.specificity_at_sensitivity):
            repeated = metric(metrics.sweep(repeated_y, repeated_s), level)
            assert metric(metrics.sweep(y, s, w[None]), level).item() == pytest.approx(repeated.item())


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(labelled_scores(), st.sampled_from([0.3, 0.8, 0.95]))
def test_operating_points_are_the_best_points_of_the_roc_curve(sample, level):
    y, s, _ = sample
    fpr, tpr, _ = sk.roc_curve(y, s, drop_intermediate=False)
    assert metrics.sensitivity_at_specificity(metrics.sweep(y, s), level).item() == pytest.approx(
        tpr[1 - fpr >= level - 1e-12].max()
    )
    assert metrics.specificity_at_sensitivity(metrics.sweep(y, s), level).item() == pytest.approx(
        1 - fpr[tpr >= level - 1e-12].min()
    )


def test_replicates_are_independent_of_one_another():
    rng = np.random.default_rng(3)
    y, s = rng.random(60) < 0.4, rng.random(60)
    weights = rng.integers(0, 3, (5, 60)).astype(float)
    together = (
        metrics.roc_auc(y, s, weights),
        metrics.expected_calibration_error(y, s, weights),
        metrics.calibration_line(y, s, weights)[0],
    )
    for i in range(5):
        assert together[0][i] == pytest.approx(metrics.roc_auc(y, s, weights[i : i + 1]).item())
        assert together[1][i] == pytest.approx(metrics.expected_calibration_error(y, s, weights[i : i + 1]).item())
        assert together[2][i] == pytest.approx(metrics.calibration_line(y, s, weights[i : i + 1])[0].item(), rel=1e-6)


def test_a_replicate_without_one_label_is_undefined_and_leaves_the_others_alone():
    y, s = np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.3, 0.1])
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]])
    assert metrics.roc_auc(y, s, weights).tolist() == [
        0.75,
        pytest.approx(np.nan, nan_ok=True),
        pytest.approx(np.nan, nan_ok=True),
    ]
    assert np.isnan(metrics.pr_auc(y, s, weights)).tolist() == [False, False, True]
    assert np.isnan(metrics.sensitivity_at_specificity(metrics.sweep(y, s, weights), 0.5)).tolist() == [False, True, True]
    assert np.isnan(metrics.specificity_at_sensitivity(metrics.sweep(y, s, weights), 0.5)).tolist() == [False, True, True]
    assert np.isnan(metrics.at_threshold(y, s, 0.5, weights)["mcc"]).tolist() == [False, True, True]


def test_calibration_error_is_zero_when_each_bin_is_right_and_one_when_certain_and_wrong():
    probability = np.repeat([0.25, 0.75], 40)
    right = np.concatenate([np.arange(40) < 10, np.arange(40) < 30])
    assert metrics.expected_calibration_error(right, probability).item() == pytest.approx(0)
    assert metrics.expected_calibration_error(np.zeros(10), np.ones(10)).item() == pytest.approx(1)


def test_calibration_error_equals_the_definition_on_distinct_scores():
    rng = np.random.default_rng(5)
    p = rng.permutation(np.linspace(0.01, 0.99, 150))
    y = rng.random(150) < p**2
    chunks = np.array_split(np.argsort(p), metrics.ECE_BINS)
    expected = sum(len(c) / 150 * abs(p[c].mean() - y[c].mean()) for c in chunks)
    assert metrics.expected_calibration_error(y, p).item() == pytest.approx(expected)


def test_calibration_line_equals_an_unpenalised_logistic_regression():
    rng = np.random.default_rng(7)
    x = rng.normal(size=500)
    y = rng.random(500) < 1 / (1 + np.exp(-(0.6 * x - 0.4)))
    slope, intercept = metrics.calibration_line(y, 1 / (1 + np.exp(-x)))
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(x[:, None], y)
    assert slope.item() == pytest.approx(reference.coef_.item(), abs=1e-4)
    assert intercept.item() == pytest.approx(reference.intercept_.item(), abs=1e-4)


def test_calibration_line_is_undefined_where_the_labels_are_separable():
    slope, intercept = metrics.calibration_line([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert np.isnan(slope).all()
    assert np.isnan(intercept).all()


def test_multiclass_metrics_equal_scikit_learn_over_the_known_rows():
    rng = np.random.default_rng(11)
    true, predicted = rng.integers(-1, 4, 200), rng.integers(0, 4, 200)
    known = true >= 0
    ours = metrics.multiclass(metrics.confusion(true, predicted, 4))
    np.testing.assert_array_equal(metrics.confusion(true, predicted, 4)[0], sk.confusion_matrix(true[known], predicted[known]))
    assert ours["multiclass_balanced_accuracy"].item() == pytest.approx(sk.balanced_accuracy_score(true[known], predicted[known]))
    assert ours["multiclass_macro_f1"].item() == pytest.approx(sk.f1_score(true[known], predicted[known], average="macro"))


def test_a_class_that_never_occurs_does_not_lower_the_balanced_accuracy():
    ours = metrics.multiclass(metrics.confusion([0, 0, 1], [0, 0, 1], 3))
    assert ours["multiclass_balanced_accuracy"].item() == 1
    assert ours["multiclass_macro_f1"].item() == 1


def test_predictive_values_follow_bayes_and_equal_precision_at_the_set_s_own_prevalence():
    rng = np.random.default_rng(13)
    y, s = rng.random(300) < 0.3, rng.random(300)
    at = metrics.at_threshold(y, s, 0.6)
    ppv, npv = metrics.predictive_values(at["sensitivity"], at["specificity"], y.mean())
    assert ppv.item() == pytest.approx(at["precision"].item())
    assert npv.item() == pytest.approx(sk.precision_score(~y, s < 0.6))
    rare, _ = metrics.predictive_values(at["sensitivity"], at["specificity"], 0.01)
    assert rare.item() < ppv.item()


def test_share_counts_among_the_rows_asked_for():
    assert metrics.share([1, 0, 1, 0]).item() == 0.5
    assert metrics.share([1, 0, 1, 0], among=[1, 1, 0, 0]).item() == 0.5
    assert metrics.share([1, 0, 1, 0], np.array([[3.0, 1, 0, 0]])).item() == 0.75
    assert np.isnan(metrics.share([1, 0], among=[0, 0]).item())


@pytest.mark.parametrize(
    ("y", "s", "w"),
    [([1, 0], [0.1], None), ([], [], None), ([1, 0], [0.1, 0.2], np.ones((1, 3))), ([1, 0], [0.1, np.nan], None)],
)
def test_shapes_that_do_not_fit_and_numbers_that_are_none_are_refused(y, s, w):
    with pytest.raises(ValueError, match="Received"):
        metrics.roc_auc(y, s, w)


def test_perfect_probabilities_stay_below_the_bound_of_their_calibration_error_in_95_of_100_draws():
    rng = np.random.default_rng(5)
    p = rng.beta(0.5, 1.5, 400)
    bound = metrics.ece_bound(p)
    errors = [metrics.expected_calibration_error(rng.random(400) < p, p)[0] for _ in range(400)]
    assert 0.91 < np.mean(np.array(errors) <= bound) < 0.985
    assert metrics.expected_calibration_error(rng.random(400) < np.clip(p + 0.15, 0, 1), p)[0] > bound
    assert metrics.ece_bound(rng.beta(0.5, 1.5, 6400)) < bound / 2.5


def test_the_bound_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metrics.ece_bound(np.array([0.2, 1.2]))
