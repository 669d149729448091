"""Fine-tuning: its losses, its pairs of views, and that resuming after a stop gives the same result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.batches import Blinding, Images, TrainingBatches
from aiderm_trainer.data.labels import possible_classes
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.synthetic import dataset
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.fine_tune import TURNS, fine_tune
from aiderm_trainer.training.loop import Loss, TrainingLoop
from aiderm_trainer.training.objective import inconsistency, misfit

LABELS = [Label(id="benign", name="b", malignant=False), Label(id="malignant", name="m", malignant=True)]
MALIGNANT = np.array([0.0, 1.0], np.float32)
CONFIG = TrainConfig(
    arch="custom_cnn", weights="none", size=32, batch=8, epochs=1, checkpoint_steps=1, start="start", consistency=1.0,
    learning_rate=1e-3, average=0.9,
)  # fmt: skip


def test_inconsistency_is_what_parts_the_views_of_one_image() -> None:
    alike = np.array([[2.0], [2.0], [-1.0], [-1.0]], np.float32)
    apart = np.array([[2.0], [-1.0], [2.0], [-1.0]], np.float32)
    assert float(inconsistency(alike, MALIGNANT)) == 0.0
    assert float(inconsistency(apart, MALIGNANT)) == pytest.approx(2.5)  # linear beyond 1


def test_misfit_is_zero_on_the_teacher_and_without_one() -> None:
    taught = np.array([[0.2, 0.8], [0.0, 0.0]], np.float32)
    logits = np.array([[np.log(4.0)], [9.0]], np.float32)
    assert np.allclose(misfit(logits, taught, MALIGNANT), 0.0, atol=1e-5)
    assert np.allclose(misfit(logits + 0.5, taught, MALIGNANT), [0.125, 0.0], atol=1e-5)


def test_the_domain_offset_explains_the_label() -> None:
    loss, logits = Loss(LABELS), np.zeros((2, 1), np.float32)
    targets = np.array([[0, 1, 0, 0, 3.0]] * 2, np.float32)  # malignant, without a teacher, and the domain already implies it
    assert float(loss(targets, logits)) == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-5)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path]:
    """A few synthetic lesions of two cameras."""
    folder = tmp_path_factory.mktemp("tuned")
    dataset(folder / "data", 60, seed=4, size=112)
    prepare(folder / "data", folder / "split.csv", near_duplicates=False, progress=False)
    return [replace(row, domain="ab"[i % 2]) for i, row in enumerate(read_split(folder / "split.csv"))], folder / "data"


def test_a_pair_is_one_image_with_one_target(lesions: tuple[list[Row], Path]) -> None:
    rows, root = lesions
    train = [row for row in rows if row.split == "train"]
    possible = possible_classes(train, LABELS)
    batches = TrainingBatches(Images(train, root, 32), possible, 4, 0, blinding=Blinding("domain", 1.0))
    batch = batches.make_pairs(np.array([0, 1, 2, 3]), 0, 0)
    assert batch.images.shape == (8, 32, 32, 3)
    assert (batch.possible[::2] == possible[:4]).all()
    assert (batch.possible[::2] == batch.possible[1::2]).all()
    assert (batch.offset[::2] == batch.offset[1::2]).all()
    assert not (batch.images[::2] == batch.images[1::2]).all()
    assert (batches.make_pairs(np.array([0, 1, 2, 3]), 0, 0).images == batch.images).all()


@pytest.mark.ci
def test_a_stopped_fine_tuning_ends_like_an_unbroken_one(
    lesions: tuple[list[Row], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, root = lesions
    network = build(CONFIG, 2)
    (tmp_path / "start").mkdir()
    checkpoint.save(tmp_path / "start" / "best.npz", network.model.variables, {})
    fine_tune(CONFIG, rows, root, tmp_path / "whole", base=tmp_path)

    ended = TrainingLoop.end_round

    def stop(self: TrainingLoop, loss: float) -> dict[str, Any]:
        found = ended(self, loss)
        if self.round == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(TrainingLoop, "end_round", stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(CONFIG, rows, root, tmp_path / "broken", base=tmp_path)
    monkeypatch.undo()
    fine_tune(CONFIG, rows, root, tmp_path / "broken", base=tmp_path)
    with np.load(tmp_path / "whole/checkpoint.npz") as whole, np.load(tmp_path / "broken/checkpoint.npz") as broken:
        names = [name for name in whole.files if name != "progress"]
        assert all(np.allclose(whole[name], broken[name], atol=1e-6) for name in names)
    start = np.load(tmp_path / "start/best.npz")
    moved = [not np.array_equal(start[f"v{i:05d}"], np.load(tmp_path / "whole/checkpoint.npz")[f"v{i:05d}"]) for i in range(2)]
    assert any(moved)

    with pytest.raises(ConfigError, match="another configuration"):
        fine_tune(CONFIG.model_copy(update={"seed": 1}), rows, root, tmp_path / "broken", base=tmp_path)
    with pytest.raises(ConfigError, match="starts from a bundle or a run"):
        fine_tune(CONFIG.model_copy(update={"start": None}), rows, root, tmp_path / "none", base=tmp_path)
    assert len(set(TURNS)) == 8
