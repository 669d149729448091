"""Study plans: what a plan file may contain, and which rows take part."""

from pathlib import Path

import pytest

from aiderm_trainer.architectures import custom_cnn
from aiderm_trainer.study.plan import UNTRAINED, Plan, PlanError, plan_of_architectures, rows_of

RECIPE = {"name": "a", "train": {"arch": "custom_cnn", "weights": "none"}}
DOCS = Path(__file__).parents[3] / "docs" / "study"


@pytest.mark.parametrize("name", ["plan.toml", "sources.toml"])
def test_the_committed_plans_are_plans_and_find_their_split(name: str) -> None:
    plan = Plan.read(DOCS / name)
    assert plan.split is not None
    assert (DOCS / plan.split).is_file()


def test_the_one_architecture_without_pretrained_weights_is_called_as_it_is() -> None:
    assert custom_cnn.NAME == UNTRAINED
    plan, folder = plan_of_architectures(["custom_cnn", "mobilenet_v2"], "some/where/w.h5", None, frozen=True, size=48, batch=8)
    assert [(r.train.weights, r.frozen) for r in plan.recipes] == [("none", False), ("w.h5", True)]
    assert folder == Path("some/where")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"recipes": []}, "recipes"),
        ({"recipes": [RECIPE, RECIPE]}, "different names"),
        ({"recipes": [RECIPE], "folds": 1}, "folds"),
        ({"recipes": [RECIPE], "fold": 5}, "fold"),
        ({"recipes": [{**RECIPE, "frozen": True}]}, "need pretrained weights"),
        ({"recipes": [{**RECIPE, "seeds": [1, 1]}]}, "must differ"),
        ({"recipes": [{**RECIPE, "train": {"arch": "x", "weights": "/elsewhere/w.h5"}}]}, "folder is an option"),
    ],
)
def test_what_is_no_plan_is_told(fields: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        Plan.of(**fields)


def test_options_change_a_plan(tmp_path: Path) -> None:
    frozen = {"name": "b", "frozen": True, "train": {"arch": "mobilenet_v2"}}
    plan = Plan.of(recipes=[RECIPE, frozen]).change(folds="source", epochs=3, seeds=2, rows=None)
    assert plan.folds == "source"
    assert [recipe.seeds for recipe in plan.recipes] == [(0, 1), (0, 1)]
    assert (plan.recipes[0].train.epochs, plan.recipes[1].train.head_epochs) == (3, 3)
    assert plan.change(folds="3").folds == 3
    (tmp_path / "broken.toml").write_text("recipes = [")
    with pytest.raises(PlanError, match="no TOML"):
        Plan.read(tmp_path / "broken.toml")


def test_test_rows_stay_out_and_groups_stay_whole(sample_rows) -> None:
    rows = [*sample_rows(200, split="train"), *sample_rows(50, seed=1)]
    plan = Plan.of(recipes=[RECIPE])
    assert {row.split for row in rows_of(plan, rows)} == {"train"}
    some = rows_of(plan.change(rows=80), rows)
    assert 40 < len(some) < 130
    kept = {row.group for row in some}
    assert all(row in some for row in rows if row.split == "train" and row.group in kept)
    assert {row.source for row in rows_of(Plan.of(recipes=[RECIPE], sources=["a"]), rows)} == {"a"}
    with pytest.raises(PlanError, match="no rows of z"):
        rows_of(Plan.of(recipes=[RECIPE], sources=["z"]), rows)
