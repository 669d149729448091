import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from aiderm_trainer.data.synthetic import dataset, lesion


@pytest.mark.slow
@given(seed=st.integers(0, 2**40), malignant=st.booleans(), size=st.integers(32, 200))
@settings(max_examples=15, deadline=None)
def test_any_seed_and_size_gives_the_same_picture_twice(seed, malignant, size):
    pixels = lesion(seed, malignant, size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, lesion(seed, malignant, size))


def test_pictures_differ_by_seed_and_label():
    pictures = {lesion(seed, malignant, 48).tobytes() for seed in range(10) for malignant in (False, True)}
    assert len(pictures) == 20


def test_a_lesion_lies_darker_in_the_middle_of_lit_skin():
    for seed in range(12):
        grey = cv2.cvtColor(lesion(seed, seed % 2 == 0, 128), cv2.COLOR_RGB2GRAY).astype(float)
        y, x = np.hypot(*np.mgrid[-1:1:128j, -1:1:128j]), grey
        assert x[y < 0.15].mean() < np.median(x[(y > 0.65) & (y < 0.8)]) - 10


@pytest.mark.parametrize("arguments", [{"size": 31}, {"size": 0}, {"seed": -1}])
def test_impossible_pictures_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        lesion(**({"seed": 0, "malignant": True} | arguments))


def describe(pixels):
    """Colours inside the lesion and the shape of its border, as used by the ABCD rule."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[9:-9, 9:-9]
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.5)
    mask = (light < (np.percentile(light, 2) + np.percentile(light, 85)) / 2).astype(np.uint8)
    outline = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
    area, length = cv2.contourArea(outline) + 1, cv2.arcLength(outline, True)
    hull = cv2.contourArea(cv2.convexHull(outline)) + 1
    quantiles = [np.percentile(lab[..., channel], [1, 5, 15, 30, 50, 80, 95]) for channel in range(3)]
    histograms = [np.histogram(lab[..., channel], 24, (0, 255))[0] for channel in range(3)]
    return np.concatenate([*quantiles, *histograms, [area, length**2 / area, area / hull]])


@pytest.mark.slow
def test_the_label_can_be_learnt_from_several_cues_but_not_from_brightness():
    labels = np.arange(300) % 2
    pictures = [lesion(5000 + i, bool(label), 72) for i, label in enumerate(labels)]
    features = np.array([describe(pixels) for pixels in pictures])
    forest = RandomForestClassifier(120, min_samples_leaf=2, random_state=0).fit(features[:200], labels[:200])
    auc = roc_auc_score(labels[200:], forest.predict_proba(features[200:])[:, 1])
    assert 0.8 < auc < 0.995
    brightness = roc_auc_score(labels, [pixels.mean() for pixels in pictures])
    border = roc_auc_score(labels, [(pixels[:5].mean() + pixels[-5:].mean()) for pixels in pictures])
    assert 0.3 < brightness < 0.7
    assert 0.4 < border < 0.6


@pytest.mark.slow
def test_dataset_writes_a_balanced_tree(tmp_path):
    root = dataset(tmp_path / "data", count=21, seed=4, size=40)
    counts = {f"{p.parent.name}/{p.name}": len(list(p.glob("*.png"))) for p in root.glob("*/*")}
    assert counts == {"train/benign": 9, "test/benign": 2, "train/malignant": 8, "test/malignant": 2}
    contents = [p.read_bytes() for p in sorted(root.rglob("*.png"))]
    assert len(set(contents)) == 21
    again = dataset(tmp_path / "again", count=21, seed=4, size=40)
    assert [p.read_bytes() for p in sorted(again.rglob("*.png"))] == contents
    other = dataset(tmp_path / "other", count=21, seed=5, size=40)
    assert not set(contents) & {p.read_bytes() for p in other.rglob("*.png")}
    with pytest.raises(ValueError, match="Received: count=3"):
        dataset(tmp_path / "few", count=3)


@pytest.mark.slow
def test_it_needs_no_tensorflow():
    code = "import sys, aiderm_trainer.data.synthetic; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode == 0
