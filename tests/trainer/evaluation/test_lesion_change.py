"""Measuring change detection: kinds of pairs, metrics checked by hand, and the document."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.change import LesionChange
from aiderm_core.decision import Reason
from aiderm_core.outline import Measure
from aiderm_core.runtime import Outputs
from aiderm_trainer.data.synthetic import outlined_lesion
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.lesion_change import DEFINITIONS, LesionChangeStudy, Outcome, measure_lesion_change, summed
from aiderm_trainer.reporting.lesion_change import lesion_change_document

DOCS = Path(__file__).parents[3] / "docs"


def outcome(lesion: str, truth: float | None, growth: float, half: float = 5.0, colour: float = 1.0) -> Outcome:
    measure = Measure(growth, growth - half, growth + half)
    changed = not measure.low <= 0 <= measure.high
    return Outcome(lesion, truth, LesionChange((), growth=measure, colour=Measure(colour, 0.0, 9.0), changed=changed))


def test_figures_by_hand():
    refused = Outcome("d", 10.0, LesionChange((Reason("framing", "..."),)))
    found = summed("x", [outcome("a", 10.0, 11.0), outcome("b", 10.0, 4.0), outcome("c", 10.0, 12.0, colour=3.0), refused])
    assert (found.pairs, found.lesions, found.obstacles) == (4, 4, {"framing": 1})
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert set(value) == set(DEFINITIONS)
    assert value == pytest.approx(
        {"comparable": 0.75, "error_median": 2, "error_mean": 3, "error_p95": 6, "within_5": 2 / 3, "covered": 2 / 3}
        | {"apart_10": 2 / 3, "growth_median": 11, "growth_spread": 12, "colour_median": 1, "colour_p95": 3, "changed": 2 / 3}
    )
    unknown = summed("x", [outcome("a", None, -11.0)])
    assert "error_median" not in unknown.metrics
    assert unknown.metrics["apart_10"].value == 1.0
    assert summed("x", [refused]).metrics["comparable"].value == 0.0


class Darker:
    """A runtime that outlines everything darker than the skin and finds no lesion suspicious."""

    name, precision = "openvino", "f32"

    def run(self, batch, hint="latency"):
        grey = [cv2.resize(cv2.GaussianBlur(each[..., 1], (0, 0), 3), (56, 56), interpolation=cv2.INTER_AREA) for each in batch]
        skin = [np.percentile(each, 80) for each in grey]
        outline = np.stack([np.clip((0.8 * s - each) / 20.0 + 0.5, 0, 1) for s, each in zip(skin, grey, strict=True)])
        p = np.full(len(batch), 0.1, np.float32)
        zeros = np.zeros(len(batch), np.float32)
        return Outputs(np.stack([p, 1 - p], axis=1), p, outline.astype(np.float32), zeros, outline.astype(np.float32))


def test_the_measurement_and_its_document(tmp_path: Path, make_bundle):
    manifest = Manifest.load(make_bundle(tmp_path / "models", classes=2))
    (tmp_path / "masks").mkdir()
    rows = []
    for seed in (1, 2, 4):
        pixels, mask = outlined_lesion(seed, False)
        cv2.imwrite(str(tmp_path / f"{seed}.png"), pixels[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{seed}.png"), mask.astype(np.uint8) * 255)
        digest = hashlib.sha256((tmp_path / f"{seed}.png").read_bytes()).hexdigest()
        rows.append(Row(digest, f"{seed}.png", "s", f"g{seed}", "validation", "", False, domain="s"))
    found = measure_lesion_change(Darker(), manifest, rows, tmp_path, tmp_path / "masks", split="validation", images=2)
    kinds = {kind.title: kind for kind in found.kinds}
    every = kinds["synthetic growth, all"]
    assert (every.pairs, every.lesions) == (10, 2)
    assert every.metrics["comparable"].value >= 0.5
    assert every.metrics["error_median"].value < 5
    assert kinds["two views of one image"].pairs == 2
    assert kinds["different lesions, one camera"].metrics["comparable"].value == 0.0
    assert "different lesions, two cameras" not in kinds
    text = lesion_change_document(found)
    assert "# Change of a lesion between two photographs" in text
    assert "| synthetic growth by 40% | 2 |" in text
    with pytest.raises(ValueError, match="no test rows"):
        measure_lesion_change(Darker(), manifest, rows, tmp_path, tmp_path / "masks", split="test", images=2)


def test_the_document_is_that_of_its_figures():
    study = LesionChangeStudy.model_validate_json((DOCS / "lesion-change.json").read_bytes())
    assert (DOCS / "lesion-change.md").read_text() == lesion_change_document(study)
