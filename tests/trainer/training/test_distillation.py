from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from aiderm_trainer.architectures.network import Network
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.distillation import teach
from aiderm_trainer.training.fit import train


def constant(logits: list[float], size: int) -> Network:
    image = keras.Input((size, size, 3), dtype="uint8")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(
        len(logits), kernel_initializer="zeros", bias_initializer=lambda shape, dtype=None: keras.ops.array(logits)
    )
    model = keras.Model(image, dense(pooled))
    return Network(model, taps=(), pooling="flatten", dense=(), vector="", novelty=None, pretrained=False)


def test_the_teachers_mean_is_kept_inside_the_labels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 100, 3), 90, np.uint8))
    rows = [Row("0" * 64, "a.png", "s", "g", "train", "", True)] * 3
    possible = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 1]], np.float32)
    # One teacher has the student's image size, the other its own.
    networks = [constant([float(np.log(v)) for v in p], size) for p, size in (([0.5, 0.3, 0.2], 32), ([0.1, 0.1, 0.8], 48))]
    taught = teach(networks, Images(rows, tmp_path, 32), possible, batch=2)
    mean = np.array([0.3, 0.2, 0.5])
    for row, allowed in zip(taught, possible, strict=True):
        expected = mean * (0.9 * allowed + 0.1)
        assert row == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_a_student_learns_from_finished_runs_and_refuses_strangers(synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, root = synthetic_split
    rows = read_split(split)
    base = TrainConfig(arch="custom_cnn", weights="none", size=32, epochs=1, batch=16, dense=(8,))
    train(base, rows, root, tmp_path / "teacher")
    taught = base.model_copy(update={"teachers": (str(tmp_path / "teacher"),), "start": str(tmp_path / "teacher")})
    assert 0.0 <= train(taught, rows, root, tmp_path / "student")["val_auc"] <= 1.0
    with pytest.raises(ConfigError, match="no run"):
        train(base.model_copy(update={"start": str(tmp_path / "nothing")}), rows, root, tmp_path / "lost")
