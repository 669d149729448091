"""A camera cue that gives the label away is learned by a plain head and ignored by a camera-blind one."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.balance import balanced_weights, domain_offsets
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.blind_head import find_cells, refit_head
from aiderm_trainer.training.head import HeadData

LABELS = [Label(id="benign", name="b", malignant=False), Label(id="malignant", name="m", malignant=True)]


def planted(count: int, seed: int) -> tuple[list[Row], np.ndarray]:
    """Lesions of two cameras; "a" has almost only naevi without a biopsy. Feature 0 is the lesion, 1 the camera."""
    rng = np.random.default_rng(seed)
    rows, features = [], []
    for i in range(count):
        camera = "ab"[i % 2]
        sick = rng.random() < (0.02 if camera == "a" else 0.6)
        biopsied = sick or (camera == "b" and rng.random() < 0.6)
        rows.append(
            Row(
                f"{seed * 10**6 + i:064x}",
                f"{i}.png",
                "s",
                f"g{i}",
                "train",
                "mel" if sick else "nv",
                bool(sick),
                camera,
                bool(biopsied),
            )
        )
        features.append([sick + rng.normal(0, 1), 2.0 * (camera == "b") + rng.normal(0, 0.3), rng.normal()])
    return rows, np.array(features, np.float32)


def score(blind: bool) -> tuple[float, float]:
    """AUC for the camera of naevi without a biopsy, and AUC for malignant lesions within camera "b"."""
    rows, features = planted(2000, 1)
    malignant = np.array([row.malignant for row in rows])
    domains, classes = [row.domain for row in rows], [row.dx for row in rows]
    weights = balanced_weights(domains, malignant, classes) if blind else np.full(len(rows), 1 / len(rows))
    offsets = domain_offsets(domains, malignant, weights) if blind else np.zeros(len(rows), np.float32)
    possible = np.eye(2, dtype=np.float32)[malignant.astype(int)]
    keras.utils.set_random_seed(0)
    entry = keras.Input((3,))
    head = keras.Model(entry, keras.layers.Dense(1)(keras.layers.Dense(8, activation="relu")(entry)))
    refit_head(
        head, LABELS, rows, np.arange(len(rows)), HeadData(features, possible, offsets, weights.astype(np.float32)),
        strength=1.0 if blind else 0.0, epochs=15, learning_rate=1e-2,
    )  # fmt: skip
    test, unseen = planted(2000, 2)
    out = head.predict(unseen, verbose=0)[:, 0]
    camera = np.array([row.domain == "b" for row in test])
    ordinary = np.array([row.dx == "nv" and not row.biopsied for row in test])
    sick = np.array([row.malignant for row in test])
    return roc_auc_score(camera[ordinary], out[ordinary]), roc_auc_score(sick[camera], out[camera])


@pytest.mark.ci
def test_a_plain_head_learns_the_camera_and_a_blind_one_ignores_it() -> None:
    plain, _ = score(blind=False)
    blind, inside = score(blind=True)
    assert plain > 0.9
    assert abs(blind - 0.5) < 0.15
    assert inside > 0.7


def test_cells_are_those_of_one_diagnosis_in_several_domains() -> None:
    rows, _ = planted(2000, 3)
    cells = find_cells(rows)
    assert len(cells.alike) == 1
    (pair,) = cells.alike
    for number in pair:
        members = [row for row, cell in zip(rows, cells.of_row, strict=True) if cell == number]
        assert {(row.dx, row.biopsied) for row in members} == {("nv", False)}
        assert len({row.domain for row in members}) == 1
    assert find_cells(rows[:50]).alike == ()
