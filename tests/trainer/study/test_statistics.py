"""Tests of differences: known values, and a low rate of false positives."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from aiderm_trainer.evaluation.metrics import roc_auc
from aiderm_trainer.study.statistics import (
    bootstrap_auc,
    corrected_error,
    corrected_interval,
    corrected_t_test,
    normal_test,
)  # fmt: skip
from aiderm_trainer.study.youden import youden_threshold


def test_the_correction_is_that_of_nadeau_and_bengio() -> None:
    d = np.array([0.02, 0.01, 0.03, 0.00, 0.04])
    t = d.mean() / np.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))
    assert corrected_t_test(d, 1 / 4) == pytest.approx(2 * stats.t.sf(t, 4))
    assert corrected_t_test(d, 1 / 4) > stats.ttest_1samp(d, 0).pvalue
    low, high = corrected_interval(d, 1 / 4)
    assert (low + high) / 2 == pytest.approx(0.02)
    assert (low > 0) == (corrected_t_test(d, 1 / 4) < 0.05)
    assert corrected_interval([0.99, 1.0, 0.98], 0.5, (0.0, 1.0))[1] == 1.0


def test_no_difference_and_one_without_spread() -> None:
    assert corrected_t_test([0.0, 0.0, 0.0], 0.5) == 1.0
    assert corrected_t_test([0.5, 0.5, 0.5], 0.5) == 0.0
    assert (normal_test(0.0, 0.0), normal_test(0.1, 0.0)) == (1.0, 0.0)
    assert normal_test(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    with pytest.raises(ValueError, match="two folds"):
        corrected_error([0.1], 0.5)


def test_the_paired_bootstrap_sees_what_single_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(400) % 2 == 0
    shared = malignant + rng.normal(size=400)
    better = shared + 0.3 * malignant
    group = np.arange(400, dtype=np.int32) // 2
    drawn = bootstrap_auc(malignant, group, {"a": [better], "b": [shared], "two": [better, shared]}, seed=1)
    gap = drawn["a"] - drawn["b"]
    assert gap.std() < drawn["a"].std() / 2
    assert gap.mean() == pytest.approx((roc_auc(malignant, better) - roc_auc(malignant, shared)).item(), abs=0.01)
    assert drawn["two"] == pytest.approx((drawn["a"] + drawn["b"]) / 2)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=40))
@example([(False, 0.0), (True, 5e-324)])
def test_no_threshold_is_better_than_youdens(rows: list[tuple[bool, float]]) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    if y.all() or not y.any():
        with pytest.raises(ValueError, match="both labels"):
            youden_threshold(y, s)
        return

    def gain(at: float) -> float:
        return float((s[y] >= at).mean() - (s[~y] >= at).mean())

    assert gain(youden_threshold(y, s)) == pytest.approx(max(gain(at) for at in s))
