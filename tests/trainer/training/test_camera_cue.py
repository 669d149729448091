"""In images whose camera gives the label away, a plain network learns the camera and a camera-blind one the lesion."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import run_folder
from aiderm_trainer.training.fit import train
from aiderm_trainer.training.objective import full_logits, malignant_log_odds

SIZE = 64
CONFIG = TrainConfig(
    arch="custom_cnn", weights="none", size=SIZE, dense=(32,), batch=32, epochs=8, patience=8, learning_rate=1e-3, seed=1
)
PLAIN = {"balance": "source", "domain_offset": 0.0, "hidden_offset": 0.0, "style_swap": 0.0}


def photograph(seed: int, malignant: bool, camera: str) -> np.ndarray:
    """A lesion as camera "warm" or "cold" shows it: the cold one is bluer and adds fine dark lines."""
    image = lesion(seed, malignant, 100).astype(np.float32)
    if camera == "cold":
        image *= (0.85, 0.95, 1.1)
        image[::8] *= 0.8
        image[1::8] *= 0.8
    return np.clip(image, 0, 255).astype(np.uint8)


def draw(root: Path, split: str, count: int, given_away: float, first: int) -> list[Row]:
    """Half of the lesions are malignant; the cold camera took ``given_away`` of these and ``1 - given_away`` of the benign."""
    rows, rng = [], np.random.default_rng(first)
    for number in range(first, first + count):
        malignant = number % 2 == 0
        camera = "cold" if malignant == (rng.random() < given_away) else "warm"
        name = f"{number}.png"
        cv2.imwrite(str(root / name), cv2.cvtColor(photograph(number, malignant, camera), cv2.COLOR_RGB2BGR))
        dx = "mel" if malignant else "nv"
        rows.append(Row(f"{number:064x}", name, "clinic", f"g{number}", split, dx, malignant, camera, True))
    return rows


def measure(config: TrainConfig, rows: list[Row], test: list[Row], root: Path, run: Path) -> tuple[float, float]:
    """The score's AUC for the camera of benign lesions, and its mean AUC for malignancy within a camera."""
    train(config, rows, root, run)
    _, labels, network = run_folder.load_run(run)
    logits = np.concatenate([np.asarray(network.model(batch)) for batch in Images(test, root, SIZE).batches(64)])
    score = malignant_log_odds(full_logits(logits), labels)
    malignant, cold = np.array([row.malignant for row in test]), np.array([row.domain == "cold" for row in test])
    inside = [roc_auc_score(malignant[of], score[of]) for of in (cold, ~cold)]
    return roc_auc_score(cold[~malignant], score[~malignant]), float(np.mean(inside))


@pytest.mark.soak  # trains two networks: about two minutes
def test_a_camera_that_gives_the_label_away_is_learnt_plainly_and_ignored_blindly(tmp_path: Path) -> None:
    rows = draw(tmp_path, "train", 800, 0.9, 0) + draw(tmp_path, "validation", 200, 0.9, 10_000)
    test = draw(tmp_path, "test", 300, 0.5, 20_000)  # here the camera is uninformative
    camera, _ = measure(CONFIG.model_copy(update=PLAIN), rows, test, tmp_path, tmp_path / "plain")
    blind, inside = measure(CONFIG, rows, test, tmp_path, tmp_path / "blind")
    assert camera > 0.8
    assert abs(blind - 0.5) < 0.15
    assert inside > 0.6
