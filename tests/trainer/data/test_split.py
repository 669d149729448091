import hashlib
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.split import (
    DEFAULT_FRACTIONS,
    LeakError,
    SplitError,
    check_leaks,
    fingerprint,
    make_split,
    read_split,
    write_split,
)
from aiderm_trainer.data.table import MALIGNANT_DX, SPLITS, Row


def row(name, *, source="a", group=None, split="", dx="", malignant=False):
    malignant = dx in MALIGNANT_DX if dx else malignant
    return Row(hashlib.sha256(name.encode()).hexdigest(), f"{name}.jpg", source, group or f"g-{name}", split, dx, malignant)


def many(count, **fields):
    return [row(f"{fields}-{i}", **fields) for i in range(count)]


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.sampled_from(["", "nv", "mel", "bcc", "df"]), st.booleans()),
    min_size=1,
    max_size=120,
).map(lambda items: [row(str(i), source=s, group=f"g{g}", dx=dx, malignant=m) for i, (s, g, dx, m) in enumerate(items)])


@given(rows=ROWS, seed=st.integers(0, 2**32), order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_groups_stay_whole_and_the_order_of_rows_does_not_matter(rows, seed, order):
    done = make_split(rows, seed=seed)
    assert [r.path for r in done] == sorted(r.path for r in rows)
    assert [replace(r, split="") for r in done] == sorted(rows, key=lambda r: r.path)
    assert len({(r.group, r.split) for r in done}) == len({r.group for r in rows})
    check_leaks(done)
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert make_split(shuffled, seed=seed) == done
    assert make_split([replace(r, split="") for r in done], seed=seed) == done


@pytest.mark.slow
@given(
    benign=st.integers(200, 900),
    malignant=st.integers(200, 900),
    seed=st.integers(0, 1000),
    cuts=st.tuples(st.floats(0.3, 0.8), st.floats(0.05, 0.3), st.floats(0.05, 0.3), st.floats(0.05, 0.3)),
)
@settings(max_examples=20, deadline=None)
def test_each_stratum_is_cut_by_the_fractions(benign, malignant, seed, cuts):
    fractions = {split: cut / sum(cuts) for split, cut in zip(SPLITS, cuts, strict=True)}
    fractions["test"] = 1 - sum(fractions[split] for split in SPLITS[:3])
    rows = many(benign, source="a") + many(malignant, source="a", malignant=True) + many(benign, source="b", dx="nv")
    counts = Counter((r.source, r.malignant, r.split) for r in make_split(rows, fractions, seed))
    for source, label, size in (("a", False, benign), ("a", True, malignant), ("b", False, benign)):
        for split in SPLITS:
            assert abs(counts[source, label, split] - size * fractions[split]) <= 1


def test_rare_diagnoses_are_pooled_and_still_reach_every_side():
    rows = [row(f"{dx}{i}", dx=dx) for dx in ("mel", "bcc", "akiec", "scc") for i in range(10)]
    counts = Counter(r.split for r in make_split(rows, seed=1))
    assert {split: counts[split] for split in SPLITS} == {"train": 28, "validation": 3, "calibration": 4, "test": 5}


def test_another_seed_is_another_split():
    rows = many(200)
    assert [r.split for r in make_split(rows, seed=1)] != [r.split for r in make_split(rows, seed=2)]


def test_new_images_move_few_of_the_old_groups():
    old = many(1000)
    before = {r.path: r.split for r in make_split(old, seed=3)}
    after = {r.path: r.split for r in make_split(old + [row(f"new{i}") for i in range(50)], seed=3)}
    assert sum(before[path] != after[path] for path in before) < 60


def test_a_given_test_folder_stays_the_test_side_with_everything_in_its_groups():
    rows = [*many(100, split="train"), *many(20, split="test", malignant=True), row("copy", group="g-shared"),
            row("original", group="g-shared", split="test")]  # fmt: skip
    done = {r.path: r for r in make_split(rows, seed=0)}
    assert done["copy.jpg"].split == "test"
    by_given = defaultdict(Counter)
    for given_row in rows:
        by_given[given_row.split][done[given_row.path].split] += 1
    assert by_given["test"] == {"test": 21}
    assert by_given["train"] == {"train": 80, "validation": 9, "calibration": 11}


def test_test_wins_over_validation_inside_a_group():
    rows = [row("a", group="g", split="validation"), row("b", group="g", split="test"), *many(20)]
    assert {r.split for r in make_split(rows) if r.group == "g"} == {"test"}


@pytest.mark.parametrize(
    "fractions",
    [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "holdout": 0.5}, {"train": float("nan"), "test": 0.5}],
)
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(SplitError, match="Received"):
        make_split(many(10), fractions)


