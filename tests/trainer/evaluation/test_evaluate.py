import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from aiderm_core.bundle.manifest import Metric
from aiderm_core.decision import Decision
from aiderm_trainer.evaluation import report_schema
from aiderm_trainer.evaluation.evaluate import ERRORS_FILE, PAGE_FILE, REPORT_FILE, evaluate_scores, write_report
from aiderm_trainer.evaluation.scores import Scores

FAST = 100


def joined(*parts):
    return Scores(
        [row for part in parts for row in part.rows],
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.malignancy for part in parts]),
        np.concatenate([part.novelty for part in parts]),
        [measures for part in parts for measures in part.measures],
    )


def labels_of(scores):
    return np.array([row.malignant for row in scores.rows])


@pytest.fixture(scope="module")
def written(sample_scores, sample_manifest, tmp_path_factory):
    """A report's folder, and the scores, manifest, history and metrics that were written to it."""
    scores, manifest = sample_scores(1500), sample_manifest()
    history = [{"epoch": i, "loss": 1.0 / i, "val_auc": 0.5 + 0.1 * i} for i in (1, 2, 3)] + [{"epoch": 4, "loss": float("nan")}]
    folder = tmp_path_factory.mktemp("written") / "bundle" / "report"
    return folder, scores, manifest, write_report(folder, scores, manifest, history, FAST)


def test_values_equal_scikit_learn_and_lie_in_their_intervals(sample_scores, sample_manifest):
    scores, manifest = sample_scores(500), sample_manifest()
    y, p = labels_of(scores), scores.malignancy
    called = p >= manifest.decision.threshold
    result = evaluate_scores(scores, manifest, FAST)["test"]
    assert result["n"].value == 500
    assert result["n_malignant"].value == y.sum()
    expected = {
        "roc_auc": sk.roc_auc_score(y, p),
        "pr_auc": sk.average_precision_score(y, p),
        "sensitivity": sk.recall_score(y, called),
        "specificity": sk.recall_score(~y, ~called),
        "precision": sk.precision_score(y, called),
        "accuracy": sk.accuracy_score(y, called),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called),
        "f1": sk.f1_score(y, called),
        "mcc": sk.matthews_corrcoef(y, called),
        "brier": sk.brier_score_loss(y, p),
        "prevalence": y.mean(),
    }
    for name, value in expected.items():
        assert result[name].value == pytest.approx(value, abs=1e-6), name
        assert result[name].ci95[0] <= value <= result[name].ci95[1], name


