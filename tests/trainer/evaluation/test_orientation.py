import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.runtime import load_runtime
from aiderm_core.tta import VIEWS
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.orientation import DEFINITIONS, compare_orientations, measure_orientations
from aiderm_trainer.evaluation.scores import ScoredSplit, score_bundle

FAST = {"replicates": 50, "seed": 0, "progress": False}


class UpperHalf:
    """A runtime that reads only the upper half of an image."""

    def __init__(self, runtime):
        self.name, self.precision, self.runtime = runtime.name, runtime.precision, runtime

    def run(self, batch, hint="latency"):
        half = batch.copy()
        half[:, batch.shape[1] // 2 :] = half[:, : batch.shape[1] // 2]
        return self.runtime.run(half, hint)


@pytest.fixture(scope="module")
def halves(make_bundle, tmp_path_factory):
    """A bundle that reads the mean colour, and its scores of 12 plain images and 12 that are red only in the upper half."""
    folder = tmp_path_factory.mktemp("orientation")
    bundle = make_bundle(folder / "models")
    rows = []
    for i in range(24):
        pixels = np.full((128, 128, 3), (30, 120, 20 if i % 4 else 220), np.uint8)
        if i >= 12:
            pixels[:64] = (30, 120, 220)
            pixels[64:] = (30, 120, 20)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        (folder / f"{i}.png").write_bytes(data)
        rows.append(Row(hashlib.sha256(data).hexdigest(), f"{i}.png", "a", f"g{i}", "test", "", i % 2 == 0))
    manifest, runtime = Manifest.load(bundle), load_runtime("openvino", bundle)
    return runtime, score_bundle(runtime, manifest.input, rows, folder, progress=False), folder, manifest


def test_a_graph_that_reads_one_side_depends_on_the_orientation(halves):
    runtime, scores, root, manifest = halves
    found = measure_orientations(ScoredSplit(UpperHalf(runtime), scores, root, manifest, "test"), **FAST)
    assert found.count == 24
    assert set(found.metrics) == set(DEFINITIONS)
    assert found.metrics["side_depends"].value == pytest.approx(0.5)  # the plain images look the same in every orientation
    assert found.metrics["decision_depends"].value >= 0.5
    assert found.metrics["spread"].value > 0.1


def test_a_graph_that_reads_the_mean_colour_does_not(halves):
    runtime, scores, root, manifest = halves
    found = measure_orientations(ScoredSplit(runtime, scores, root, manifest, "test"), images=10, **FAST)
    assert found.count == 10
    for name in ("side_depends", "decision_depends", "both_answers"):
        assert found.metrics[name].value == 0
        assert found.metrics[name].ci95[1] > 0.1  # ten images cannot prove much


def test_shares_follow_their_definitions(halves):
    _, scores, _, manifest = halves
    low, high = manifest.decision.uncertain
    below, above, inside = low / 2, (1 + high) / 2, (manifest.decision.threshold + high) / 2
    count = len(scores.rows)

    def view(values):
        filled = np.full(count, below, np.float32)
        filled[: len(values)] = values
        return replace(scores, malignancy=filled, novelty=np.zeros(count, np.float32))

    turned = [view([])] * (VIEWS - 1) + [view([above] * 3 + [inside] * 2)]
    found = {name: metric.value for name, metric in compare_orientations(turned, manifest, 50, 0).items()}
    assert found["both_answers"] == pytest.approx(3 / count)
    assert found["side_depends"] == found["decision_depends"] == pytest.approx(5 / count)
    assert found["spread"] == pytest.approx((3 * (above - below) + 2 * (inside - below)) / count, abs=1e-6)
