import numpy as np
import pytest

from aiderm_trainer.evaluation.cohorts import Cohort
from aiderm_trainer.evaluation.subgroups import MIN_CASES, subgroups


def cohort(malignancy, malignant, groups=None):
    count = len(malignancy)
    return Cohort(
        groups=[f"g{i}" for i in range(count)] if groups is None else groups,
        malignant=np.asarray(malignant, bool),
        malignancy=np.asarray(malignancy, float),
        probability=np.stack([malignancy, 1 - np.asarray(malignancy)], axis=1),
        class_index=np.full(count, -1),
        dx_known=np.zeros(count, bool),
        melanoma=np.zeros(count, bool),
        decision=np.full(count, "suspicious"),
    )


def draw(seed, sizes, hard=()):
    """Subgroup names, and a cohort whose scores do not separate the labels in the subgroups in ``hard``."""
    rng = np.random.default_rng(seed)
    names = np.repeat(list(sizes), list(sizes.values()))
    malignant = rng.random(len(names)) < 0.4
    shift = np.where(np.isin(names, hard), 0.0, 3.0)
    logit = rng.normal(size=len(names)) + np.where(malignant, shift / 2, -shift / 2)
    return list(names), cohort(1 / (1 + np.exp(-logit)), malignant)


def test_a_subgroup_that_is_worse_is_flagged_and_no_other_is_called_worse():
    names, of = draw(1, {"a": 300, "b": 300, "hard": 150}, ("hard",))
    found = {each.name: each for each in subgroups(of, {"site": names}, 0.5, 400, 0)}
    assert set(found["hard"].worse) == {"roc_auc", "sensitivity", "specificity"}
    assert found["a"].worse == found["b"].worse == []
    assert found["hard"].compared["roc_auc"].difference.ci95[1] < 0
    assert found["hard"].count == 150
    called = of.malignancy[np.array(names) == "hard"] >= 0.5
    assert found["hard"].metrics["sensitivity"].value == pytest.approx(called[of.malignant[np.array(names) == "hard"]].mean())


@pytest.mark.slow
def test_equal_subgroups_are_seldom_flagged():
    flagged = 0
    for seed in range(20):
        names, of = draw(seed, {"a": 120, "b": 120, "c": 120, "d": 120})
        flagged += any(each.worse for each in subgroups(of, {"site": names}, 0.5, 200, seed))
    assert flagged <= 5


def test_too_few_cases_claim_nothing_however_bad_they_look():
    names, of = draw(2, {"many": 300, "few": 12}, ("few",))
    few = next(each for each in subgroups(of, {"site": names}, 0.5, 100, 0) if each.name == "few")
    assert few.compared == {}
    assert few.too_few == ["roc_auc", "sensitivity", "specificity"]
    assert few.metrics["specificity"].value <= 1


def test_copies_of_one_lesion_are_no_further_cases():
    score = np.r_[np.zeros(60), np.ones(60)]
    of = cohort(score, np.ones(120), ["one"] * 60 + [f"g{i}" for i in range(60)])
    found = subgroups(of, {"site": ["copies"] * 60 + ["single"] * 60}, 0.5, 50, 0)
    assert all(each.compared == {} for each in found)
    assert MIN_CASES > 1


def test_unknown_values_are_no_subgroup_and_a_family_of_one_is_left_out():
    names, of = draw(3, {"": 50, "a": 100})
    assert subgroups(of, {"site": names}, 0.5, 50, 0) == []
    with pytest.raises(ValueError, match="150 values"):
        subgroups(of, {"site": ["a"]}, 0.5, 50, 0)
