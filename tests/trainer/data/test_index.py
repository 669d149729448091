import hashlib
import os

import cv2
import numpy as np
import pytest

from aiderm_trainer.data.sources.index import Columns, IndexingError, index, index_table, index_tree
from aiderm_trainer.data.synthetic import dataset, lesion


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), lesion(seed, malignant=False, size=128))
    return path


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_split_class_tree(tmp_path):
    root = dataset(tmp_path / "isic", count=10, size=104)
    found = index_tree(root, progress=False)
    assert found.root == root.resolve()
    assert found.unreadable == []
    assert [r.path for r in found.rows] == sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    assert {(r.path.split("/")[0], r.split) for r in found.rows} == {("train", ""), ("test", "test")}
    assert all(r.malignant == ("malignant" in r.path) and not r.dx and r.source == "isic" for r in found.rows)
    assert all(r.sha256 == hashlib.sha256((root / r.path).read_bytes()).hexdigest() for r in found.rows)
    assert len({r.group for r in found.rows}) == 10
    assert found.thumbnails.shape == (10, 64, 64)


def test_class_folders_without_splits_and_with_diagnoses(tmp_path):
    picture(tmp_path / "NV" / "deep" / "a.JPG", 1)
    picture(tmp_path / "basal cell carcinoma" / "b.png", 2)
    write(tmp_path / "NV" / "notes.txt", "no image")
    picture(tmp_path / "NV" / ".hidden.png", 3)
    (tmp_path / ".cache").mkdir()
    found = index_tree(tmp_path, source="clinic", progress=False)
    assert [(r.path, r.dx, r.malignant, r.source, r.split) for r in found.rows] == [
        ("NV/deep/a.JPG", "nv", False, "clinic", ""),
        ("basal cell carcinoma/b.png", "bcc", True, "clinic", ""),
    ]


@pytest.mark.parametrize(("name", "split"), [("Train", ""), ("valid", "validation"), ("Testing", "test")])
def test_names_of_split_folders(tmp_path, name, split):
    picture(tmp_path / name / "melanoma" / "a.png")
    assert [r.split for r in index_tree(tmp_path, progress=False).rows] == [split]


def test_renaming_a_file_does_not_change_its_group(tmp_path):
    path = picture(tmp_path / "benign" / "a.png")
    before = index_tree(tmp_path, progress=False).rows[0].group
    path.rename(path.with_name("z.png"))
    assert index_tree(tmp_path, progress=False).rows[0].group == before


def test_unknown_folders_are_named_with_what_is_allowed(tmp_path):
    picture(tmp_path / "train" / "cats" / "a.png")
    with pytest.raises(IndexingError, match=r"unknown class folder train/cats; allowed: benign, malignant, nv"):
        index_tree(tmp_path, progress=False)
    picture(tmp_path / "extra" / "benign" / "a.png")
    with pytest.raises(IndexingError, match="beside split folders stand others: extra"):
        index_tree(tmp_path, progress=False)


def test_nothing_to_index(tmp_path):
    with pytest.raises(IndexingError, match="holds no images"):
        index_tree(tmp_path, progress=False)
    with pytest.raises(IndexingError, match="does not exist"):
        index(tmp_path / "nothing", progress=False)
    with pytest.raises(IndexingError, match=r"table only.*Received: label"):
        index(tmp_path, Columns(label="dx"), progress=False)


def test_unreadable_files_are_reported_and_left_out(tmp_path):
    whole = picture(tmp_path / "benign" / "whole.jpg").read_bytes()
    (tmp_path / "benign" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "benign" / "empty.jpg").write_bytes(b"")
    write(tmp_path / "benign" / "page.jpg", "<html>")
    found = index_tree(tmp_path, progress=False)
    assert [r.path for r in found.rows] == ["benign/whole.jpg"]
    assert [(item.path, item.reason.split(":")[0]) for item in found.unreadable] == [
        ("benign/cut.jpg", "truncated"),
        ("benign/empty.jpg", "empty_file"),
        ("benign/page.jpg", "unsupported_type"),
    ]
    assert len(found.thumbnails) == 1


def test_a_table_with_usual_columns(tmp_path):
    for number, name in enumerate("abc"):
        picture(tmp_path / "images" / f"{name}.png", number)
    table = write(
        tmp_path / "lesions.csv",
        "path,source,dx,malignant,group,age\n"
        "images/a.png,one,nv,0,g1,40\nimages/b.png,two,,1,g1,\nimages/missing.png,two,mel,1,g2,\nimages/c.png,,scc,1,,50\n",
    )
    found = index(table, progress=False)
    assert [(r.path, r.source, r.dx, r.malignant, r.group.split("-")[0]) for r in found.rows] == [
        ("images/a.png", "one", "nv", False, "g1"),
        ("images/b.png", "two", "", True, "g1"),
        ("images/c.png", "lesions", "scc", True, "image"),
    ]
    assert [item.path for item in found.unreadable] == ["images/missing.png"]


