"""Folds: every row is held out once, groups stay whole, strata are even, and sources are really left out."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.split import LeakError
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.folds import check_untouched, make_folds
from aiderm_trainer.study.plan import PlanError


def lesions(count: int, seed: int, sources: int = 2) -> list[Row]:
    """Rows in groups of one to three with one label per group; some groups span sources."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    group = 0
    while len(rows) < count:
        malignant = group % 3 == 0
        for _ in range(int(rng.integers(1, 4))):
            sha256 = hashlib.sha256(f"{seed} {len(rows)}".encode()).hexdigest()
            source = f"s{int(rng.integers(sources))}"
            rows.append(Row(sha256, f"{len(rows)}.png", source, f"g{group}", "train", "mel" if malignant else "nv", malignant))
        group += 1
    return rows


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_every_row_is_held_out_once_and_no_group_is_on_two_sides(seed: int, count: int) -> None:
    rows = lesions(240, seed)
    folds = make_folds(rows, count, 0.2, seed)
    assert len(folds) == count
    held_out = [row.path for fold in folds.values() for row in fold if row.split == "test"]
    assert sorted(held_out) == sorted(row.path for row in rows)
    for fold in folds.values():
        side: dict[str, str] = {}
        assert len(fold) == len(rows)
        assert all(side.setdefault(row.group, row.split) == row.split for row in fold)
        share = [np.mean([r.malignant for r in fold if r.split == part]) for part in ("train", "validation", "test")]
        assert np.ptp(share) < 0.2


def test_folds_depend_on_the_seed_and_not_on_the_order_of_rows() -> None:
    rows = lesions(200, 1)
    assert make_folds(rows, 3, 0.2, 0) == make_folds(rows[::-1], 3, 0.2, 0)
    assert make_folds(rows, 3, 0.2, 0) != make_folds(rows, 3, 0.2, 1)


def test_a_source_left_out_is_in_no_other_part_and_neither_are_its_groups() -> None:
    rows = lesions(300, 2, sources=3)
    folds = make_folds(rows, "source", 0.2, 0)
    assert sorted(folds) == ["s0", "s1", "s2"]
    for source, fold in folds.items():
        held = [row for row in fold if row.split == "test"]
        assert {row.path for row in held} == {row.path for row in rows if row.source == source}
        groups = {row.group for row in held}
        rest = [row for row in fold if row.split != "test"]
        assert {row.source for row in rest} == {"s0", "s1", "s2"} - {source}
        assert not groups & {row.group for row in rest}


def test_the_common_test_split_is_noticed() -> None:
    rows = lesions(100, 3)
    folds = make_folds(rows, 2, 0.2, 0)
    check_untouched(folds, rows)
    with pytest.raises(LeakError, match="common test split"):
        check_untouched(folds, [*rows, replace(rows[0], path="copy.png", split="test")])


def test_too_little_is_told() -> None:
    rows = lesions(12, 4)
    with pytest.raises(PlanError, match="groups"):
        make_folds(rows, 10, 0.2, 0)
    with pytest.raises(PlanError, match="at least two"):
        make_folds([replace(row, source="one") for row in rows], "source", 0.2, 0)
    with pytest.raises(PlanError, match="benign and malignant"):
        make_folds([replace(row, malignant=False, dx="nv") for row in lesions(100, 5)], 2, 0.2, 0)


def test_each_domain_with_enough_of_both_labels_is_left_out_once() -> None:
    rows = []
    for domain, malignant, benign in (("clinic/1", 30, 30), ("clinic/2", 25, 40), ("few", 3, 60)):
        for i in range(malignant + benign):
            name = f"{domain.replace('/', '')}{i}"
            sha256 = hashlib.sha256(name.encode()).hexdigest()
            rows.append(Row(sha256, f"{name}.png", "s", name, "train", "", i < malignant, domain))
    folds = make_folds(rows, "domain", 0.2, 0)
    assert sorted(folds) == ["clinic-1", "clinic-2"]
    for name, fold in folds.items():
        left_out = {row.domain for row in fold if row.split == "test"}
        assert left_out == {name.replace("-", "/")}
        assert {row.domain for row in fold if row.split != "test"} == {"clinic/1", "clinic/2", "few"} - left_out
    with pytest.raises(PlanError, match="leaving a domain out"):
        make_folds([row for row in rows if row.domain == "few"], "domain", 0.2, 0)
