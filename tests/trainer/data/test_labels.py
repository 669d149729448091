import numpy as np
import pytest

from aiderm_trainer.data.labels import BINARY, LabelError, choose_labels, class_index, possible_classes
from aiderm_trainer.data.table import MALIGNANT_DX, Row


def rows(*dx: str, malignant: bool = False) -> list[Row]:
    return [
        Row(f"{i:064x}", f"{i}.png", "s", f"g{i}", "train", d, d in MALIGNANT_DX if d else malignant) for i, d in enumerate(dx)
    ]


SEVEN = ["mel", "bcc", "akiec", "nv", "bkl", "vasc", "df"]


def test_classes_with_enough_rows_become_labels_in_order_of_danger() -> None:
    labels = choose_labels(rows(*(SEVEN * 20)))
    assert [label.id for label in labels] == SEVEN
    assert [label.malignant for label in labels] == [True, True, True, False, False, False, False]


def test_squamous_cell_carcinoma_counts_as_akiec() -> None:
    found = rows(*(SEVEN * 20), "scc")
    labels = choose_labels(found)
    assert class_index(found, labels)[-1] == 2


def test_without_diagnoses_the_task_is_binary() -> None:
    both = rows("", "") + rows("", malignant=True)
    assert choose_labels(both) == BINARY
    assert class_index(both, BINARY).tolist() == [0, 0, 1]


def test_a_row_without_a_diagnosis_may_be_any_class_of_its_side() -> None:
    labels = choose_labels(rows(*(SEVEN * 20)))
    mask = possible_classes(rows("bcc", "", "") + rows("", malignant=True), labels)
    assert mask[0].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert mask[1].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert mask[3].tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_a_rare_class_teaches_its_side() -> None:
    found = rows(*(["mel", "nv", "bkl"] * 20), "df")
    labels = choose_labels(found)
    assert "df" not in [label.id for label in labels]
    assert possible_classes(found, labels)[-1].tolist() == [0, 1, 1]
    assert class_index(found, labels)[-1] == -1


def test_one_sided_rows_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(LabelError, match="benign and malignant"):
        choose_labels(rows("", ""))
    with pytest.raises(LabelError, match="auto, binary or classes"):
        choose_labels(rows("mel", "nv"), "many")


def test_binary_can_be_forced() -> None:
    labels = choose_labels(rows(*(SEVEN * 20)), "binary")
    assert labels == BINARY
    assert np.allclose(possible_classes(rows("mel", "nv"), labels), [[0, 1], [1, 0]])
