"""The response to two images of one lesion."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from aiderm_api.schemas import Assessment
from aiderm_api.serving.comparison import ADVICE, describe_comparison, overlay_uri
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.change import LesionChange
from aiderm_core.decision import Reason
from aiderm_core.imaging.geometry import Region
from aiderm_core.outline import Measure

DOCUMENT = json.loads((Path(__file__).parents[3] / "clients" / "openapi.json").read_text("utf-8"))
EXAMPLES = DOCUMENT["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
TRIANGLE = np.array([[1.0, 1.0], [9.0, 1.0], [5.0, 8.26]])


def change(**fields):
    """The change of a lesion that looks the same in both images, with ``fields`` replaced."""
    usual = {
        "obstacles": (),
        "matrix": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        "scale": 1.0,
        "rotation": 0.0,
        "matched": "texture",
        "growth": Measure(1.0, -5.0, 7.0),
        "colour": Measure(1.0, 0.0, 3.0),
        "appeared": (),
        "vanished": (),
        "outlines": (TRIANGLE, TRIANGLE + 1),
        "changed": False,
    }
    return LesionChange(**usual | fields)


@pytest.fixture(scope="module")
def manifest(models_root):
    return Manifest.load(models_root / "melanoma" / "1")


@pytest.fixture
def told(manifest):
    def tell(found, *names):
        images = tuple(Assessment.model_validate(EXAMPLES[name]["value"]) for name in names or ("low_suspicion", "uncertain"))
        return describe_comparison(found, images, None, manifest)

    return tell


@pytest.mark.parametrize(
    ("found", "result", "reasons", "said"),
    [
        ({}, "no_change_found", ["no_change"], "No change was found"),
        (
            {"changed": True, "growth": Measure(23.4, 12.2, 35.1)},
            "changed",
            ["growth"],
            "covers 23% more skin than before (95% interval: 12% to 35%)",
        ),
        (
            {"changed": True, "growth": Measure(-20.0, -31.0, -11.0), "colour": Measure(7.0, 1.0, 13.0), "appeared": ("black",)},
            "changed",
            ["growth", "colour"],
            "covers 20% less skin than before (95% interval: 11% to 31%)",
        ),
        (
            {"changed": True, "colour": Measure(7.0, 1.0, 13.0), "vanished": ("white",)},
            "changed",
            ["colour"],
            "Colours that vanished: white.",
        ),
        ({"obstacles": (Reason("focus", "Blurred."),)}, "not_comparable", ["focus"], "Blurred."),
    ],
)
def test_results_and_their_reasons(told, found, result, reasons, said):
    answer = told(change(**found))
    assert (answer.result, [reason.code for reason in answer.reasons]) == (result, reasons)
    assert said in answer.reasons[0].text
    assert answer.advice == ADVICE[result]
    numbers = (answer.growth, answer.colour_change, answer.colours, answer.registration, answer.outlines)
    assert [number is None for number in numbers] == [result == "not_comparable"] * 5
    if answer.registration is not None:
        assert (answer.registration.matrix[0], answer.registration.based_on) == ((1.0, 0.0, 0.0), "texture")
        assert answer.outlines.later[2] == (6.0, 9.3)


def test_every_advice_names_the_doctor_and_a_suspicious_image_outweighs_the_comparison(told):
    assert all("doctor" in text for text in ADVICE.values())
    for found in (change(), change(obstacles=(Reason("focus", "Blurred."),)), None):
        advice = told(found, "low_suspicion", "suspicious").advice
        assert "suspicious on its own" in advice
        assert "Show this spot to a doctor" in advice
    same = told(None)
    assert (same.result, same.reasons[0].code, same.advice) == ("not_comparable", "same_file", ADVICE["not_comparable"])


def drawn(*arguments):
    uri = overlay_uri(*arguments)
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_the_later_image_is_laid_where_it_lies_on_the_earlier_one():
    """A dot at (150, 110) in the later upright image appears at (140, 130) in the earlier one, at twice the size."""
    region = Region(100, 0, 200, 200)
    later = np.zeros((100, 100, 3), np.uint8)  # half of the region's pixels
    later[53:57, 23:27] = (255, 128, 0)  # RGB, around (25, 55): 150, 110 in the upright image
    overlay = drawn(change(matrix=np.array([[2.0, 0.0, -160.0], [0.0, 2.0, -90.0]])), later, region, region)
    assert overlay.shape == (200, 200, 4)
    y, x = np.nonzero(overlay[..., 2] > 127)
    assert (x.mean() + 0.5, y.mean() + 0.5) == (40, 130)
    assert len(x) == pytest.approx(16**2, rel=0.1)
    assert overlay[130, 40].tolist() == [0, 128, 255, 255]
    moved = drawn(change(matrix=np.array([[1.0, 0.0, 50.0], [0.0, 1.0, 0.0]])), later, region, region)
    assert (moved[100, :49, 3].max(), moved[100, 52:199, 3].min()) == (0, 255)  # transparent where the later image has no pixels
    assert overlay_uri(change(obstacles=(Reason("focus", "Blurred."),)), later, region, region) is None


def test_a_large_region_is_drawn_at_448_pixels():
    scaled = change(matrix=np.array([[1 / 3, 0.0, 0.0], [0.0, 1 / 3, 0.0]]))
    overlay = drawn(scaled, np.zeros((448, 448, 3), np.uint8), Region(0, 0, 1000, 1000), Region(0, 0, 3000, 3000))
    assert overlay.shape == (448, 448, 4)
    assert (overlay[1:-1, 1:-1, 3] == 255).all()
