import numpy as np
import pytest
from scipy.special import expit, logit

from aiderm_trainer.evaluation.learning_curve import DomainScores, Recalibration, learning_curve, read_domain_scores
from aiderm_trainer.export.recalibration import recalibration_fit


def domain(count, offset, scale, seed=0):
    """Scores whose true log-odds are ``(stated - offset) / scale``."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 2, count)
    malignant = rng.random(count) < expit(true)
    return DomainScores("there", expit(true * scale + offset), malignant, [f"g{i // 2}" for i in range(count)])


@pytest.mark.ci
def test_more_images_calibrate_better_and_find_the_threshold():
    points = learning_curve(domain(1200, 2.5, 1.5), 0.1, recalibration_fit(0.95), draws=15)
    by_size = {point.images: point for point in points}
    assert list(by_size) == [0, 25, 50, 100, 200]
    assert by_size[0].ece > 0.2  # the stated log-odds are far too high
    assert by_size[0].within_bound == 0
    assert by_size[200].ece < by_size[25].ece < by_size[0].ece
    assert by_size[200].ece < 0.05
    assert by_size[200].within_bound > by_size[25].within_bound
    assert by_size[200].sensitivity == pytest.approx(0.95, abs=0.04)
    assert by_size[200].sensitivity_low > by_size[25].sensitivity_low - 0.05
    assert by_size[0].specificity < by_size[200].specificity  # almost everything was called suspicious


def test_the_fit_never_sees_what_it_is_tested_on():
    of = domain(300, 0, 1)
    seen = []

    def fit(malignancy, malignant, groups):
        seen.append((set(malignancy), set(groups)))
        return Recalibration(lambda values: check(values), 0.5)

    def check(values):
        fitted, groups = seen[-1]
        assert not fitted & set(values)
        assert not groups & {g for g, v in zip(of.groups, of.malignancy, strict=True) if v in set(values)}
        return values

    points = learning_curve(of, 0.5, fit, sizes=(50, 280), draws=3)
    assert [(point.images, point.draws) for point in points] == [(0, 1), (50, 3)]  # 280 leave too few to test on
    assert len(seen) == 3
    assert all(50 <= len(fitted) <= 51 for fitted, _ in seen)
    assert points == learning_curve(of, 0.5, fit, sizes=(50, 280), draws=3)


def test_the_fit_is_the_one_of_recalibrate():
    of = domain(2000, 1.0, 2.0, seed=4)
    fitted = recalibration_fit(0.9)(of.malignancy, of.malignant, of.groups)
    assert logit(fitted.apply(np.array([0.5])))[0] == pytest.approx(-0.5, abs=0.25)
    called = fitted.apply(of.malignancy) >= fitted.threshold
    assert called[of.malignant].mean() == pytest.approx(0.9, abs=0.01)


def test_a_table_of_scores_is_read_by_domain(tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("domain,group,malignant,malignancy\nb,g1,1,0.9\na,g2,0,0.25\nb,g3,0,0.5\n")
    first, second = read_domain_scores(table)
    assert (first.domain, first.groups, first.malignant.tolist()) == ("b", ["g1", "g3"], [True, False])
    assert (second.domain, second.malignancy.tolist()) == ("a", [0.25])
    assert learning_curve(second, 0.5, recalibration_fit(0.9)) == []  # one label only
    table.write_text("domain,group,malignant,malignancy\nb,g1,1,1.9\n")
    with pytest.raises(ValueError, match=r"line 2: malignant must be 0 or 1, malignancy 0..1. Received: '1', '1.9'"):
        read_domain_scores(table)
    table.write_text("domain,group,malignancy\n")
    with pytest.raises(ValueError, match="Missing: malignant"):
        read_domain_scores(table)
