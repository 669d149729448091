import hashlib

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import stress
from aiderm_trainer.evaluation.scores import ScoredSplit, score_bundle


@pytest.fixture(scope="module")
def reddish(make_bundle, tmp_path_factory):
    """A bundle that reads the mean colour, 24 plain images, and its scores of them."""
    folder = tmp_path_factory.mktemp("stress")
    bundle = make_bundle(folder / "models")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        malignant = i % 3 == 0
        red = int(rng.integers(150, 230) if malignant else rng.integers(20, 140))
        pixels = np.full((128, 128, 3), (30, 120, red), np.uint8)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        (folder / f"{i}.png").write_bytes(data)
        rows.append(Row(hashlib.sha256(data).hexdigest(), f"{i}.png", "a", f"g{i // 2}", "test", "", malignant))
    manifest, runtime = Manifest.load(bundle), load_runtime("openvino", bundle)
    return runtime, score_bundle(runtime, manifest.input, rows, folder, progress=False), folder, manifest


def measure(reddish, **options):
    runtime, scores, root, manifest = reddish
    settings = {"replicates": 100, "seed": 0, "progress": False} | options
    return stress.measure_stress(ScoredSplit(runtime, scores, root, manifest, "test"), **settings)


def test_only_what_the_model_reads_flips_its_calls(reddish):
    found = measure(reddish, names=("round_border", "blur", "colour_cast"))
    assert found.count == 24
    assert set(found.artefacts["blur"]) == set(stress.DEFINITIONS)
    blur = found.artefacts["blur"]  # blur does not change plain images
    assert blur["auc_loss"].value == 0
    assert blur["flipped"].value == blur["decision_changed"].value == 0
    assert blur["flipped"].ci95[0] == 0 < blur["flipped"].ci95[1]
    border = found.artefacts["round_border"]  # darker, so that suspicious images cross the threshold, but none is rejected
    assert border["flipped"].value > 0.1
    assert border["newly_rejected"].value == 0
    assert border["decision_changed"].value >= border["flipped_answers"].value


def test_the_same_images_give_the_same_figures(reddish):
    assert measure(reddish, names=("hair",)) == measure(reddish, names=("hair",))


def test_metrics_follow_their_definitions(reddish):
    _, base, _, manifest = reddish
    low, high = np.float32(0.1), np.float32(0.9)
    count = len(base.rows)
    first = stress.replace(base, malignancy=np.full(count, low), novelty=np.zeros(count, np.float32))
    second = stress.replace(first, malignancy=np.r_[[high] * 6, [low] * (count - 6)].astype(np.float32))
    novelty = np.zeros(count, np.float32)
    novelty[6:9] = 2000  # above the limit
    second = stress.replace(second, novelty=novelty)
    found = {name: metric.value for name, metric in stress.compare(first, second, manifest, 50, 0).items()}
    assert found["flipped"] == found["flipped_answers"] == pytest.approx(6 / count)
    assert found["newly_rejected"] == pytest.approx(3 / count)
    assert found["decision_changed"] == pytest.approx(9 / count)
    assert found["auc_loss"] == pytest.approx(0.5 - found["roc_auc"])


def test_a_sample_is_of_whole_groups_and_always_the_same(reddish):
    rows = reddish[1].rows
    chosen = stress.sample(rows, "test", 9)
    assert len(chosen) == 8
    assert np.array_equal(chosen, stress.sample(rows, "test", 9))
    groups = [rows[i].group for i in chosen]
    assert all(groups.count(group) == 2 for group in groups)
    assert len(stress.sample(rows, "test", None)) == 24
    with pytest.raises(ValueError, match="no validation images"):
        stress.sample(rows, "validation", None)


def test_large_pictures_are_compared_with_themselves_at_the_size_that_is_drawn_on(reddish, tmp_path):
    runtime, _, _, manifest = reddish
    rows = []
    for i, red in enumerate((40, 220)):
        data = cv2.imencode(".png", np.full((600, 700, 3), (30, 120, red), np.uint8))[1].tobytes()
        (tmp_path / f"{i}.png").write_bytes(data)
        rows.append(Row(hashlib.sha256(data).hexdigest(), f"{i}.png", "a", f"g{i}", "test", "", bool(i)))
    scores = score_bundle(runtime, manifest.input, rows, tmp_path, progress=False)
    found = stress.measure_stress(
        ScoredSplit(runtime, scores, tmp_path, manifest, "test"), names=("blur",), replicates=20, seed=0, progress=False
    )
    assert found.artefacts["blur"]["decision_changed"].value == 0


def test_one_label_alone_is_refused(reddish):
    runtime, scores, root, manifest = reddish
    benign = scores.take([i for i, row in enumerate(scores.rows) if not row.malignant])
    with pytest.raises(ValueError, match="of one label"):
        stress.measure_stress(ScoredSplit(runtime, benign, root, manifest, "test"), replicates=10, seed=0, progress=False)
