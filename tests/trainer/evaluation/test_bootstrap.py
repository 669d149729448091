import numpy as np
import pytest
from scipy.stats import binomtest

from aiderm_trainer.evaluation import metrics
from aiderm_trainer.evaluation.bootstrap import bootstrap, exact_interval_at_bound, replicate_weights


def mean_of(values):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_rows_of_a_group_always_come_together_and_groups_are_drawn_as_often_as_there_are():
    groups = ["a", "b", "a", "c", "b", "a"]
    weights = np.concatenate(list(replicate_weights(groups, 300)))
    assert weights.shape == (300, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 5]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[:, [0, 1, 3]].mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)


def test_many_rows_are_drawn_in_blocks_that_add_up():
    blocks = list(replicate_weights([f"g{i}" for i in range(30_000)], 70))
    assert len(blocks) > 1
    assert sum(len(block) for block in blocks) == 70
    assert (np.concatenate(blocks).sum(axis=1) == 30_000).all()


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=200)
    groups = [str(i) for i in range(200)]
    first, again, other = (bootstrap(groups, mean_of(values), 300, seed) for seed in (1, 1, 2))
    assert first == again
    assert first["mean"].value == other["mean"].value
    assert first["mean"].ci95 != other["mean"].ci95


def test_interval_of_a_mean_has_the_width_that_the_standard_error_predicts():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap([str(i) for i in range(400)], mean_of(values), 2000)["mean"].ci95
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_repeating_each_row_inside_its_group_does_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=100)
    names = [str(i) for i in range(100)]
    once = bootstrap(names, mean_of(values), 1000)["mean"]
    copied = bootstrap(names * 5, mean_of(np.tile(values, 5)), 1000)["mean"]
    naive = bootstrap([str(i) for i in range(500)], mean_of(np.tile(values, 5)), 1000)["mean"]
    assert copied.value == pytest.approx(once.value)
    assert copied.ci95 == pytest.approx(once.ci95)
    assert naive.ci95[1] - naive.ci95[0] < 0.6 * (copied.ci95[1] - copied.ci95[0])


@pytest.mark.slow
def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        y = np.arange(120) < 50
        score = rng.normal(size=120) + y  # true AUC: P(N(1, 2) > 0) = 0.760
        estimates = bootstrap([str(i) for i in range(120)], lambda w, y=y, s=score: {"auc": metrics.roc_auc(y, s, w)}, 200)
        low, high = estimates["auc"].ci95
        covered += low <= 0.7602 <= high
    assert 0.88 <= covered / 200 <= 0.995


def test_undefined_replicates_are_left_out_and_counted():
    y, score = np.array([1] + [0] * 9), np.linspace(0, 1, 10)
    estimate = bootstrap([str(i) for i in range(10)], lambda w: {"auc": metrics.roc_auc(y, score, w)}, 500)["auc"]
    assert estimate.value == 0
    assert 500 * 0.25 < estimate.undefined < 500 * 0.45  # (9/10)^10 = 0.35 of the draws lack the only positive
    assert estimate.ci95 is None


def test_a_rarely_undefined_statistic_still_gets_an_interval():
    y = np.arange(40) < 4
    score = np.random.default_rng(0).random(40)
    estimate = bootstrap([str(i) for i in range(40)], lambda w: {"auc": metrics.roc_auc(y, score, w)}, 500)["auc"]
    assert 0 < estimate.undefined < 25
    assert estimate.ci95 is not None


def test_a_statistic_that_the_rows_do_not_define_is_absent():
    assert bootstrap(["a", "b"], lambda w: {"auc": metrics.roc_auc([1, 1], [0.1, 0.2], w)}, 10) == {}


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="0 rows"):
        bootstrap([], mean_of(np.zeros(0)))


def test_a_perfect_score_is_given_no_interval_of_certainty():
    y = np.arange(40) < 20
    estimate = bootstrap([str(i) for i in range(40)], lambda w: {"auc": metrics.roc_auc(y, y, w)}, 200)["auc"]
    assert estimate.value == 1
    assert estimate.ci95 is None


@pytest.mark.parametrize("trials", [1, 5, 28, 1000])
def test_the_exact_interval_is_that_of_scipy(trials):
    for successes in (0, trials):
        expected = binomtest(successes, trials).proportion_ci(method="exact")
        assert exact_interval_at_bound(successes / trials, trials) == pytest.approx((expected.low, expected.high))


def test_there_is_no_exact_interval_without_trials_or_between_the_bounds():
    for value, trials in ((0.5, 10), (1.0, 0)):
        with pytest.raises(ValueError, match="Received"):
            exact_interval_at_bound(value, trials)
