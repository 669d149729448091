"""Several views are offered only where they were measured to help."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Input, Label
from aiderm_core.runtime import Outputs
from aiderm_core.tta import VIEWS, TtaRuntime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import score_bundle
from aiderm_trainer.export.tta_gain import fit_tta, measure_gain

LABELS = (Label(id="benign", name="Benign", malignant=False), Label(id="malignant", name="Malignant", malignant=True))
SPEC = Input(size=32)


class Noisy:
    """Sees the label (the red of the middle) through noise that depends on the orientation: what pooling can remove."""

    name, precision = "openvino", "f32"

    def __init__(self, noise):
        self.noise = noise

    def run(self, batch, hint="latency", during_inference=None):
        truth = batch[:, 12:20, 12:20, 0].mean((1, 2)) / 255 * 4 - 2
        corner = batch[:, 0, 0].astype(np.uint32) @ np.uint32([1, 7, 31]) * np.uint32(2654435761) >> np.uint32(8)
        log_odds = truth + self.noise * (corner % 2001 / 1000.0 - 1)
        malignancy = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
        return Outputs(
            np.stack([1 - malignancy, malignancy], axis=1),
            malignancy,
            np.zeros((len(batch), 2, 2), np.float32),
            np.ones(len(batch), np.float32),
        )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Rows of every split, whose corners differ and whose middle tells the label, roughly."""
    root, rng = tmp_path_factory.mktemp("thorough"), np.random.default_rng(4)
    rows = []
    for split, count in (("validation", 160), ("calibration", 120)):
        for i in range(count):
            malignant = i % 2 == 0
            pixels = rng.integers(0, 256, (104, 104, 3), dtype=np.uint8)
            pixels = cv2.resize(cv2.resize(pixels, (8, 8), interpolation=cv2.INTER_AREA), (104, 104))
            pixels[:26] += rng.integers(0, 90, 3, dtype=np.uint8)
            pixels[:, :26] += rng.integers(0, 90, 3, dtype=np.uint8)
            pixels[30:70, 30:70, 2] = np.clip(rng.normal(160 if malignant else 95, 35), 0, 255)
            _, png = cv2.imencode(".png", pixels)
            name = f"{split}-{i}.png"
            (root / name).write_bytes(png.tobytes())
            sha256 = hashlib.sha256(png.tobytes()).hexdigest()
            rows.append(Row(sha256, name, f"s{i % 4 // 2}", f"{split}-{i}", split, "", malignant))
    return root, [row for row in rows if row.split == "validation"], [row for row in rows if row.split == "calibration"]


def test_it_is_offered_with_a_rule_of_its_own_where_it_helps(pictures):
    root, validation, calibration = pictures
    runtime = Noisy(3.0)
    offered = fit_tta(runtime, SPEC, LABELS, validation, calibration, root, 0.9, progress=False)
    assert offered is not None
    assert 0 < offered.gain["auc_low"] <= offered.gain["auc"] <= offered.gain["auc_high"]
    assert offered.gain["log_likelihood_low"] > 0
    assert offered.gain["views"] == VIEWS
    scores = score_bundle(TtaRuntime(runtime, LABELS, offered.pool), SPEC, calibration, root, progress=False)
    malignant = np.array([row.malignant for row in calibration])
    assert (scores.malignancy[malignant] >= offered.decision.threshold).mean() >= 0.9
    alone = score_bundle(runtime, SPEC, calibration, root, progress=False)
    called = [(part.malignancy[~malignant] < offered.decision.threshold).mean() for part in (scores, alone)]
    assert called[0] != called[1]
    # what validation says, no calibration row may change
    again = fit_tta(runtime, SPEC, LABELS, validation, calibration[:60], root, 0.9, progress=False)
    assert again is not None
    assert (again.gain, again.pool) == (offered.gain, offered.pool)


def test_it_is_not_offered_where_all_views_agree(pictures):
    root, validation, calibration = pictures
    assert fit_tta(Noisy(0.0), SPEC, LABELS, validation, calibration, root, 0.9, progress=False) is None


def test_too_few_validation_rows_prove_nothing(pictures):
    root, validation, calibration = pictures
    runtime = Noisy(3.0)
    assert fit_tta(runtime, SPEC, LABELS, validation[:8], calibration, root, 0.9, progress=False) is None
    benign = [row for row in validation if not row.malignant]
    assert fit_tta(runtime, SPEC, LABELS, benign, calibration, root, 0.9, progress=False) is None
    assert fit_tta(runtime, SPEC, LABELS, [], calibration, root, 0.9, progress=False) is None


def test_gain_is_measured_inside_sources_and_row_by_row(pictures):
    _, rows, _ = pictures
    malignant = np.array([row.malignant for row in rows])
    rng = np.random.default_rng(0)
    weak = np.clip(0.5 + 0.1 * (malignant - 0.5) + rng.normal(0, 0.1, len(rows)), 0.01, 0.99).astype(np.float32)
    strong = np.clip(0.5 + 0.8 * (malignant - 0.5), 0.01, 0.99).astype(np.float32)
    better, worse = measure_gain(rows, weak, strong), measure_gain(rows, strong, weak)
    assert better["auc_low"] > 0
    assert better["auc"] == pytest.approx(-worse["auc"])
    assert better["log_likelihood"] == pytest.approx(-worse["log_likelihood"])
    # moving whole sources apart changes no rank inside one
    source = np.array([row.source == "s1" for row in rows])
    apart = measure_gain(rows, weak, (weak / 2 + 0.5 * source).astype(np.float32).clip(0.01, 0.99))
    assert apart is None or abs(apart["auc"]) < 0.02
