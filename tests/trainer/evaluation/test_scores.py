import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aiderm_core.bundle.manifest import Input, Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.quality import measurements
from aiderm_core.runtime import Outputs, check_batch, load_runtime
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import Scores, ScoringError, score_bundle

SPEC = Input(size=64)


class MeanColour:
    """A runtime whose malignancy is the mean red, which shows which image it got."""

    name, precision = "mean", "f32"

    def __init__(self, novelty=1.0):
        self.sizes, self.novelty = [], novelty

    def run(self, batch, hint="latency"):
        check_batch(batch, SPEC.size)
        self.sizes.append(len(batch))
        red = batch[..., 0].mean(axis=(1, 2), dtype=np.float64).astype(np.float32) / 255
        probability = np.stack([red, 1 - red], axis=1)
        return Outputs(probability, red, np.zeros((len(batch), 2, 2), np.float32), np.full(len(batch), self.novelty, np.float32))


@pytest.fixture
def pictures(tmp_path):
    """Seven images of different sizes, with their rows."""
    rows = []
    for i in range(7):
        pixels = lesion(i, malignant=bool(i % 2), size=120)
        pixels = cv2.copyMakeBorder(pixels, 0, 0, 10 * i, 10 * i, cv2.BORDER_REPLICATE)
        data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
        (tmp_path / f"{i}.png").write_bytes(data)
        rows.append(Row(hashlib.sha256(data).hexdigest(), f"{i}.png", "a", f"g{i}", "test", "", bool(i % 2)))
    return tmp_path, rows


@pytest.mark.parametrize("batch", [1, 3, 7, 32])
def test_scores_are_those_of_the_serving_path_in_the_rows_order_whatever_the_batch(pictures, batch):
    root, rows = pictures
    runtime = MeanColour()
    scores = score_bundle(runtime, SPEC, rows, root, batch, progress=False)
    assert scores.rows == rows
    assert sum(runtime.sizes) == 7
    assert max(runtime.sizes) == min(batch, 7)
    for i in range(7):
        pixels = decode_image((root / f"{i}.png").read_bytes()).pixels
        region = crop(pixels, assessed_region(pixels.shape[1], pixels.shape[0]))
        assert scores.malignancy[i] == pytest.approx(to_model_input(pixels, SPEC.size)[..., 0].mean() / 255, abs=1e-6)
        assert scores.probability[i] == pytest.approx([scores.malignancy[i], 1 - scores.malignancy[i]], abs=1e-6)
        assert scores.measures[i] == measurements.measure(region)


def test_every_image_that_cannot_be_scored_is_counted_and_the_first_are_named(pictures):
    root, rows = pictures
    (root / "1.png").unlink()
    (root / "2.png").write_bytes(b"GIF89a, says the text")
    noise = b"no picture at all"
    (root / "3.png").write_bytes(noise)
    rows[3] = replace(rows[3], sha256=hashlib.sha256(noise).hexdigest())
    with pytest.raises(ScoringError) as caught:
        score_bundle(MeanColour(), SPEC, rows, root, 2, progress=False)
    text = str(caught.value)
    assert text.startswith("3 of 7 images")
    assert "1.png: No such file" in text
    assert "2.png: another file than the table's" in text
    assert "3.png: unsupported_type" in text


def test_a_long_list_of_problems_is_cut_but_counted(pictures):
    root, rows = pictures
    missing = [replace(row, path=f"gone/{row.path}") for row in rows]
    with pytest.raises(ScoringError, match=r"7 of 7 .* and 2 more$"):
        score_bundle(MeanColour(), SPEC, missing, root, progress=False)


def test_an_answer_that_is_no_number_is_refused(pictures):
    root, rows = pictures
    with pytest.raises(ScoringError, match="novelty is not finite for 7 of 7"):
        score_bundle(MeanColour(novelty=np.nan), SPEC, rows, root, progress=False)


def test_no_rows_and_no_batch_are_refused(pictures):
    root, rows = pictures
    with pytest.raises(ScoringError, match="no rows"):
        score_bundle(MeanColour(), SPEC, [], root)
    with pytest.raises(ValueError, match="batch"):
        score_bundle(MeanColour(), SPEC, rows, root, batch=0)


def test_the_bar_is_drawn_on_standard_error_only(pictures, capsys):
    root, rows = pictures
    score_bundle(MeanColour(), SPEC, rows, root)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "7/7" in captured.err


def test_take_picks_rows_with_all_that_belongs_to_them(sample_scores):
    scores = sample_scores(10)
    taken = scores.take([7, 2])
    assert taken.rows == [scores.rows[7], scores.rows[2]]
    assert taken.malignancy.tolist() == [scores.malignancy[7], scores.malignancy[2]]
    assert taken.probability.shape == (2, scores.probability.shape[1])
    assert len(taken.measures) == 2


def test_scores_of_unlike_lengths_are_refused(sample_scores):
    good = sample_scores(4)
    with pytest.raises(ValueError, match="lengths"):
        Scores(good.rows[:3], good.probability, good.malignancy, good.novelty, good.measures)


def test_a_real_bundle_is_scored_through_its_runtime(pictures, make_bundle, tmp_path):
    root, rows = pictures
    bundle = make_bundle(tmp_path / "models", classes=2)
    scores = score_bundle(load_runtime("openvino", bundle, threads=1), Manifest.load(bundle).input, rows, root, 3, progress=False)
    colour = score_bundle(MeanColour(), SPEC, rows, root, progress=False)
    assert scores.malignancy == pytest.approx(colour.malignancy, abs=1e-4)  # this bundle's malignancy is the mean red as well
    assert scores.probability[:, 0] == pytest.approx(scores.malignancy, abs=1e-5)
    assert np.isfinite(scores.novelty).all()
