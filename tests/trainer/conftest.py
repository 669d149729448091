"""An invented manifest and scores for the tests of evaluation and export."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.synthetic import dataset
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import Scores

MALIGNANT = ("mel", "bcc", "akiec")
BENIGN = ("nv", "bkl")
LABELS = (*MALIGNANT, *BENIGN)
MEASURES = {"sharpness": 50.0, "brightness": 120.0, "contrast": 40.0}


def _sample_manifest(**changes: object) -> Manifest:
    rule = {"threshold": 0.3, "target_sensitivity": 0.95, "uncertain": (0.2, 0.4)}
    histogram = {"edges": [0.0, 1.0], "counts": [1]}
    content = {
        "name": "melanoma",
        "version": "1",
        "created_at": datetime(2026, 1, 2, tzinfo=UTC),
        "architecture": "mobilenet_v2",
        "input": {"size": 64},
        "labels": [{"id": name, "name": name.upper(), "malignant": name in MALIGNANT} for name in LABELS],
        "class_map": {"scc": "akiec"},
        "decision": rule,
        "calibration": {
            "method": "shift only",
            "temperature": 1.25,
            "malignant_shift": -0.75,
            "prevalence": 0.3125,
            "ece_before": 0.111,
            "ece_after": 0.022,
            "coverage": {"share_uncertain": 0.1875},
        },
        "novelty": {
            "limit": 9.5,
            "false_rejection_rate": 0.0123,
            "method": "Mahalanobis",
            "evaluation": {"photos_rejected": 0.875},
        },
        "quality": {"sharpness": {"worse": "low", "warn": 10.0, "reject": 1.0}},
        "reference": {"score": histogram, "novelty": histogram},
        "forms": [{"runtime": "openvino", "precision": "f32"}],
        "metrics": {},
        "data": {"sources": ["a", "b"], "fingerprint": "f" * 64, "counts": {"train": 77}, "licence": "CC BY-NC 4.0"},
        "training": {"config": {"batch": 31}, "seed": 7, "revision": "abc123", "seconds": 600.0},
        "golden": {"cases": [{"path": "golden/0.png", "probability": [0.2] * len(LABELS), "malignancy": 0.6, "novelty": 1.0}]},
        "files": {},
        "intended_use": "A second look at dermoscopic pictures.",
        "limitations": ["Trained on few centres."],
    }
    return Manifest.model_validate(content | changes)


def _sample_rows(count: int, seed: int = 0, split: str = "test", sources: tuple[str, ...] = ("a", "b")) -> list[Row]:
    """Rows in random groups of about two; about half of the rows lack a dx."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        malignant = bool(rng.random() < 0.4)
        dx = str(rng.choice((*MALIGNANT, "scc") if malignant else BENIGN)) if rng.random() < 0.5 else ""
        sha256 = hashlib.sha256(f"{seed}-{split}-{i}".encode()).hexdigest()
        source = sources[int(rng.integers(len(sources)))]
        rows.append(Row(sha256, f"{split}/{i}.png", source, f"g{int(rng.integers(max(1, count // 2)))}", split, dx, malignant))
    return rows


def _sample_scores(count: int = 400, seed: int = 0, split: str = "test", sources: tuple[str, ...] = ("a", "b")) -> Scores:
    """Scores that separate the labels, though not perfectly."""
    rows = _sample_rows(count, seed, split, sources)
    rng = np.random.default_rng(seed + 1)
    logits = rng.normal(size=(count, len(LABELS)))
    for i, row in enumerate(rows):
        own = LABELS.index("akiec" if row.dx == "scc" else row.dx) if row.dx else (0 if row.malignant else 3)
        logits[i, own] += 2.0
    exponent = np.exp(logits)
    probability = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    malignancy = probability[:, : len(MALIGNANT)].sum(axis=1).clip(0, 1)
    novelty = rng.gamma(3.0, size=count).astype(np.float32)
    return Scores(rows, probability, malignancy, novelty, [dict(MEASURES) for _ in rows])


@pytest.fixture(scope="session")
def sample_manifest():
    return _sample_manifest


@pytest.fixture(scope="session")
def sample_rows():
    return _sample_rows


@pytest.fixture(scope="session")
def sample_scores():
    return _sample_scores


@pytest.fixture(scope="session")
def synthetic_split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The split file of 240 synthetic lesions, and their folder."""
    data = dataset(tmp_path_factory.mktemp("lesions"), 240, seed=5, size=112)
    split = data.parent / "split.csv"
    prepare(data, split, progress=False)
    return split, data
