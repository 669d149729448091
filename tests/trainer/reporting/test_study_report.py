"""The report matches the scores, and the committed report matches the committed results."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.findings import read_left_out
from aiderm_trainer.evaluation.metrics import roc_auc
from aiderm_trainer.reporting.study_report import publish, write_report
from aiderm_trainer.study.folds import make_folds
from aiderm_trainer.study.leaderboard import AVERAGE, GREEDY, leaderboard
from aiderm_trainer.study.plan import Plan, PlanError
from aiderm_trainer.study.record import TrialResult
from aiderm_trainer.study.results import Identity, Results, collect, load, save

DOCS = Path(__file__).parents[3] / "docs"

# Fields that the report reads from a trial's row, and 0.5 for the figures that it recomputes.
EMPTY = dict.fromkeys(TrialResult.model_fields, 0.5) | {
    "frozen": False, "size": 96, "parameters": 1_200_000, "epochs": 3, "best_epoch": 2, "seconds": 10.0, "threads": 2,
}  # fmt: skip


def results_of(rows: list[Row], plan: Plan, quality: dict[str, float]) -> Results:
    """A study with recipes whose scores of the two labels are ``quality`` standard deviations apart."""
    folds = make_folds(rows, plan.folds, plan.inner, plan.seed)
    trials, outputs = [], {}
    for recipe in plan.recipes:
        for fold, parts in folds.items():
            for seed in recipe.seeds:
                rng = np.random.default_rng([seed, len(trials)])
                arrays = {}
                for name, part in (("held_out", "test"), ("validation", "validation")):
                    own = [row for row in parts if row.split == part]
                    malignant = np.array([row.malignant for row in own])
                    score = 1 / (1 + np.exp(-(malignant * quality[recipe.name] + rng.normal(size=len(own)) - 1)))
                    arrays[f"{name}_path"] = np.array([row.path for row in own])
                    arrays[f"{name}_malignancy"] = score.astype(np.float32)
                outputs[recipe.name, fold, seed] = arrays
                sizes = {"train": "train_rows", "validation": "validation_rows", "test": "held_out_rows"}
                counts = {name: sum(row.split == part for row in parts) for part, name in sizes.items()}
                trials.append(
                    TrialResult.model_validate(
                        {**EMPTY, **counts, "recipe": recipe.name, "fold": fold, "seed": seed, "arch": recipe.train.arch}
                    )
                )
    return collect(Identity(plan=plan, rows="0" * 64, weights={}), rows, trials, outputs)


def plan_of(names: dict[str, int], **fields: object) -> Plan:
    train = {"arch": "custom_cnn", "weights": "none"}
    return Plan.of(recipes=[{"name": n, "seeds": list(range(s)), "train": train} for n, s in names.items()], **fields)


@pytest.fixture(scope="module")
def study(sample_rows) -> Results:
    rows = sample_rows(900, split="train")
    group = {row.group: row for row in rows}  # one label per group, as in real data
    rows = [Row(r.sha256, r.path, r.source, r.group, r.split, "", group[r.group].malignant) for r in rows]
    published = [{"name": "Somebody's", "accuracy": 0.99, "protocol": "random split"}]
    plan = plan_of({"good": 2, "same": 2, "bad": 1}, question="Which is best?", published=published)
    return results_of(sorted(rows, key=lambda row: row.path), plan, {"good": 2.0, "same": 2.0, "bad": 0.3})


def test_the_leaderboard_tells_real_differences_from_luck(study: Results) -> None:
    board = leaderboard(study)
    verdicts = {frozenset((pair.better, pair.worse)): pair.verdict for pair in board.solo}
    assert verdicts[frozenset(("good", "bad"))] == "real"
    assert verdicts[frozenset(("same", "bad"))] == "real"
    assert verdicts[frozenset(("good", "same"))] != "real"
    means = [entry.figures["roc_auc"].mean for entry in board.entries]
    assert means == sorted(means, reverse=True)
    names = {entry.name for entry in board.entries}
    assert names == {"good", "same", "bad", "good, 2 seeds", "same, 2 seeds", AVERAGE, GREEDY}
    # The members' noise is independent, so their average is better than each, and the bad one is left out.
    greedy = next(entry for entry in board.entries if entry.name == GREEDY)
    solo = max(entry.figures["roc_auc"].mean for entry in board.entries if entry.kind == "solo")
    assert greedy.figures["roc_auc"].mean > solo
    assert greedy.members.get("bad", 0) < 0.1
    assert sum(greedy.members.values()) == pytest.approx(1.0)
    # Seeds are averaged before folds, so the mean is that of all trials.
    good = next(entry for entry in board.entries if entry.name == "good")
    aucs = [roc_auc(study.malignant[p.index], p.score).item() for k, p in study.held_out.items() if k[0] == "good"]
    assert good.figures["roc_auc"].mean == pytest.approx(np.mean(aucs))
    assert len(good.auc) == 5


def test_the_report_is_made_of_the_saved_files_alone(study: Results, tmp_path: Path) -> None:
    save(tmp_path / "run", study)
    publish(tmp_path / "run", tmp_path / "docs" / "study")
    first = write_report(tmp_path / "docs" / "study", tmp_path / "docs" / "study.md").document
    assert first == (tmp_path / "docs" / "study.md").read_text()
    for said in ("Which is best?", "good above bad by", "**Real** (2 of 3 pairs", "Somebody's", "study/leaderboard.png"):
        assert said in first
    assert (tmp_path / "docs" / "study" / "differences.png").stat().st_size > 1000
    (tmp_path / "run" / "scores.npz").unlink()
    with pytest.raises(PlanError, match="no finished study"):
        load(tmp_path / "run")


def test_a_study_by_sources_says_what_is_lost_elsewhere(sample_rows, tmp_path: Path) -> None:
    rows = [Row(r.sha256, r.path, r.source, r.path, r.split, r.dx, r.malignant) for r in sample_rows(300, split="train")]
    plan = plan_of({"net": 1}, folds="source")
    results = results_of(sorted(rows, key=lambda row: row.path), plan, {"net": 1.5})
    save(tmp_path / "study", results)
    text = write_report(tmp_path / "study", tmp_path / "study.md").document
    for source in ("a", "b"):
        part = results.held_out["net", source, 0]
        auc = roc_auc(results.malignant[part.index], part.score).item()
        assert f"| net | {source} |" in text
        assert f"{auc:.3f} [" in text
    assert (tmp_path / "study" / "sources.png").exists()
    left_out = read_left_out(tmp_path / "study" / "left_out.json")  # what a model card gets
    assert f"{left_out['b']['roc_auc'].value:.3f} [" in text


@pytest.mark.ci
def test_the_committed_report_is_what_the_committed_results_give(tmp_path: Path) -> None:
    for file in (DOCS / "study").rglob("*"):
        if file.is_file() and file.suffix != ".png":
            copy = tmp_path / file.relative_to(DOCS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    result = CliRunner().invoke(app, ["study-report", str(tmp_path / "study")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "study.md").read_text() == (DOCS / "study.md").read_text()
    assert (tmp_path / "study/sources/left_out.json").read_text() == (DOCS / "study/sources/left_out.json").read_text()
    made = {file.relative_to(tmp_path) for file in tmp_path.rglob("*.png")}
    assert made == {file.relative_to(DOCS) for file in (DOCS / "study").rglob("*.png")}
