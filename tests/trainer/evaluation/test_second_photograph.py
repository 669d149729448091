"""Second photographs: what counts as a change, which images are the same photograph, and the document."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.combine import View
from aiderm_core.runtime import Outputs
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.second_photograph import (
    DEFINITIONS,
    PhotographedLesion,
    compare_photographs,
    different_photographs,
    measure_second_photographs,
)
from aiderm_trainer.reporting.second_photograph import RESULTS_FILE, second_photograph_section


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_bundle) -> Manifest:
    """The manifest of a bundle with threshold 0.5, band 0.4..0.6 and no quality limits."""
    return Manifest.load(make_bundle(tmp_path_factory.mktemp("models"), classes=2))


def lesion(group: str, malignant: bool, *malignancy: float | None) -> PhotographedLesion:
    return PhotographedLesion(group, malignant, [None if p is None else View(np.array([p, 1 - p]), p, False) for p in malignancy])


def test_changes_by_hand(manifest):
    steady, split = lesion("a", True, 0.9, 0.8, 0.9, 0.8), lesion("b", False, 0.1, 0.9, 0.1, 0.9)
    found = compare_photographs([steady, split], manifest, 200, 1)
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert set(value) == set(DEFINITIONS)
    # Four of b's six pairs have one photograph on each side; combined they are uncertain, which changes both decisions.
    assert (value["replaced"], value["added"]) == pytest.approx((4 / 6 / 2, 4 / 6 / 2))
    assert value["pairs"] == pytest.approx(1 / 3 / 2)  # low + low against high + high; the others are both uncertain
    assert (value["replaced_sides"], value["added_sides"], value["pairs_sides"]) == pytest.approx((1 / 3, 0, 1 / 6))
    assert (value["malignant_low_one"], value["benign_low_one"], value["benign_low_two"]) == pytest.approx((0, 1 / 2, 1 / 6))
    assert found.metrics["added_sides"].ci95 == pytest.approx((0, 1 - 0.025**0.5)), "never seen in two lesions"
    pair = compare_photographs([lesion("a", True, 0.1, None), lesion("b", False, 0.3, 0.45)], manifest, 200, 1)
    assert "pairs" not in pair.metrics
    assert pair.metrics["replaced"].value == 1.0
    assert pair.metrics["added"].value == 0.5


def test_the_order_of_lesions_changes_no_value(manifest):
    """Only the second lesion has the four photographs that two pairs without a common one need."""
    lesions = [lesion("a", True, 0.9, 0.8), lesion("b", False, 0.1, 0.9, 0.1, 0.9), lesion("c", True, 0.9, 0.1)]
    found, turned = (compare_photographs(each, manifest, 200, 1).metrics for each in (lesions, lesions[::-1]))
    assert set(found) == set(turned) == set(DEFINITIONS)
    assert {name: metric.value for name, metric in found.items()} == {name: metric.value for name, metric in turned.items()}
    assert found["pairs"].value == pytest.approx(1 / 3)
    never = compare_photographs([lesion("a", True, 0.9, 0.8), lesion("b", True, 0.9, 0.8, 0.9, 0.8)], manifest, 200, 1)
    assert never.metrics["pairs"].ci95 == pytest.approx((0, 1 - 0.025)), "never seen in one lesion"


def image(seed: int, height: int = 150, width: int = 200) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 8), None, 0, 255, cv2.NORM_MINMAX)


def stored(root: Path, name: str, pixels: np.ndarray, group: str, split: str = "validation") -> Row:
    cv2.imwrite(str(root / name), pixels)
    digest = hashlib.sha256((root / name).read_bytes()).hexdigest()
    return Row(digest, name, "s", group, split, "", bool(int(group[1:]) % 2))


def test_one_photograph_in_another_crop_or_orientation_counts_once(tmp_path):
    first = image(1)
    rows = [
        stored(tmp_path, "1.png", first, "g1"),
        stored(tmp_path, "2.png", cv2.resize(first, (120, 120), interpolation=cv2.INTER_AREA), "g1"),
        stored(tmp_path, "3.png", np.rot90(first[:, 25:175]).copy(), "g1"),
        stored(tmp_path, "4.jpg", np.clip(first.astype(int) + 20, 0, 255).astype(np.uint8), "g1"),
        stored(tmp_path, "5.png", image(2), "g1"),
    ]
    assert [row.path for row in different_photographs(rows, tmp_path)] == ["1.png", "5.png"]


class Brightness:
    """A runtime whose malignancy is the mean of the red channel."""

    name, precision = "openvino", "f32"

    def run(self, batch, hint="latency"):
        p = batch[..., 0].mean(axis=(1, 2)).astype(np.float32) / 255
        return Outputs(np.stack([p, 1 - p], axis=1), p, np.zeros((len(p), 4, 4), np.float32), np.zeros(len(p), np.float32))


def test_the_measurement_and_its_section(tmp_path, manifest):
    rows = [stored(tmp_path, f"{group}.png", image(group), f"g{group}") for group in range(6)]
    rows += [stored(tmp_path, f"{group}b.png", image(group + 50), f"g{group}") for group in range(3)]
    rows += [stored(tmp_path, f"t{seed}.png", image(seed), "g9", "train") for seed in (70, 71)]
    found = measure_second_photographs(Brightness(), manifest, rows, tmp_path, images=5, replicates=50, seed=1)
    assert (found.views.lesions, found.views.photographs) == (5, 20)
    assert found.real is not None
    assert (found.real.lesions, found.real.photographs) == (3, 6)
    assert found == measure_second_photographs(Brightness(), manifest, rows, tmp_path, images=5, replicates=50, seed=1)
    assert second_photograph_section(tmp_path) == ""
    (tmp_path / RESULTS_FILE).write_text(found.model_dump_json())
    text = second_photograph_section(tmp_path)
    assert "assessed 5 lesions of the validation split" in text
    assert "6 real photographs of 3 lesions" in text
    few = compare_photographs([lesion("a", True, 0.9, 0.9), lesion("b", False, 0.1, 0.1)], manifest, 50, 1)
    (tmp_path / RESULTS_FILE).write_text(found.model_copy(update={"views": few}).model_dump_json())
    assert "The aim was" not in second_photograph_section(tmp_path), "nothing changed, so there is no share of the changes"
    with pytest.raises(ValueError, match="there are none"):
        measure_second_photographs(Brightness(), manifest, rows[-2:], tmp_path, images=None, replicates=50, seed=1)
