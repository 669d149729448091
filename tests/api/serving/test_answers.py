"""Outputs that break the graph's contract are never passed on to clients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import dicom_files as files

from aiderm_api.serving.answers import describe
from aiderm_core.assess import BrokenOutputError, assess
from aiderm_core.bundle.manifest import Manifest, OutlineInfo
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Outputs


class Answering:
    """A runtime with given outputs, because no real graph can be made to break its contract."""

    name, precision = "openvino", "f32"

    def __init__(self, probability, malignancy, novelty=1.0, heatmap=0.5, outline=None):
        self.outputs = Outputs(
            np.array([probability], np.float32),
            np.array([malignancy], np.float32),
            np.full((1, 4, 4), heatmap, np.float32),
            np.array([novelty], np.float32),
            None if outline is None else np.array([outline], np.float32),
        )

    def run(self, batch, hint="latency"):
        assert batch.shape == (1, 64, 64, 3)
        return self.outputs


@pytest.fixture(scope="module")
def answer_to(models_root, forms):
    manifest = Manifest.load(models_root / "binary" / "1")

    png = forms.png_of(200, 255)

    def run(runtime, explain=False, manifest=manifest, image=png, **options):
        found = assess(image, manifest=manifest, runtime=runtime, rule=manifest.decision, limits=Limits(), **options)
        return describe(found, manifest, manifest.decision, explain=explain, tta=False, request_id="r")

    return run


@pytest.mark.parametrize(
    "broken",
    [
        Answering([0.5, 0.5], float("nan")),
        Answering([0.5, float("nan")], 0.5),
        Answering([0.5, 0.5], 1.2),
        Answering([-0.2, 1.2], 0.5),
        Answering([0.5, 0.5], 0.5, novelty=float("inf")),
        Answering([0.5, 0.5], 0.5, heatmap=float("nan")),
        Answering([0.5, 0.5], 0.5, outline=[[float("nan")] * 4] * 4),
        Answering([0.3, 0.3, 0.4], 0.5),
    ],
)
def test_broken_outputs_are_never_served(answer_to, broken):
    with pytest.raises(BrokenOutputError, match="Received"):
        answer_to(broken)


def test_rounding_is_no_fault(answer_to):
    assert answer_to(Answering([1.00001, 0.0], 1.00001)).malignancy.probability == 1.0


@given(malignancy=st.floats(0, 1, width=32), novelty=st.floats(0, 2000, width=32), heat=st.floats(0, 1, width=32))
@settings(max_examples=60, deadline=None)
def test_every_sound_output_gives_a_consistent_answer(answer_to, malignancy, novelty, heat):
    answer = answer_to(Answering([malignancy, 1 - malignancy], malignancy, novelty, heat), explain=True)
    rejected = answer.decision == "rejected"
    assert rejected == (novelty > 1000)
    assert (answer.malignancy is None) == (answer.heatmap is None) == (answer.classes == []) == rejected
    if not rejected:
        expected = "uncertain" if 0.4 <= malignancy <= 0.6 else "suspicious" if malignancy >= 0.5 else "low_suspicion"
        assert answer.decision == expected
        assert answer.classes[0].probability >= answer.classes[-1].probability
    assert answer.reasons


def test_the_lesion_is_described_where_the_model_outlines_it(answer_to, models_root):
    inside = np.zeros((16, 16), np.float32)
    inside[4:12, 4:12] = 1.0
    manifest = Manifest.load(models_root / "binary" / "1")
    exact = {"area": (0.9, 1.2), "diameter": (1, 1), "asymmetry": (0, 0), "border": (1, 1)}
    outlining = manifest.model_copy(update={"outline": OutlineInfo(errors=exact, images=40)})
    runtime = Answering([0.9, 0.1], 0.9, outline=inside)
    lesion = answer_to(runtime, explain=True, manifest=outlining).lesion
    assert lesion.area.value == pytest.approx(0.25, abs=0.02)
    assert (lesion.area.low, lesion.area.high) == pytest.approx((0.9 * lesion.area.value, 1.2 * lesion.area.value))
    assert np.mean(lesion.outline, axis=0) == pytest.approx([60, 60], abs=2)  # the middle of an image of 120 pixels
    assert sum(colour.share for colour in lesion.colours) == pytest.approx(1.0)
    assert (lesion.diameter_mm, lesion.area_mm2) == (None, None)
    plain = bytes([200, 255, 10]) * 200 * 150
    dicom = files.photograph(plain, 200, 150, PixelSpacing=[0.02, 0.05])
    measured = answer_to(runtime, explain=True, manifest=outlining, image=dicom).lesion
    assert measured.diameter_mm.value == pytest.approx(math.hypot(75 * 0.02, 75 * 0.05), rel=0.03)  # half of 150 pixels both ways
    assert measured.area_mm2.value == pytest.approx(lesion.area.value * 150 * 0.02 * 150 * 0.05)
    assert answer_to(runtime, explain=False, manifest=outlining).lesion is None
    assert answer_to(runtime, explain=True).lesion is None  # this manifest does not state how accurate outlines are
    rejected = answer_to(Answering([0.9, 0.1], 0.9, novelty=2000, outline=inside), explain=True, manifest=outlining)
    assert rejected.lesion is None


def test_work_stops_between_decoding_and_inference(answer_to):
    class NeverRun(Answering):
        def run(self, batch, hint="latency"):
            raise AssertionError("must not run")

    def stop():
        raise KeyError("stop")

    with pytest.raises(KeyError):
        answer_to(NeverRun([0.5, 0.5], 0.5), before_inference=stop)


def test_region_and_size_of_a_large_photo_are_those_of_the_whole(models_root, forms):
    manifest = Manifest.load(models_root / "binary" / "1")
    data = forms.encoded(
        forms.plain(90, 100, 10, 2600, 2000), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    )
    found = assess(data, manifest=manifest, runtime=Answering([0.2, 0.8], 0.2), rule=manifest.decision, limits=Limits())
    answer = describe(found, manifest, manifest.decision, explain=False, tta=False, request_id="r")
    assert (answer.image.width, answer.image.height) == (2000, 2600)
    assert answer.image.notes == ["oriented"]
    assert answer.region.model_dump() == {"x": 0, "y": 300, "width": 2000, "height": 2000}
    assert answer.quality.resolution == 2000
