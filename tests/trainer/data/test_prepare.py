import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import pytest
from rich.console import Console

from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.sources.index import Columns, IndexingError
from aiderm_trainer.data.split import SplitError, fingerprint, read_split
from aiderm_trainer.data.synthetic import dataset, lesion

pytestmark = pytest.mark.slow

SHARED = Path(os.environ.get("AIDERM_SHARED", Path(__file__).parents[3].parent / "shared")) / "data"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def tree(tmp_path):
    return dataset(tmp_path / "set", count=60, size=112)


def test_a_tree_becomes_a_split_file(tree, tmp_path):
    report = prepare(tree, tmp_path / "out" / "SPLIT.csv", seed=7, progress=False)
    rows = read_split(tmp_path / "out" / "SPLIT.csv")
    assert rows == report.rows
    assert len(rows) == 60
    assert report.fingerprint == fingerprint(report.out)
    assert {r.path.split("/")[0] for r in rows if r.split == "test"} == {"test"}
    assert Counter(r.split for r in rows)["test"] == 12
    assert {r.split for r in rows} == {"train", "validation", "calibration", "test"}
    assert all((report.data / r.path).is_file() for r in rows)
    assert sum(report.counts().values()) == 60
    assert report.counts()["set", True, "test"] == 6


def test_the_same_data_and_seed_give_the_same_file(tree, tmp_path):
    first = prepare(tree, tmp_path / "a.csv", seed=7, progress=False)
    moved = shutil.move(tree, tmp_path / "elsewhere" / "set")
    assert prepare(Path(moved), tmp_path / "b.csv", seed=7, progress=False).fingerprint == first.fingerprint
    assert prepare(Path(moved), tmp_path / "b.csv", seed=8, progress=False).fingerprint != first.fingerprint


def test_duplicates_and_unreadable_files_are_reported(tree, tmp_path):
    shutil.copy(tree / "test/benign/benign_00000.png", tree / "train/benign/copy_of_test.png")
    shutil.copy(tree / "train/benign/benign_00010.png", tree / "train/malignant/other_label.png")
    (tree / "train/benign/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    near = cv2.imread(str(tree / "test/malignant/malignant_00001.png"))
    assert cv2.imwrite(str(tree / "train/malignant/again.jpg"), near, [cv2.IMWRITE_JPEG_QUALITY, 70])
    report = prepare(tree, tmp_path / "s.csv", progress=False)
    paths = {r.path: r for r in report.rows}
    assert report.repeated == ["train/benign/copy_of_test.png"]
    assert report.contradictory == ["train/benign/benign_00010.png", "train/malignant/other_label.png"]
    assert [item.path for item in report.unreadable] == ["train/benign/broken.png"]
    assert report.near_duplicates == [("test/malignant/malignant_00001.png", "train/malignant/again.jpg")]
    assert report.joined_groups == 1
    assert paths["train/malignant/again.jpg"].split == "test"
    assert not paths.keys() & {*report.repeated, *report.contradictory, "train/benign/broken.png"}
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(report)
        text = console.export_text()
    for part in ("60 images", "train/benign/broken.png: ", "copy_of_test.png", "other_label.png", report.fingerprint):
        assert part in text


def test_near_duplicates_can_be_left_alone(tree, tmp_path):
    near = cv2.imread(str(tree / "train/malignant/malignant_00010.png"))
    assert cv2.imwrite(str(tree / "train/malignant/again.jpg"), near)
    report = prepare(tree, tmp_path / "s.csv", near_duplicates=False, progress=False)
    assert (report.near_duplicates, report.joined_groups) == ([], 0)
    assert len({r.group for r in report.rows}) == 61


def test_a_left_out_copy_still_ties_its_group(tmp_path):
    for number in range(30):
        save(tmp_path / f"{number}.png", lesion(number, malignant=False, size=104))
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    lines = ["path,label,group", *(f"{n}.png,{'nv' if n % 2 else 'mel'},lesion{n}" for n in range(30)), "copy.png,mel,lesion9"]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    report = prepare(tmp_path / "t.csv", tmp_path / "s.csv", progress=False)
    groups = {r.path: r.group for r in report.rows}
    assert groups["0.png"] == groups["9.png"] == "lesion0"
    assert report.mixed_groups == ["lesion0"]
    assert report.joined_groups == 1


def test_columns_and_fractions_are_passed_on(tmp_path):
    for number in range(12):
        save(tmp_path / f"{number}.png", lesion(number, malignant=False, size=104))
    lines = ["bild,befund,boese,fall,haus", *(f"{n}.png,,{n % 2},f{n},h{n % 3}" for n in range(12))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    report = prepare(
        tmp_path / "t.csv",
        tmp_path / "s.csv",
        Columns(path="bild", label="befund", malignant="boese", group="fall", source="haus"),
        fractions={"train": 0.5, "test": 0.5},
        progress=False,
    )
    assert Counter(r.split for r in report.rows) == {"train": 6, "test": 6}
    assert {r.source for r in report.rows} == {"h0", "h1", "h2"}


def test_nothing_usable_or_impossible(tmp_path):
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "a.png").write_bytes(b"")
    with pytest.raises(IndexingError, match="no image is left; 1 are unreadable"):
        prepare(tmp_path, tmp_path / "s.csv", progress=False)
    save(tmp_path / "benign" / "b.png", lesion(0, malignant=False, size=104))
    with pytest.raises(SplitError):
        prepare(tmp_path, tmp_path / "s.csv", fractions={"train": 0.4}, progress=False)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.ci
@pytest.mark.skipif(not (SHARED / "isic-1800-1497").is_dir(), reason="needs AIDERM_SHARED/data/isic-1800-1497")
def test_the_isic_1800_1497_folder_as_it_stands(tmp_path):
    report = prepare(SHARED / "isic-1800-1497", tmp_path / "s.csv", seed=20261124, progress=False)
    assert report.unreadable == []
    assert len(report.rows) + len(report.repeated) == 2435
    shares = Counter(r.split for r in report.rows)
    for split, share in {"train": 0.70, "validation": 0.08, "calibration": 0.10, "test": 0.12}.items():
        assert shares[split] / len(report.rows) == pytest.approx(share, abs=0.01)


@pytest.mark.skipif(not (SHARED / "lesions.csv").is_file(), reason="needs AIDERM_SHARED/data/lesions.csv")
def test_the_committed_split_fits_the_table():
    rows = read_split(Path(__file__).parents[3] / "services/trainer/splits/lesions.csv")
    listed = {line.split(",", 1)[0] for line in (SHARED / "lesions.csv").read_text("utf-8").splitlines()[1:]}
    assert {r.path for r in rows} <= listed
    assert len(listed) - len(rows) == 3  # repeated files