def test_a_ham10000_table_names_images_without_folder_or_suffix(tmp_path):
    picture(tmp_path / "part_1" / "ISIC_1.jpg", 1)
    picture(tmp_path / "part_2" / "ISIC_2.jpg", 2)
    table = write(tmp_path / "HAM.csv", "﻿lesion_id,image_id,dx\nHAM_1,ISIC_1,akiec\nHAM_1,ISIC_2,akiec\n")
    assert [(r.path, r.group) for r in index_table(table, progress=False).rows] == [
        ("part_1/ISIC_1.jpg", "HAM_1"),
        ("part_2/ISIC_2.jpg", "HAM_1"),
    ]
    picture(tmp_path / "copy" / "ISIC_2.jpg")
    with pytest.raises(IndexingError, match=r"must have that name. Received: ISIC_2; found: copy"):
        index_table(table, progress=False)


def test_columns_named_by_options(tmp_path):
    picture(tmp_path / "a.png")
    table = write(tmp_path / "t.csv", "bild,befund,fall,haus,dx\na.png,Melanoma,f1,Basel,nonsense\n")
    row = index_table(table, Columns(path="bild", label="befund", group="fall", source="haus"), progress=False).rows[0]
    assert (row.path, row.dx, row.malignant, row.group, row.source) == ("a.png", "mel", True, "f1", "Basel")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path,dx\na.png,nv\n", {"label": "class"}, "no column 'class'. Received columns: path, dx"),
        ("picture,dx\na.png,nv\n", {}, "no column of paths; allowed by default: path, file"),
        ("path,age\na.png,4\n", {}, "no column of labels; allowed by default: dx"),
        ("path,dx\na.png,unicorn\nb.png,unicorn\n", {}, r"unknown classes; allowed: benign.* Received: 'unicorn' \(2 rows\)"),
        ("path,dx,malignant\na.png,,\n", {}, "line 2: the image has no label"),
        ("path,dx,malignant\na.png,nv,1\n", {}, "line 2: the columns contradict one another. Received: nv and 1"),
        ("path,dx\n../a.png,nv\n", {}, "must lie inside"),
        ("path,dx\n/etc/a.png,nv\n", {}, "must lie inside"),
        ("path,dx\n,nv\n", {}, "the path is empty"),
        ("path,dx\na.png,nv\n./a.png,nv\n", {}, "more than once. First: a.png"),
        ("path,dx\n", {}, "no rows"),
        ("", {}, "no column of paths"),
    ],
)
def test_broken_tables_are_explained(tmp_path, text, options, message):
    picture(tmp_path / "a.png")
    with pytest.raises(IndexingError, match=message):
        index_table(write(tmp_path / "t.csv", text), Columns(**options), progress=False)


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(IndexingError, match="cannot read"):
        index_table(tmp_path / "t.csv", progress=False)


