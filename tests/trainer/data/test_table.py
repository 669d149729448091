import hashlib
from dataclasses import FrozenInstanceError, replace

import pytest

from aiderm_trainer.data.class_names import ClassName, parse_class
from aiderm_trainer.data.table import DIAGNOSES, MALIGNANT_DX, Row, as_split

ROW = Row(hashlib.sha256(b"a").hexdigest(), "images/a.jpg", "clinic", "g1", "train", "mel", True)


def test_a_row_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        ROW.split = "test"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "A" * 64}, "64 lowercase hexadecimal"),
        ({"sha256": "ab"}, "Received: 'ab'"),
        ({"path": ""}, "relative"),
        ({"path": "/etc/passwd"}, "Received: '/etc/passwd'"),
        ({"path": "a/../../b.jpg"}, "inside the data folder"),
        ({"path": "a\\b.jpg"}, "forward slashes"),
        ({"source": ""}, "source"),
        ({"group": ""}, "group"),
        ({"split": "holdout"}, "train, validation, calibration, test. Received: 'holdout'"),
        ({"dx": "Atopic eczema"}, "Received: 'Atopic eczema'"),
        ({"malignant": False}, "contradicts"),
        ({"dx": "nv"}, "contradicts"),
    ],
)
def test_malformed_rows_are_refused_with_what_was_received(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ROW, **changes)


def test_classes_of_ones_own_stand_on_either_side():
    assert replace(ROW, dx="psoriasis").malignant
    assert not replace(ROW, dx="psoriasis", malignant=False).malignant


@pytest.mark.parametrize("dx", DIAGNOSES)
def test_every_diagnosis_is_benign_or_malignant(dx):
    assert replace(ROW, dx=dx, malignant=dx in MALIGNANT_DX).dx == dx
    assert sorted(MALIGNANT_DX) == ["akiec", "bcc", "mel", "scc"]


def test_split_names():
    assert as_split("calibration") == "calibration"
    with pytest.raises(ValueError, match="Received: 'val'"):
        as_split("val")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("benign", ClassName("", False)),
        ("Malignant", ClassName("", True)),
        ("0", ClassName("", False)),
        ("1.0", ClassName("", True)),
        ("NV", ClassName("nv", False)),
        ("Melanocytic_nevi", ClassName("nv", False)),
        ("melanoma", ClassName("mel", True)),
        ("basal cell carcinoma", ClassName("bcc", True)),
        ("Basal-Cell Carcinoma", ClassName("bcc", True)),
        ("Actinic Keratosis", ClassName("akiec", True)),
        ("Bowen's disease", ClassName("akiec", True)),
        ("pigmented benign keratosis", ClassName("bkl", False)),
        ("vascular lesion", ClassName("vasc", False)),
        ("SCC", ClassName("scc", True)),
    ],
)
def test_class_names_in_use(name, expected):
    assert parse_class(name) == expected


@pytest.mark.parametrize("name", ["", "unknown", "melanomas?", "2", "cat"])
def test_other_names_are_no_class(name):
    assert parse_class(name) is None