def test_no_side_left_open():
    with pytest.raises(SplitError, match="no split is left"):
        make_split([*many(5), row("t", split="test")], {"test": 1.0})


def test_everything_fixed_needs_no_open_side():
    assert {r.split for r in make_split([row("t", split="test")], {"test": 1.0})} == {"test"}


def test_one_file_in_two_groups_is_a_leak_not_a_split():
    rows = many(40)
    copies = [replace(r, path=f"copy-{r.path}", group=f"copy-{r.group}") for r in rows]
    with pytest.raises(LeakError):
        make_split(rows + copies, seed=1)


def test_leaks_are_named():
    a = row("a", group="lesion7", split="train")
    with pytest.raises(LeakError, match=r"lesion7: a\.jpg in train, b\.jpg in test"):
        check_leaks([a, row("b", group="lesion7", split="test")])
    with pytest.raises(LeakError, match=a.sha256):
        check_leaks([a, replace(a, path="c.jpg", group="other", split="calibration")])


@given(rows=ROWS)
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "deep" / "SPLIT.csv"
    done = make_split(rows)
    write_split(path, reversed(done))
    assert read_split(path) == done
    first = fingerprint(path)
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    write_split(path, done)
    assert fingerprint(path) == first
    assert [file.name for file in path.parent.iterdir()] == ["SPLIT.csv"]


def test_names_with_commas_quotes_and_umlauts_survive(tmp_path):
    rows = [replace(row("x", split="train"), path='Zürich, "left"/a b.jpg', source="Klinik, Zürich", group='g"1')]
    write_split(tmp_path / "s.csv", rows)
    assert read_split(tmp_path / "s.csv") == rows


def test_a_refused_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "s.csv"
    write_split(path, [row("a", split="train")])
    before = path.read_bytes()
    for broken in ([row("b")], [row("a", split="train")] * 2):
        with pytest.raises(SplitError):
            write_split(path, broken)
    with pytest.raises(LeakError):
        write_split(path, [row("a", group="g", split="train"), row("b", group="g", split="test")])
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


HEADER = "sha256,path,source,group,split,dx,malignant\n"
LINE = f"{'0' * 64},a.jpg,s,g,train,mel,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns must be sha256,path"),
        ("path,label\na.jpg,1\n", "Received: 'path,label'"),
        (HEADER, "no rows"),
        (HEADER + LINE + LINE, "more than once. First: a.jpg"),
        (HEADER + LINE.replace(",1\n", ",yes\n"), "line 2: malignant must be 0 or 1. Received: 'yes'"),
        (HEADER + LINE.replace(",1\n", ",0\n"), "line 2: malignant contradicts dx"),
        (HEADER + LINE.replace("train", "val"), "line 2: split must be one of .* Received: 'val'"),
        (HEADER + LINE.replace("train", ""), "line 2: split"),
        (HEADER + LINE.replace(",s,", ","), "line 2: a row has 7 cells. Received: 6"),
        (HEADER + LINE.replace("a.jpg", "../a.jpg"), "line 2: path"),
    ],
)
def test_broken_tables_are_refused_by_line(tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SplitError, match=message):
        read_split(path)


def test_reading_checks_leaks_and_existence(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(HEADER + LINE + LINE.replace("a.jpg", "b.jpg").replace("train", "test"), encoding="utf-8")
    with pytest.raises(LeakError):
        read_split(path)
    with pytest.raises(SplitError, match="cannot read"):
        read_split(tmp_path / "missing.csv")


def test_default_fractions():
    assert dict(DEFAULT_FRACTIONS) == {"train": 0.70, "validation": 0.08, "calibration": 0.10, "test": 0.12}