def test_beside_a_column_of_sides_a_class_may_have_any_name(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    table = write(tmp_path / "t.csv", "path,diagnosis,positive\na.png,Plaque psoriasis,1\nb.png,healthy,no\n")
    assert [(row.dx, row.malignant) for row in index(table, progress=False).rows] == [
        ("plaque_psoriasis", True),
        ("healthy", False),
    ]


def test_kaggles_ham10000_holds_each_image_twice(tmp_path):
    for part in ("HAM10000_images_part_1", "ham10000_images_part_1"):
        picture(tmp_path / part / "ISIC_1.jpg", 1)
    table = write(tmp_path / "HAM10000_metadata.csv", "lesion_id,image_id,dx\nHAM_1,ISIC_1,nv\n")
    assert [row.path for row in index_table(table, progress=False).rows] == ["HAM10000_images_part_1/ISIC_1.jpg"]


def test_isic_2019_has_a_column_for_each_diagnosis(tmp_path):
    for number in range(3):
        picture(tmp_path / "images" / f"ISIC_{number}.jpg", number)
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    rows = "ISIC_0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\nISIC_1,0,0,0,1,0,0,0,0,0\nISIC_2,0,0,0,0,0,0,0,0,1.0\n"
    found = index_table(write(tmp_path / "truth.csv", f"{header}\n{rows}"), progress=False)
    assert [(row.path, row.dx) for row in found.rows] == [("images/ISIC_0.jpg", "mel"), ("images/ISIC_1.jpg", "akiec")]
    assert found.undiagnosed == ["ISIC_2"]
    with pytest.raises(IndexingError, match=r"line 2: exactly one diagnosis must be 1. Received: MEL, NV"):
        index_table(write(tmp_path / "truth.csv", f"{header}\nISIC_0,1,1,0,0,0,0,0,0,0\n"), progress=False)
    with pytest.raises(IndexingError, match=r"line 2: the columns of diagnoses hold 0 or 1. Received: .*yes"):
        index_table(write(tmp_path / "truth.csv", f"{header}\nISIC_0,yes,0,0,0,0,0,0,0,0\n"), progress=False)


def indexed_with_four(table, text):
    """Indexes a table beside ISIC_0.jpg to ISIC_3.jpg."""
    for number in range(4):
        picture(table.parent / f"ISIC_{number}.jpg", number)
    return index_table(write(table, text), progress=False)


def test_isic_2020_knows_a_side_where_the_diagnosis_is_unknown(tmp_path):
    found = indexed_with_four(
        tmp_path / "train.csv",
        "image_name,patient_id,sex,diagnosis,benign_malignant,target\n"
        "ISIC_0,IP_1,male,unknown,benign,0\nISIC_1,IP_1,male,atypical melanocytic proliferation,benign,0\n"
        "ISIC_2,IP_2,female,lentigo NOS,benign,0\nISIC_3,IP_2,female,cafe-au-lait macule,benign,0\n",
    )
    assert [(row.dx, row.malignant, row.group) for row in found.rows] == [
        ("", False, "IP_1"),
        ("", False, "IP_1"),
        ("bkl", False, "IP_2"),
        ("cafe_au_lait_macule", False, "IP_2"),
    ]


def test_the_archives_levels_of_diagnosis(tmp_path):
    found = indexed_with_four(
        tmp_path / "metadata.csv",
        "isic_id,diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4,diagnosis_5\n"
        "ISIC_0,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma Invasive,,\n"
        "ISIC_1,Benign,Benign epidermal proliferations,Seborrheic keratosis,,\n"
        "ISIC_2,Indeterminate,Indeterminate melanocytic proliferations,,,\nISIC_3,Benign,Some rare thing,,,\n",
    )
    assert [(row.path, row.dx, row.malignant) for row in found.rows] == [
        ("ISIC_0.jpg", "mel", True),
        ("ISIC_1.jpg", "bkl", False),
        ("ISIC_3.jpg", "", False),
    ]
    assert found.undiagnosed == ["ISIC_2"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_tables_as_spreadsheets_write_them(tmp_path, separator, encoding):
    picture(tmp_path / "a.png")
    lines = [(" path ", "dx", " source"), ("a.png", "mel", "Zürich, Süd")]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in line] for line in lines]
    (tmp_path / "t.csv").write_bytes("\r\n".join(separator.join(line) for line in quoted).encode(encoding))
    [row] = index_table(tmp_path / "t.csv", progress=False).rows
    assert (row.path, row.dx, row.source) == ("a.png", "mel", "Zürich, Süd")


def test_what_systems_leave_behind_is_skipped(tmp_path):
    picture(tmp_path / "benign" / "a.png", 1)
    for leftover in ("benign/@eaDir/a.png", "benign/._a.png", "__MACOSX/benign/a.png", "@eaDir/benign/a.png"):
        picture(tmp_path / leftover, 2)
    write(tmp_path / "benign" / ".DS_Store", "x")
    write(tmp_path / "benign" / "Thumbs.db", "x")
    assert [row.path for row in index_tree(tmp_path, progress=False).rows] == ["benign/a.png"]
    table = write(tmp_path / "t.csv", "image_id,dx\na,nv\n")
    assert [row.path for row in index_table(table, progress=False).rows] == ["benign/a.png"]


def test_one_folder_around_everything_is_passed_through(tmp_path):
    for number, name in enumerate(("train/benign", "train/malignant", "test/benign")):
        picture(tmp_path / "archive" / "melanoma data" / name / "a.png", number)
    assert [(row.path, row.split) for row in index_tree(tmp_path, progress=False).rows] == [
        ("archive/melanoma data/test/benign/a.png", "test"),
        ("archive/melanoma data/train/benign/a.png", ""),
        ("archive/melanoma data/train/malignant/a.png", ""),
    ]


def test_a_name_that_is_not_utf_8_is_reported(tmp_path):
    picture(tmp_path / "benign" / "a.png", 1)
    strange = os.fsencode(tmp_path / "benign") + b"/L\xe4sion.png"
    picture(tmp_path / "benign" / "b.png", 2).rename(os.fsdecode(strange))
    found = index_tree(tmp_path, progress=False)
    assert [row.path for row in found.rows] == ["benign/a.png"]
    assert [(item.path, item.reason) for item in found.unreadable] == [
        ("benign/L\N{REPLACEMENT CHARACTER}sion.png", "the name is not UTF-8; rename the file")
    ]
