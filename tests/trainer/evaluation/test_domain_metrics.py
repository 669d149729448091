"""A score that only reflects the camera looks good over the whole archive, but must not look good within a domain."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from aiderm_trainer.evaluation.cohorts import cohort
from aiderm_trainer.evaluation.domain_metrics import MIN_CASES, measure_domains
from aiderm_trainer.evaluation.scores import Scores

FAST = {"replicates": 100, "seed": 0}


@pytest.fixture(scope="module")
def cameras(sample_rows):
    """600 rows of two cameras, of which the old one has few malignant lesions; most benign ones were not biopsied."""
    rng = np.random.default_rng(3)
    rows, domains, biopsied = [], [], []
    for row in sample_rows(600, seed=3):
        old = rng.random() < 0.5
        malignant = bool(rng.random() < (0.15 if old else 0.6))
        dx = str(rng.choice(["mel", "bcc"] if malignant else ["nv", "bkl"]))
        rows.append(replace(row, malignant=malignant, dx=dx))
        domains.append("old" if old else "new")
        biopsied.append(malignant or bool(rng.random() < 0.4))
    return rows, domains, biopsied


def report_of(rows, domains, biopsied, score, manifest, **options):
    probability = np.zeros((len(rows), len(manifest.labels)), np.float32)
    probability[:, 0], probability[:, 3] = score, 1 - score
    scores = Scores(rows, probability, score.astype(np.float32), np.zeros(len(rows), np.float32), [{}] * len(rows))
    of = cohort(scores, manifest, np.array(["suspicious"] * len(rows)), np.arange(len(rows)))
    return measure_domains(of, domains, biopsied, manifest, "test", **(FAST | options)), of


def test_a_score_that_is_the_camera_is_exposed(cameras, sample_manifest):
    rows, domains, biopsied = cameras
    rng = np.random.default_rng(0)
    score = np.where(np.array(domains) == "new", 0.7, 0.3) + rng.uniform(-0.1, 0.1, len(rows))
    found, of = report_of(rows, domains, biopsied, score, sample_manifest())
    assert sk.roc_auc_score(of.malignant, of.malignancy) > 0.7  # over the whole archive it looks good
    assert found.biopsied["mean_auc_inside"].value == pytest.approx(0.5, abs=0.08)
    (pair,) = found.cameras
    assert (pair.higher, pair.lower) == ("new", "old")
    assert pair.auc.value == 1


def test_a_score_that_is_the_lesion_is_blind_to_the_camera(cameras, sample_manifest):
    rows, domains, biopsied = cameras
    rng = np.random.default_rng(0)
    score = np.clip(np.array([0.3 + 0.4 * row.malignant for row in rows]) + rng.normal(0, 0.1, len(rows)), 0, 1)
    found, _ = report_of(rows, domains, biopsied, score, sample_manifest())
    assert found.biopsied["mean_auc_inside"].value > 0.95
    (pair,) = found.cameras
    assert pair.auc.ci95[0] < 0.5 < pair.auc.ci95[1]
    assert pair.higher_count + pair.lower_count == sum(
        row.dx == "nv" and not was for row, was in zip(rows, biopsied, strict=True)
    )


def test_figures_are_those_of_biopsied_lesions_alone(cameras, sample_manifest):
    rows, domains, biopsied = cameras
    score = np.random.default_rng(1).uniform(size=len(rows)) * 0.5 + 0.3 * np.array([row.malignant for row in rows])
    manifest = sample_manifest()
    found, of = report_of(rows, domains, biopsied, score, manifest)
    was, y, s = np.array(biopsied), of.malignant, of.malignancy
    assert found.biopsied["n"].value == was.sum()
    assert found.biopsied["n_malignant"].value == (was & y).sum()
    assert found.biopsied["roc_auc"].value == pytest.approx(sk.roc_auc_score(y[was], s[was]))
    fpr, tpr, _ = sk.roc_curve(y[was], s[was], drop_intermediate=False)
    assert found.biopsied["specificity_at_sensitivity_0.95"].value == pytest.approx(1 - fpr[tpr >= 0.95].min())
    assert found.biopsied["melanoma_auc"].value == pytest.approx(sk.roc_auc_score(of.melanoma[was], of.probability[was, 0]))
    assert found.biopsied["specificity"].value == pytest.approx((s[was & ~y] < manifest.decision.threshold).mean())
    inside = {}
    for each in found.domains:
        here = was & (np.array(domains) == each.name)
        inside[each.name] = sk.roc_auc_score(y[here], s[here])
        assert each.auc.value == pytest.approx(inside[each.name])
        assert each.auc.ci95[0] < each.auc.value < each.auc.ci95[1]
        assert (each.benign, each.malignant) == ((here & ~y).sum(), (here & y).sum())
        assert each.images == domains.count(each.name)
        assert each.ece.value > each.ece_bound  # scores drawn at random are not calibrated
    assert found.biopsied["mean_auc_inside"].value == pytest.approx(np.mean(list(inside.values())))
    repeated = found.metrics()
    assert repeated["test/biopsied"] == found.biopsied
    assert repeated["test/domain=old"]["roc_auc"].value == pytest.approx(inside["old"])


def test_true_probabilities_stay_below_the_bound(cameras, sample_manifest):
    rows, domains, biopsied = cameras
    share = {name: np.mean([r.malignant for r, d in zip(rows, domains, strict=True) if d == name]) for name in ("old", "new")}
    found, _ = report_of(rows, domains, biopsied, np.array([share[name] for name in domains]), sample_manifest())
    assert all(each.ece.value <= each.ece_bound for each in found.domains)


def test_domains_that_do_not_say_are_kept_apart_and_small_ones_have_no_auc(cameras, sample_manifest):
    rows, domains, biopsied = cameras
    score = np.random.default_rng(2).uniform(size=len(rows))
    unknown = [None if name == "new" else was for name, was in zip(domains, biopsied, strict=True)]
    tiny = ["tiny" if i < MIN_CASES else name for i, name in enumerate(domains)]
    found, _ = report_of(rows, tiny, unknown, score, sample_manifest())
    by_name = {each.name: each for each in found.domains}
    assert by_name["tiny"].auc is None
    assert by_name["tiny"].ece is None
    assert (by_name["old"].biopsy_known, by_name["new"].biopsy_known) == (True, False)
    assert by_name["new"].benign + by_name["new"].malignant == by_name["new"].images
    assert found.biopsied["mean_auc_inside"].value == by_name["old"].auc.value
    both = (by_name["old"].auc.value + by_name["new"].auc.value) / 2
    assert found.biopsied["mean_auc_inside_all"].value == pytest.approx(both)
    assert found.cameras == []


def test_without_any_biopsy_there_is_no_figure_for_biopsied_lesions(cameras, sample_manifest):
    rows, domains, _ = cameras
    score = np.random.default_rng(2).uniform(size=len(rows))
    found, _ = report_of(rows, domains, [None] * len(rows), score, sample_manifest())
    assert set(found.biopsied) == {"mean_auc_inside_all"}
    with pytest.raises(ValueError, match="600 rows"):
        report_of(rows, domains[1:], [None] * len(rows), score, sample_manifest())
