"""Fixtures that all areas share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal

SIZE = 64
LABELS = {
    7: [
        ("mel", "Melanoma", True),
        ("bcc", "Basal cell carcinoma", True),
        ("akiec", "Actinic keratosis", True),
        ("nv", "Melanocytic naevus", False),
        ("bkl", "Benign keratosis", False),
        ("df", "Dermatofibroma", False),
        ("vasc", "Vascular lesion", False),
    ],
    2: [("malignant", "Malignant", True), ("benign", "Benign", False)],
}
MakeBundle = Callable[..., Path]


def steered_outputs(red: float, blue: float, classes: int) -> tuple[list[float], float, float]:
    """Probability, malignancy and novelty that a bundle of ``make_bundle`` gives for a plain-coloured picture."""
    malignancy, novelty = red / 255, blue * 10
    malignant = [label[2] for label in LABELS[classes]]
    inside, outside = malignancy / sum(malignant), (1 - malignancy) / (classes - sum(malignant))
    return [inside if flag else outside for flag in malignant], malignancy, novelty


@pytest.fixture(scope="session")
def steerable_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Hand-made SavedModels by number of classes: red steers malignancy, blue novelty, green the heatmap."""
    import tensorflow as tf

    class Steerable(tf.Module):
        def __init__(self, malignant: list[bool]) -> None:
            super().__init__()
            # A variable, so that the SavedModel has a variables folder as a trained one has.
            self.scale = tf.Variable(1 / 255, trainable=False, dtype=tf.float32)
            share = np.array(malignant, np.float32)
            self.inside, self.outside = share / share.sum(), (1 - share) / (1 - share).sum()

        @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            means = tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2])
            malignancy = tf.clip_by_value(means[:, 0] * self.scale, 0.0, 1.0)
            green = tf.nn.avg_pool2d(tf.cast(image[..., 1:2], tf.float32) * self.scale, 8, 8, "VALID")[..., 0]
            return {
                "probability": malignancy[:, None] * self.inside + (1 - malignancy)[:, None] * self.outside,
                "malignancy": malignancy,
                "heatmap": green * malignancy[:, None, None],
                "novelty": means[:, 2] * 10.0,
            }

    graphs = {}
    for classes, labels in LABELS.items():
        folder = tmp_path_factory.mktemp("steerable") / str(classes)
        module = Steerable([label[2] for label in labels])
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
        graphs[classes] = folder
    return graphs


@pytest.fixture(scope="session")
def make_bundle(steerable_graphs: dict[int, Path]) -> MakeBundle:
    """Writes a complete, valid bundle whose decisions a plain-coloured picture steers; see ``steerable_graphs``.

    Threshold 0.5, uncertain band 0.4..0.6, novelty limit 1000 (mean blue of 100), no quality limits.
    """

    def make(
        models_root: Path, name: str = "melanoma", version: str = "1", promote: bool = True, *, classes: int = 7, **overrides: Any
    ) -> Path:
        """``overrides`` replace fields of the manifest, such as quality or decision."""
        store = ModelStore(models_root)
        with store.stage(name, version) as folder:
            shutil.copytree(steerable_graphs[classes], folder, dirs_exist_ok=True)
            (folder / "golden").mkdir()
            cases = []
            for index, (red, green, blue) in enumerate([(40, 120, 10), (210, 90, 30)]):
                path = f"golden/{index}.png"
                cv2.imwrite(str(folder / path), np.full((112, 112, 3), (blue, green, red), np.uint8))
                probability, malignancy, novelty = steered_outputs(red, blue, classes)
                cases.append({"path": path, "probability": probability, "malignancy": malignancy, "novelty": novelty})
            (folder / "MODEL_CARD.md").write_text(f"# {name} {version}\n\nA hand-made graph for tests.\n", "utf-8")
            (folder / "report").mkdir()
            (folder / "report" / "report.json").write_text('{"roc": {"test": [[0, 0], [1, 1]]}}\n', "utf-8")
            fields: dict[str, Any] = {
                "name": name,
                "version": version,
                "created_at": datetime(2024, 1, 1, tzinfo=UTC),
                "architecture": "steerable",
                "input": {"size": SIZE},
                "labels": [{"id": key, "name": text, "malignant": flag} for key, text, flag in LABELS[classes]],
                "decision": {"threshold": 0.5, "target_sensitivity": 0.95, "uncertain": [0.4, 0.6]},
                "calibration": {
                    "method": "temperature",
                    "temperature": 1.0,
                    "prevalence": 0.3,
                    "ece_before": 0.05,
                    "ece_after": 0.02,
                },
                "novelty": {"limit": 1000.0, "false_rejection_rate": 0.01},
                "quality": {},
                "reference": {
                    "score": {"edges": [0.0, 0.5, 1.0], "counts": [1, 1]},
                    "novelty": {"edges": [0.0, 1000.0], "counts": [2]},
                },
                "forms": [{"runtime": "openvino", "precision": "f32"}, {"runtime": "tensorflow", "precision": "f32"}],
                "metrics": {"test": {"auc": {"value": 0.9, "ci95": [0.88, 0.92]}}},
                "data": {"sources": ["synthetic"], "fingerprint": "0" * 64, "counts": {"test": 2}, "licence": "none"},
                "training": {"config": {}, "seed": 0, "revision": "none", "seconds": 0.0},
                "golden": {"cases": cases},
                "files": {},
                "intended_use": "Tests.",
                "limitations": ["Judges colours, not lesions."],
            }
            seal(folder, Manifest.model_validate(fields | overrides))
        if promote:
            store.promote(name, version)
        return store.path(name, version)

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must run (AIDERM_REQUIRE_ALL=1, as in CI), a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("AIDERM_REQUIRE_ALL") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped with AIDERM_REQUIRE_ALL=1. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if report.skipped and os.environ.get("AIDERM_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped with AIDERM_REQUIRE_ALL=1. {report.longrepr}"
    return report
