"""The whole assessment with a runtime of given outputs, because no real graph can be made to break its contract."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_core.assess import BrokenOutputError, assess
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.limits import Limits
from aiderm_core.quality import measurements
from aiderm_core.runtime import Outputs

MODEL = Path(__file__).parents[2] / "models" / "melanoma"


class Answering:
    name, precision = "openvino", "f32"

    def __init__(self, probability, malignancy, novelty=0.0):
        self.outputs = Outputs(
            np.array([probability], np.float32), np.array([malignancy], np.float32), np.full((1, 7, 7), 0.5, np.float32),
            np.array([novelty], np.float32),
        )  # fmt: skip
        self.asked = []

    def run(self, batch, hint="latency"):
        self.asked.append((batch.shape, hint))
        return self.outputs


@pytest.fixture(scope="module")
def manifest():
    return Manifest.load(MODEL / (MODEL / "SERVING").read_text().strip())


@pytest.fixture(scope="module")
def picture(manifest):
    return (MODEL / manifest.version / manifest.golden.cases[0].path).read_bytes()


def assessed(manifest, picture, runtime, **options):
    return assess(picture, manifest=manifest, runtime=runtime, rule=manifest.decision, limits=Limits(), **options)


def spread(manifest, malignancy):
    """Probabilities whose malignant ones sum to ``malignancy``."""
    malignant = np.array([label.malignant for label in manifest.labels])
    return np.where(malignant, malignancy / malignant.sum(), (1 - malignancy) / (~malignant).sum())


def test_a_judgement_holds_everything_that_an_answer_needs(manifest, picture):
    runtime = Answering(spread(manifest, 0.9), 0.9)
    found = assessed(manifest, picture, runtime, before_inference=lambda: "throughput")
    size = manifest.input.size
    assert runtime.asked == [((1, size, size, 3), "throughput")]
    assert found.verdict.decision in ("suspicious", "uncertain")
    assert set(found.measures) == set(measurements.METRICS)
    assert (found.image.width, found.image.height) == cv2.imdecode(np.frombuffer(picture, np.uint8), 1).shape[1::-1]
    assert found.region.width == found.region.height == min(found.image.width, found.image.height)
    assert found.seconds.decode > 0
    assert min(found.seconds.quality, found.seconds.forward) > 0


def test_a_novel_picture_is_rejected(manifest, picture):
    found = assessed(manifest, picture, Answering(spread(manifest, 0.01), 0.01, novelty=manifest.novelty.limit * 2))
    assert (found.verdict.decision, found.verdict.reasons[0].code) == ("rejected", "novelty")


@pytest.mark.parametrize("broken", [(float("nan"), 0.0), (1.2, 0.0), (-0.2, 0.0), (0.5, float("inf"))])
def test_a_broken_answer_is_no_judgement(manifest, picture, broken):
    malignancy, novelty = broken
    with pytest.raises(BrokenOutputError, match="Received"):
        assessed(manifest, picture, Answering(spread(manifest, 0.5), malignancy, novelty))


def test_too_few_classes_are_no_judgement(manifest, picture):
    with pytest.raises(BrokenOutputError, match=f"expected {len(manifest.labels)}"):
        assessed(manifest, picture, Answering([0.5, 0.5], 0.5))


def test_what_cannot_be_decoded_never_reaches_the_graph(manifest):
    runtime = Answering(spread(manifest, 0.5), 0.5)
    with pytest.raises(ImageError, match="unsupported_type"):
        assessed(manifest, b"no picture", runtime)
    assert runtime.asked == []


def test_stopping_between_decoding_and_inference(manifest, picture):
    runtime = Answering(spread(manifest, 0.5), 0.5)

    def stop():
        raise KeyError("stop")

    with pytest.raises(KeyError):
        assessed(manifest, picture, runtime, before_inference=stop)
    assert runtime.asked == []
