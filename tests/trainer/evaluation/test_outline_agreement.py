import hashlib

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.outline_agreement import OutlineError, find_outlines, heat_inside, measure_outlines, read_outline
from aiderm_trainer.evaluation.painted_over import paint_over
from aiderm_trainer.evaluation.scores import ScoredSplit, score_bundle


def disc(size, radius=0.3, centre=(0.5, 0.5)):
    y, x = np.ogrid[:size, :size]
    return np.hypot(x + 0.5 - centre[0] * size, y + 0.5 - centre[1] * size) < radius * size


def test_energy_and_peak_of_a_heatmap():
    heat = np.zeros((7, 7), np.float32)
    heat[3, 3] = 1
    energy, peak = heat_inside(heat, disc(112))
    assert energy > 0.95
    assert peak
    energy, peak = heat_inside(heat, ~disc(112))
    assert energy < 0.05
    assert not peak
    energy, _ = heat_inside(np.ones((7, 7), np.float32), disc(112))
    assert energy == pytest.approx(disc(112).mean(), abs=1e-5)
    assert heat_inside(np.zeros((7, 7), np.float32), disc(112)) is None


def test_a_lesion_painted_over_leaves_neither_its_colour_nor_its_edge():
    skin = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 12, (160, 160, 3)).astype(np.float32), (0, 0), 1)
    ramp = np.linspace(-20, 20, 160, dtype=np.float32)[None, :, None]
    clean = np.clip(np.array([210, 160, 150]) + ramp + skin, 0, 255)
    spot = disc(160, 0.25)
    pixels = clean.copy()
    pixels[spot] = (70, 40, 30)
    painted = paint_over(np.round(pixels).astype(np.uint8), spot, 3).astype(float)
    assert np.abs(painted[spot].mean(axis=0) - clean[spot].mean(axis=0)).max() < 6
    left, right = painted[spot & (np.arange(160) < 65)[None]].mean(), painted[spot & (np.arange(160) > 95)[None]].mean()
    assert right - left > 4  # the skin's shading continues through the hole
    assert painted[spot].std(axis=0).mean() == pytest.approx(clean[spot].std(axis=0).mean(), rel=0.5)  # and so does the grain
    far = ~disc(160, 0.36)
    assert np.array_equal(painted[far], np.round(pixels)[far])


def test_without_skin_nothing_is_painted():
    pixels = lesion(1, malignant=True, size=96)
    assert paint_over(pixels, np.ones((96, 96), bool), 0) is None
    assert paint_over(np.zeros_like(pixels), disc(96, 0.2), 0) is None
    with pytest.raises(ValueError, match="outline"):
        paint_over(pixels, np.ones((40, 40), bool), 0)


def test_outlines_of_any_size_are_laid_on_the_judged_region(tmp_path):
    cv2.imwrite(str(tmp_path / "square.png"), disc(112).astype(np.uint8) * 255)
    wide = np.zeros((60, 80), np.uint8)
    wide[:, 10:70] = disc(60).astype(np.uint8)  # a mask of 0 and 1 instead of 0 and 255
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((60, 60), np.uint8))
    for name in ("square", "wide"):
        outline = read_outline(tmp_path / f"{name}.png", 400, 300, "center_square")
        assert outline.shape == (300, 300)
        assert (outline != disc(300)).mean() < 0.02
    with pytest.raises(OutlineError, match="marks no lesion"):
        read_outline(tmp_path / "empty.png", 100, 100, "center_square")
    with pytest.raises(OutlineError, match="can be read"):
        read_outline(tmp_path / "none.png", 100, 100, "center_square")


def test_outlines_are_found_by_the_images_name(sample_rows, tmp_path):
    rows = sample_rows(3)
    for name in ("0.png", "2_segmentation.png", "note.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert find_outlines(tmp_path, rows) == {
        "test/0.png": tmp_path / "0.png",
        "test/2.png": tmp_path / "2_segmentation.png",
    }
    (tmp_path / "none").mkdir()
    with pytest.raises(OutlineError, match="no outline"):
        find_outlines(tmp_path / "none", rows)
    with pytest.raises(OutlineError, match="must be a folder"):
        find_outlines(tmp_path / "missing", rows)


@pytest.mark.slow
def test_a_model_that_reads_the_lesion_alone_knows_nothing_once_it_is_painted_over(make_bundle, tmp_path):
    """Red controls the bundle's malignancy, green its heatmap: malignant lesions are red and green, benign ones are not red."""
    bundle = make_bundle(tmp_path / "models")
    (tmp_path / "masks").mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(40):
        malignant, spot = bool(i % 2), disc(112, 0.33, tuple(rng.uniform(0.42, 0.58, 2)))
        pixels = np.clip(rng.normal((120, 8, 60), 5, (112, 112, 3)) + rng.normal(0, 8), 0, 255).astype(np.uint8)
        pixels[spot] = (250, 230, 60) if malignant else (60, 230, 120)
        data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
        (tmp_path / f"l{i}.png").write_bytes(data)
        cv2.imwrite(str(tmp_path / "masks" / f"l{i}.png"), spot.astype(np.uint8) * 255)
        rows.append(Row(hashlib.sha256(data).hexdigest(), f"l{i}.png", "a", f"g{i}", "test", "", malignant))
    runtime, manifest = load_runtime("openvino", bundle), Manifest.load(bundle)
    scores = score_bundle(runtime, manifest.input, rows, tmp_path, progress=False)
    files = find_outlines(tmp_path / "masks", rows)
    found = measure_outlines(ScoredSplit(runtime, scores, tmp_path, manifest, "test"), files, replicates=100, seed=0)
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert (found.count, found.blank, found.unpaintable) == (40, 0, 0)
    assert value["energy_inside"] > 0.75  # the heatmap has only 8 x 8 cells, some of which extend over the edge
    assert value["peak_inside"] == 1
    assert found.metrics["peak_inside"].ci95[0] < 1
    assert 0.3 < value["area_inside"] < 0.4
    assert value["roc_auc"] == 1
    low, high = found.metrics["painted_roc_auc"].ci95
    assert low < 0.5 < high
