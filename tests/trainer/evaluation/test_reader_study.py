"""Simulated readers of known ability, a published example, and tables that cannot be analysed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.evaluation.obuchowski_rockette import components, difference, jackknife_covariance, single
from aiderm_trainer.evaluation.reader_study import auc_figure, reader_study
from aiderm_trainer.evaluation.reader_table import COLUMNS, ReaderTableError, read_reader_tables

# Van Dyke et al. (1993): five readers, 114 cases, two modalities. The AUCs, jackknife covariances and results are those in the
# chapter "Coding illustrations of the OR method" of D. Chakraborty's RJafroc book.
VAN_DYKE = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
VARIANCE, COV1, COV2, COV3 = 0.0008022883, 0.0003466137, 0.0003440748, 0.0002390284


def covariance_of(readers: int, variance: float, cov1: float, cov2: float, cov3: float) -> np.ndarray:
    same_way, same_reader = np.eye(2)[:, None, :, None], np.eye(readers)[None, :, None]
    both = same_way * same_reader
    return variance * both + cov1 * (same_reader - both) + cov2 * (same_way - both) + cov3 * (1 - same_way) * (1 - same_reader)


def test_the_published_example():
    covariance = covariance_of(5, VARIANCE, COV1, COV2, COV3)
    found = components(VAN_DYKE, covariance)
    assert found.ms_treatment == pytest.approx(0.0047961705, rel=1e-6)
    assert found.ms_interaction == pytest.approx(0.0005510306, rel=1e-6)
    assert (found.variance, found.cov1, found.cov2, found.cov3) == pytest.approx((VARIANCE, COV1, COV2, COV3))
    changed = difference(VAN_DYKE, covariance)
    assert changed.value == pytest.approx(0.04380032)
    assert changed.degrees == pytest.approx(15.25967, rel=1e-6)
    assert changed.p == pytest.approx(0.05166569, rel=1e-5)
    assert changed.ci95 == pytest.approx((-0.0003588544, 0.0879594986), abs=1e-8)


def ratings(rng: np.random.Generator, readers: int, malignant: np.ndarray, gain: float, *, noise: float = 0.3) -> np.ndarray:
    """``[2, R, K]``: cases of random difficulty, readers of random ability; the model increases the separation by ``gain``."""
    cases = len(malignant)
    difficulty = rng.normal(0, 0.7, cases) + rng.normal(0, 0.4, (2, 1, cases))
    ability = rng.normal(0, 0.25, (1, readers, 1)) + rng.normal(0, noise, (2, readers, 1))
    separation = 1.2 + np.array([0.0, gain])[:, None, None] + ability
    return separation * malignant + difficulty + rng.normal(0, 0.6, (2, readers, cases))


def test_the_jackknife_leaves_out_one_case_at_a_time():
    rng = np.random.default_rng(1)
    malignant = np.arange(24) < 9
    score = np.round(ratings(rng, 3, malignant, 0.3), 1)  # with ties
    found = auc_figure(score, malignant)
    for way, reader, case in ((0, 0, 3), (1, 2, 20), (0, 1, 8)):
        kept = np.arange(24) != case
        expected = roc_auc_score(malignant[kept], score[way, reader, kept])
        assert found.left_out[way, reader, case] == pytest.approx(expected)
    assert found.value[1, 1] == pytest.approx(roc_auc_score(malignant, score[1, 1]))


def coverage(trials: int, seed: int, gain: float, truth: float) -> float:
    """The share of simulated studies whose interval holds the true difference in AUC."""
    rng = np.random.default_rng(seed)
    malignant = np.arange(80) < 35
    held = 0
    for _ in range(trials):
        found = auc_figure(ratings(rng, 5, malignant, gain), malignant)
        low, high = difference(found.value, jackknife_covariance(found.left_out)).ci95
        held += low <= truth <= high
    return held / trials


def test_the_interval_holds_the_truth():
    assert coverage(120, 3, 0.0, 0.0) == pytest.approx(0.95, abs=0.05)


@pytest.mark.soak
def test_the_interval_holds_the_truth_in_many_studies():
    rng = np.random.default_rng(0)
    malignant = np.arange(4000) < 2000
    truth = np.mean([np.diff(auc_figure(ratings(rng, 5, malignant, 0.4), malignant).value.mean(axis=1)) for _ in range(20)])
    assert coverage(800, 4, 0.0, 0.0) == pytest.approx(0.95, abs=0.03)
    assert coverage(800, 5, 0.4, truth) == pytest.approx(0.95, abs=0.03)


def test_without_variance_there_is_no_interval_and_one_reader_speaks_for_herself():
    none = difference(np.full((2, 3), 0.9), np.zeros((2, 3, 2, 3)))
    assert (none.value, none.ci95, none.p) == (0.0, None, None)
    one = difference(np.array([[0.8], [0.9]]), covariance_of(1, 0.002, 0.001, 0, 0))
    assert one.standard_error == pytest.approx(0.002**0.5)
    assert single(np.array([0.8]), np.array([[0.0004]])).ci95 == pytest.approx((0.8 - 0.0392, 0.8 + 0.0392), abs=1e-4)


def row(reader: str, case: int, truth: str, before: str, model: str, after: str, seconds: tuple[float, float] = (20, 5)) -> dict:
    values = (reader, f"c{case}", truth, before, 60, seconds[0], model, 0.3, "melanoma 5", after, 80, seconds[1])
    return dict(zip(COLUMNS, values, strict=True))


def write(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def study_of(path: Path, **options):
    settings = {"unsure": "refer", "threshold": 0.1, "prevalence": None, "replicates": 200, "seed": 1} | options
    return reader_study(read_reader_tables([path]), **settings)


M, B, YES, NO, UNSURE = "malignant", "benign", "refer", "no_refer", "unsure"
RISE, FALL = "suspicious", "low_suspicion"
BY_HAND = [
    row("ann", 1, M, NO, RISE, YES), row("ann", 2, M, YES, RISE, YES), row("ann", 3, B, YES, FALL, NO),
    row("ann", 4, B, NO, RISE, YES), row("bob", 1, M, NO, RISE, NO), row("bob", 2, M, UNSURE, FALL, NO),
    row("bob", 3, B, NO, "uncertain", NO), row("bob", 4, B, NO, FALL, NO, (40, 15)),
]  # fmt: skip


def test_figures_by_hand(tmp_path):
    found = study_of(write(tmp_path / "t.csv", BY_HAND))
    ann, bob = found.by_reader["ann"], found.by_reader["bob"]
    assert (found.cases, found.malignant, found.models, found.prevalence) == (4, 2, ["melanoma 5"], 0.5)
    for reader, name, values in (
        (ann, "sensitivity", (0.5, 1.0)), (ann, "specificity", (0.5, 0.5)), (bob, "sensitivity", (0.5, 0.0)),
        (bob, "specificity", (1.0, 1.0)), (found.pooled, "sensitivity", (0.5, 0.5)), (found.pooled, "specificity", (0.75, 0.75)),
        (ann, "net_benefit", (0.25 - 0.25 / 9, 0.5 - 0.25 / 9)), (ann, "seconds", (20.0, 25.0)), (bob, "seconds", (25.0, 32.5)),
    ):  # fmt: skip
        assert (reader.figures[name].without.value, reader.figures[name].with_model.value) == pytest.approx(values), name
    assert ann.advice["switched_right"].value == 1.0  # cases 1 and 3
    assert ann.advice["followed_wrong"].value == 1.0  # case 4
    assert bob.advice["followed_right"].value == 0.5  # cases 1 and 4; case 3 has no advice
    assert bob.advice["switched_wrong"].value == 1.0  # case 2: unsure counts as a referral
    assert (ann.advice["corrected"].value, ann.advice["misled"].value) == (0.5, 0.25)
    strict = study_of(tmp_path / "t.csv", unsure="no_refer")
    assert strict.by_reader["bob"].figures["sensitivity"].without.value == 0.0
    rare = study_of(tmp_path / "t.csv", prevalence=0.01)
    assert rare.by_reader["ann"].figures["net_benefit"].without.value == pytest.approx(0.01 * 0.5 - 0.99 * 0.5 / 9)


def test_a_model_that_helps_is_seen(tmp_path):
    rng = np.random.default_rng(7)
    rows = []
    malignant = np.arange(60) < 25
    score = ratings(rng, 6, malignant, 1.6, noise=0.1)
    for reader in range(6):
        for case in range(60):
            said = [YES if value > 0.6 else NO for value in score[:, reader, case]]
            each = row(f"r{reader}", case, M if malignant[case] else B, said[0], RISE if malignant[case] else FALL, said[1])
            each |= {f"{when}_confidence": abs(score[way, reader, case] - 0.6) for way, when in enumerate(("before", "after"))}
            rows.append(each)
    half = len(rows) // 2
    files = [write(tmp_path / "a.csv", rows[:half]), write(tmp_path / "b.csv", rows[half:])]
    both = tmp_path / "both.csv"
    both.write_text("".join(file.read_text() for file in files))
    done = CliRunner().invoke(app, ["reader-study", str(both), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "reader_study.json").read_text())
    apart = CliRunner().invoke(app, ["reader-study", *map(str, files), "--out", str(tmp_path / "apart")])
    assert apart.exit_code == 0
    assert json.loads((tmp_path / "apart" / "reader_study.json").read_text()) == found
    auc = found["pooled"]["figures"]["auc"]
    assert auc["difference"]["ci95"][0] > 0
    assert auc["p"] < 0.01
    expected = np.mean([roc_auc_score(malignant, score[0, reader]) for reader in range(6)])
    assert auc["without"]["value"] == pytest.approx(expected)
    page = (tmp_path / "out" / "reader_study.html").read_text()
    assert "6 readers read 60 cases, 25 of them malignant" in page
    assert "Unsure counts as a referral" in page
    assert "r5" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"truth": "cancer"}, "t.csv:2: truth must be malignant, benign. Received: 'cancer'"),
        ({"before_decision": "yes"}, "before_decision must be refer, no_refer, unsure. Received: 'yes'"),
        ({"model_decision": "benign"}, "model_decision must be"),
        ({"after_confidence": "high"}, "after_confidence must be a number of at least 0. Received: 'high'"),
        ({"before_seconds": "-1"}, "before_seconds must be a number"),
        ({"before_seconds": "nan"}, "before_seconds must be a number"),
        ({"reader": ""}, "must be named"),
        ({"case": "c2"}, "ann read the case c2 before, at .*t.csv:2"),
        ({"truth": "benign"}, "two truths: at .*t.csv:2 and at .*t.csv:6"),
        ({"truth": ""}, "Received: 1 and 2, of 4 cases and 2 readers; readings left out: 1 truth not known"),
    ],
)
def test_a_table_that_cannot_be_analysed(tmp_path, changes, said):
    with pytest.raises(ReaderTableError, match=said):
        read_reader_tables([write(tmp_path / "t.csv", [BY_HAND[0] | changes, *BY_HAND[1:]])])


def test_readings_that_are_left_out_are_counted(tmp_path):
    more = [row("ann", 5, M, YES, RISE, YES), row("bob", 6, B, NO, FALL, ""), row("bob", 7, "", NO, FALL, NO)]
    found = read_reader_tables([write(tmp_path / "t.csv", BY_HAND + more)])
    assert found.cases == ("c1", "c2", "c3", "c4")
    assert found.left_out == {"not read by every reader": 1, "not finished": 1, "truth not known": 1}
    (tmp_path / "u.csv").write_text("reader,case\nann,1\n")
    with pytest.raises(ReaderTableError, match="It lacks truth, before_decision"):
        read_reader_tables([tmp_path / "u.csv"])