def test_classes_count_where_known_and_scc_counts_as_akiec(sample_scores, sample_manifest):
    scores, manifest = sample_scores(500), sample_manifest()
    ids = [label.id for label in manifest.labels]
    dx = np.array([manifest.class_map.get(row.dx, row.dx) for row in scores.rows])
    known = dx != ""
    true, predicted = dx[known], np.array(ids)[scores.probability.argmax(axis=1)][known]
    result = evaluate_scores(scores, manifest, FAST)["test"]
    assert any(row.dx == "scc" for row in scores.rows)
    assert result["n_known_class"].value == known.sum()
    assert result["multiclass_balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(true, predicted))
    assert result["multiclass_macro_f1"].value == pytest.approx(sk.f1_score(true, predicted, average="macro"))
    melanoma = np.array([row.dx == "mel" for row in scores.rows])
    usable = known | ~labels_of(scores)
    assert result["melanoma_auc"].value == pytest.approx(sk.roc_auc_score(melanoma[usable], scores.probability[usable, 0]))
    assert result["sensitivity_melanoma"].value == pytest.approx(
        (scores.malignancy[melanoma] >= manifest.decision.threshold).mean()
    )


def test_decisions_are_those_of_serving(sample_scores, sample_manifest):
    scores, manifest = sample_scores(400), sample_manifest()
    for i in range(0, 400, 10):
        scores.measures[i]["sharpness"] = 0.5  # below the rejection limit
    for i in range(5, 400, 10):
        scores.measures[i]["sharpness"] = 5.0  # a warning: low suspicion becomes uncertain
    p, low, high = scores.malignancy, *manifest.decision.uncertain
    index = np.arange(400)
    rejected = (scores.novelty > manifest.novelty.limit) | (index % 10 == 0)
    uncertain = ~rejected & (((p >= low) & (p <= high)) | ((p < manifest.decision.threshold) & (index % 10 == 5)))
    suspicious = ~rejected & ~uncertain & (p >= manifest.decision.threshold)
    cleared = ~rejected & ~uncertain & ~suspicious
    y = labels_of(scores)
    result = {name: metric.value for name, metric in evaluate_scores(scores, manifest, FAST)["test"].items()}
    assert result["share_rejected"] == pytest.approx(rejected.mean())
    assert result["share_uncertain"] == pytest.approx(uncertain.mean())
    assert result["share_suspicious"] == pytest.approx(suspicious.mean())
    assert sum(result[f"share_{decision.value}"] for decision in Decision) == pytest.approx(1)
    assert result["sensitivity_answered"] == pytest.approx(suspicious[y].sum() / (suspicious | cleared)[y].sum())
    assert result["specificity_answered"] == pytest.approx(cleared[~y].sum() / (suspicious | cleared)[~y].sum())
    assert result["malignant_low_suspicion"] == pytest.approx(cleared[y].mean())


def test_each_source_with_both_labels_is_evaluated_by_itself(sample_scores, sample_manifest):
    both = sample_scores(300)
    only_benign = sample_scores(60, seed=9, sources=("c",))
    only_benign = only_benign.take(np.flatnonzero(~labels_of(only_benign)))
    scores = joined(both, only_benign, sample_scores(200, seed=5, split="calibration", sources=("a",)))
    result = evaluate_scores(scores, sample_manifest(), FAST)
    assert set(result) == {"test", "test/source=a", "test/source=b", "calibration", "calibration/source=a"}
    inside = both.take([i for i, row in enumerate(both.rows) if row.source == "a"])
    alone = evaluate_scores(inside, sample_manifest(), FAST)["test"]
    assert result["test/source=a"] == alone
    assert result["test"]["n"].value == 300 + len(only_benign.rows)


def test_one_label_alone_gives_no_auc_but_what_is_defined(sample_scores, sample_manifest):
    scores = sample_scores(100)
    benign = scores.take(np.flatnonzero(~labels_of(scores)))
    result = evaluate_scores(benign, sample_manifest(), FAST)
    assert set(result) == {"test"}
    assert "roc_auc" not in result["test"]
    assert "sensitivity" not in result["test"]
    assert 0 < result["test"]["specificity"].value <= 1


def test_a_perfect_proportion_does_not_claim_certainty(sample_scores, sample_manifest):
    scores = sample_scores(60)
    rule = {"threshold": 0, "target_sensitivity": 0.95, "uncertain": (0, 0)}
    result = evaluate_scores(scores, sample_manifest(decision=rule), FAST)
    sick = {row.group for row in scores.rows if row.malignant}
    assert result["test"]["sensitivity"].value == 1
    assert result["test"]["sensitivity"].ci95 == pytest.approx((0.025 ** (1 / len(sick)), 1))
    assert result["test"]["specificity"].ci95[1] > 0.02
    assert result["test"]["share_low_suspicion"].ci95[1] > 0.02


def test_two_labels_have_no_multiclass_metrics(sample_scores, sample_manifest):
    scores = sample_scores(200)
    pair = np.stack([1 - scores.malignancy, scores.malignancy], axis=1)
    labels = [{"id": "benign", "name": "Benign", "malignant": False}, {"id": "malignant", "name": "Malignant", "malignant": True}]
    golden = {"cases": [{"path": "golden/0.png", "probability": [0.4, 0.6], "malignancy": 0.6, "novelty": 1.0}]}
    manifest = sample_manifest(labels=labels, class_map={}, golden=golden)
    result = evaluate_scores(replace(scores, probability=pair), manifest, FAST)["test"]
    assert "roc_auc" in result
    assert "sensitivity_melanoma" in result
    assert not {"melanoma_auc", "multiclass_macro_f1"} & set(result)


def test_probabilities_of_another_number_of_labels_are_refused(sample_scores, sample_manifest):
    scores = sample_scores(20)
    with pytest.raises(ValueError, match="5 labels"):
        evaluate_scores(replace(scores, probability=scores.probability[:, :4]), sample_manifest(), FAST)


def test_no_scores_are_refused(sample_scores, sample_manifest):
    with pytest.raises(ValueError, match="no scores"):
        evaluate_scores(sample_scores(4).take([]), sample_manifest(), FAST)


@pytest.mark.slow
def test_the_report_holds_metrics_curves_and_plots_and_reads_back(written):
    folder, scores, manifest, result = written
    assert result == evaluate_scores(scores, manifest, FAST)
    report = report_schema.EvaluationReport.model_validate_json((folder / REPORT_FILE).read_bytes())
    assert report.metrics == result
    assert report.history[3]["loss"] is None
    assert set(report.segments) == set(result)
    assert all(isinstance(metric, Metric) for of in report.metrics.values() for metric in of.values())
    files = {path.name for path in folder.iterdir()}
    plots = ("roc", "pr", "reliability", "decision_curve", "histogram", "confusion", "training")
    assert files == {REPORT_FILE, PAGE_FILE, ERRORS_FILE, *(f"{name}.png" for name in plots)}
    assert (folder / REPORT_FILE).stat().st_size < 200_000


@pytest.mark.slow
def test_curves_are_thinned_and_keep_their_area_and_ends(written):
    folder, scores, _, result = written
    y, p = labels_of(scores), scores.malignancy
    segment = json.loads((folder / REPORT_FILE).read_text())["segments"]["test"]
    roc, pr = segment["roc"], segment["pr"]
    assert len(roc["threshold"]) <= report_schema.MAX_POINTS
    assert (roc["false_positive_rate"][0], roc["true_positive_rate"][0], roc["threshold"][0]) == (0, 0, None)
    assert (roc["false_positive_rate"][-1], roc["true_positive_rate"][-1]) == (1, 1)
    assert sk.auc(roc["false_positive_rate"], roc["true_positive_rate"]) == pytest.approx(
        result["test"]["roc_auc"].value, abs=2e-3
    )
    for fpr, tpr, threshold in list(zip(roc["false_positive_rate"], roc["true_positive_rate"], roc["threshold"], strict=True))[
        1::20
    ]:
        assert tpr == pytest.approx((p[y] >= threshold).mean())
        assert fpr == pytest.approx((p[~y] >= threshold).mean())
    assert pr["recall"][-1] == 1
    assert pr["base_rate"] == pytest.approx(y.mean())
    for recall, precision, threshold in list(zip(pr["recall"], pr["precision"], pr["threshold"], strict=True))[::20]:
        assert recall == pytest.approx((p[y] >= threshold).mean())
        assert precision == pytest.approx(y[p >= threshold].mean())


@pytest.mark.slow
def test_reliability_decision_curve_histogram_and_confusion_follow_their_definitions(written):
    folder, scores, _, metrics = written
    y, p, result = labels_of(scores), scores.malignancy.astype(float), metrics["test"]
    segment = report_schema.EvaluationReport.model_validate_json((folder / REPORT_FILE).read_bytes()).segments["test"]
    assert sum(each.count for each in segment.reliability) == len(y)
    gap = sum(each.count * abs(each.mean_probability - each.observed) for each in segment.reliability) / len(y)
    assert gap == pytest.approx(result["ece"].value)
    assert all(each.ci95[0] <= each.observed <= each.ci95[1] for each in segment.reliability)
    at = segment.decision_curve.threshold.index(0.3)
    called = p >= 0.3
    assert segment.decision_curve.model[at] == pytest.approx((called & y).mean() - (called & ~y).mean() * 0.3 / 0.7)
    assert segment.decision_curve.low[at] < segment.decision_curve.model[at] < segment.decision_curve.high[at]
    assert segment.decision_curve.treat_all[at] == pytest.approx(y.mean() - (~y).mean() * 0.3 / 0.7)
    assert sum(segment.histogram.malignant) == y.sum()
    assert sum(segment.histogram.benign) == (~y).sum()
    assert sum(map(sum, segment.confusion.counts)) == result["n_known_class"].value
    assert sum(segment.decisions.malignant.values()) == y.sum()
    assert sum(segment.decisions.benign.values()) == (~y).sum()


@pytest.mark.slow
def test_undefined_replicates_are_stated(sample_scores, sample_manifest, tmp_path):
    scores = sample_scores(300)
    y = labels_of(scores)
    few = scores.take(np.concatenate([np.flatnonzero(y)[:2], np.flatnonzero(~y)[:80]]))
    result = write_report(tmp_path, few, sample_manifest(), replicates=200)["test"]
    report = report_schema.EvaluationReport.model_validate_json((tmp_path / REPORT_FILE).read_bytes())
    assert result["roc_auc"].ci95 is None
    assert report.bootstrap.undefined["test"]["roc_auc"] > 10
    assert "brier" not in report.bootstrap.undefined["test"]


@pytest.mark.slow
def test_worst_errors_are_named_by_checksum_and_never_by_path(written):
    folder, scores, manifest, _ = written
    text = (folder / ERRORS_FILE).read_text()
    assert ".png" not in text
    table = list(csv.DictReader(text.splitlines()))
    by_sha = {row.sha256: (row, p) for row, p in zip(scores.rows, scores.malignancy, strict=True)}
    assert {line["error"] for line in table} == {"missed", "false_alarm"}
    missed = [line for line in table if line["error"] == "missed"]
    assert [float(line["malignancy"]) for line in missed] == sorted(float(line["malignancy"]) for line in missed)
    wrong = sum((p >= manifest.decision.threshold) != row.malignant for row, p in by_sha.values() if row.malignant)
    assert len(missed) == min(50, wrong)
    for line in table:
        row, p = by_sha[line["sha256"]]
        assert row.malignant == (line["error"] == "missed") == (p < manifest.decision.threshold)
        assert line["decision"] in [decision.value for decision in Decision]


@pytest.mark.slow
def test_without_a_test_split_the_first_one_is_shown(sample_scores, sample_manifest, tmp_path):
    write_report(tmp_path, sample_scores(200, split="validation"), sample_manifest(), replicates=FAST)
    assert json.loads((tmp_path / REPORT_FILE).read_text())["main"] == "validation"


@pytest.mark.slow
def test_the_page_stands_alone_beside_its_plots_and_says_what_the_report_says(written):
    folder, _, _, result = written
    page = (folder / PAGE_FILE).read_text()
    assert "<script" not in page
    assert "http" not in page
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert sources
    assert all((folder / name).is_file() for name in sources)
    assert page.count("alt=") == len(sources)
    metric = result["test/source=b"]["roc_auc"]
    assert f"{metric.value:.3f} ({metric.ci95[0]:.3f} to {metric.ci95[1]:.3f})" in page
    assert report_schema.EvaluationReport.model_validate_json((folder / REPORT_FILE).read_bytes()).errors[0].sha256[:16] in page
    assert page.count("Not measured") == 10  # everything that was not requested
    headers = re.findall(r"<thead><tr>(.*?)</tr></thead><tbody>(.*?)</tbody>", page)
    assert len(headers) > 5
    for head, body in headers:
        columns = head.count("<th ")
        assert all(line.count("<td") + 1 == columns for line in body.split("</tr>") if line)


def test_melanoma_against_the_rest_has_the_same_metrics_as_malignant(sample_scores, sample_manifest):
    scores = sample_scores(500)
    result = evaluate_scores(scores, sample_manifest(), FAST)["test"]
    usable = np.array([bool(row.dx) or not row.malignant for row in scores.rows])
    melanoma = np.array([row.dx == "mel" for row in scores.rows])[usable]
    p = scores.probability[usable, 0]
    assert result["melanoma_pr_auc"].value == pytest.approx(sk.average_precision_score(melanoma, p))
    fpr, tpr, _ = sk.roc_curve(melanoma, p, drop_intermediate=False)
    assert result["melanoma_sensitivity_at_specificity_0.80"].value == pytest.approx(tpr[fpr <= 0.2 + 1e-9].max())
    assert result["melanoma_specificity_at_sensitivity_0.95"].value == pytest.approx(1 - fpr[tpr >= 0.95 - 1e-9].min())
