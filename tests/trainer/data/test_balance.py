import numpy as np
import pytest

from aiderm_trainer.data.balance import REPEATS, balanced_weights, domain_offsets

DOMAINS = ["mixed"] * 100 + ["benign"] * 200 + ["rare"] * 60
MALIGNANT = np.array([i % 2 == 0 for i in range(100)] + [False] * 198 + [True] * 2 + [i < 30 for i in range(60)])


def test_labels_are_alike_inside_a_domain_as_far_as_repeats_allow() -> None:
    weights = balanced_weights(DOMAINS, MALIGNANT, [""] * 360)
    names = np.array(DOMAINS)
    assert weights.sum() == pytest.approx(1)
    assert weights.max() <= REPEATS / 360 * 1.05
    for name in ("mixed", "rare"):
        here = names == name
        assert weights[here & MALIGNANT].sum() / weights[here].sum() == pytest.approx(0.5, abs=0.01)
    assert weights[(names == "benign") & MALIGNANT].sum() / weights[names == "benign"].sum() < 0.15


def test_the_offset_is_what_the_domain_gives_away() -> None:
    weights = balanced_weights(DOMAINS, MALIGNANT, [""] * 360)
    offsets = domain_offsets(DOMAINS, MALIGNANT, weights)
    assert len(set(offsets[:100].tolist())) == 1
    assert offsets[100] < -1 < -0.5 < offsets[0] < 0.5
    # A domain with few rows is treated like an average one.
    few = domain_offsets(["a"] * 100 + ["b"], np.array([i % 2 == 0 for i in range(100)] + [True]), np.ones(101))
    assert abs(few[-1]) < 0.3


def test_without_balance_the_offset_is_the_log_odds() -> None:
    offsets = domain_offsets(["a"] * 1000 + ["b"] * 1000, np.arange(2000) % 1000 < np.repeat([100, 900], 1000), np.ones(2000))
    assert offsets[0] == pytest.approx(np.log(1 / 9), abs=0.1)
    assert offsets[-1] == pytest.approx(np.log(9), abs=0.1)
