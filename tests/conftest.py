"""Fixtures that all test folders share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.graphs import steerable
from tests.graphs.steerable import LABELS, SIZE, expected_outputs

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal

MakeBundle = Callable[..., Path]

if os.environ.get("AIDERM_NO_TENSORFLOW") == "1":  # `make check`: importing it takes seconds, so a test that tries fails at once
    sys.modules["tensorflow"] = sys.modules["keras"] = None  # type: ignore[assignment]


# Files with the longest tests come first, so that xdist's processes finish at about the same time.
# (By default xdist starts with the files that have the most tests, and may end with one long file while other processes idle.)
LONGEST_FIRST = ("trainer", "frontend", "scorer", "clients")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    rank = {root / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: min((rank.get(folder, len(rank)) for folder in item.path.parents), default=len(rank)))


@pytest.fixture(scope="session")
def steerable_graphs() -> dict[int, Path]:
    """SavedModels by number of classes; see ``tests/graphs/steerable.py``."""
    return {classes: steerable.FOLDER / f"steerable-{classes}" for classes in LABELS}


@pytest.fixture(scope="session")
def make_bundle(steerable_graphs: dict[int, Path]) -> MakeBundle:
    """Returns a function that writes a complete, valid bundle whose decisions depend on an image's colour.

    The graph is one of ``steerable_graphs``. Threshold 0.5, uncertain band 0.4..0.6, novelty limit 1000 (mean blue of 100), no
    quality limits.
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
                probability, malignancy, novelty = expected_outputs(red, blue, classes)
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


def may_skip(reason: object, browser: bool = False) -> bool:
    """Whether a test may be skipped.

    AIDERM_REQUIRE_ALL=1 allows no test to be skipped, AIDERM_REQUIRE_ALL=browser no browser test: CI runs every test once, with
    one of the two. Tests of images that only some machines have (AIDERM_SHARED) may be skipped where the images are missing.
    """
    required = os.environ.get("AIDERM_REQUIRE_ALL")
    if required != "1" and not (required == "browser" and browser):
        return True
    shared = Path(os.environ.get("AIDERM_SHARED") or Path(__file__).parents[2] / "shared")
    return "AIDERM_SHARED" in str(reason) and not (shared / "data").is_dir()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skip that is not allowed into a failure."""
    report = yield
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    browser = item.get_closest_marker("browser") is not None
    if report.skipped and not hasattr(report, "wasxfail") and not may_skip(reason, browser):
        report.outcome = "failed"
        report.longrepr = f"This test may not be skipped (AIDERM_REQUIRE_ALL). {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Does the same for a module that skips itself."""
    report = yield
    if report.skipped and not may_skip(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped with AIDERM_REQUIRE_ALL=1. {report.longrepr}"
    return report
