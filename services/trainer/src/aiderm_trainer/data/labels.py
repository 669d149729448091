"""Chooses the classes that a model distinguishes, and assigns rows to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.table import DIAGNOSES, Row

CLASS_MAP = {"scc": "akiec"}
# The seven classes of HAM10000 (Tschandl, Rosendahl, Kittler 2018), most dangerous first; akiec includes scc.
NAMES = {dx: DIAGNOSES[dx] for dx in ("mel", "bcc", "akiec", "nv", "bkl", "vasc", "df")} | {
    "akiec": "Actinic keratosis or squamous cell carcinoma"
}
BINARY = (
    Label(id="benign", name="Other than malignant", malignant=False),
    Label(id="malignant", name="Malignant", malignant=True),
)
MIN_ROWS = 20  # a class with fewer training rows cannot be learnt; its rows count only as benign or malignant


class LabelError(ValueError):
    """Raised when the labels of the rows do not fit the task."""


def choose_labels(rows: Sequence[Row], task: str = "auto") -> tuple[Label, ...]:
    """Chooses the classes for a set of training rows.

    Args:
        rows: training rows.
        task: ``binary`` (benign, malignant), ``classes`` (every dx with enough rows), or ``auto``: ``classes`` if both
            sides have one and at least one side has two, else ``binary``.

    Raises:
        LabelError: an unknown task, or one side of the labels is missing.
    """
    if task not in ("auto", "binary", "classes"):
        raise LabelError(f"task must be auto, binary or classes. Received: {task!r}")
    counts: dict[str, int] = {}
    side: dict[str, set[bool]] = {}
    for row in rows:
        if row.dx:
            dx = CLASS_MAP.get(row.dx, row.dx)
            counts[dx] = counts.get(dx, 0) + 1
            side.setdefault(dx, set()).add(bool(row.malignant))
    mixed = sorted(dx for dx, sides in side.items() if len(sides) > 1)
    if mixed:
        raise LabelError(f"each class must be wholly benign or wholly malignant. Both occur in: {', '.join(mixed)}")
    kept = [dx for dx in [*NAMES, *sorted(set(counts) - set(NAMES))] if counts.get(dx, 0) >= MIN_ROWS]
    labels = tuple(Label(id=dx, name=NAMES.get(dx, dx.replace("_", " ").capitalize()), malignant=True in side[dx]) for dx in kept)
    both = {label.malignant for label in labels} == {True, False}
    if task == "classes" and not both:
        raise LabelError(f"classes need a benign and a malignant dx with {MIN_ROWS} training rows. Received: {counts}")
    if task == "binary" or not both or (task == "auto" and len(labels) < 3):
        if {bool(row.malignant) for row in rows} != {True, False}:
            raise LabelError(f"training needs benign and malignant rows. Received {len(rows)} rows of one kind")
        return BINARY
    return labels


def class_index(rows: Sequence[Row], labels: Sequence[Label]) -> NDArray[np.int64]:
    """The class of each row, -1 where only benign or malignant is known: int64 ``[N]``."""
    ids = {label.id: i for i, label in enumerate(labels)}
    if tuple(labels) == BINARY:
        return np.array([int(row.malignant) for row in rows], np.int64)
    return np.array([ids.get(CLASS_MAP.get(row.dx, row.dx), -1) if row.dx else -1 for row in rows], np.int64)


def possible_classes(rows: Sequence[Row], labels: Sequence[Label]) -> NDArray[np.float32]:
    """1 where a row may belong to a class: its own class, or every benign (malignant) class if only that is known.

    Returns:
        float32 ``[N, C]``; each row's likelihood is the summed probability of the classes marked 1.
    """
    known = class_index(rows, labels)
    malignant = np.array([label.malignant for label in labels])
    sides = np.array([bool(row.malignant) for row in rows])
    mask = (malignant[None, :] == sides[:, None]).astype(np.float32)
    exact = np.eye(len(labels), dtype=np.float32)[np.maximum(known, 0)]
    return np.where((known >= 0)[:, None], exact, mask)
