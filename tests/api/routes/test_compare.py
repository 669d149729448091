"""POST /compare over real HTTP, with synthetic views of synthetic lesions."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.lesion_views import SIDE, encoded, grown, photograph, view

ROOT = Path(__file__).parents[3]
NUMBERS = ("growth", "colour_change", "colours", "registration", "outlines")


@pytest.fixture(scope="module")
def shipped(serve_once):
    """A client of a service with the shipped model, the only one here that draws outlines."""
    return serve_once(models_dir=ROOT / "models").client


def compare(client, *contents, query=""):
    answer = client.post(f"/compare{query}", files=[("files", content) for content in contents])
    assert answer.status_code == 200, answer.text
    return answer.json()


LESION = photograph("suspicious")
LATER = {
    "view": (view(LESION), "no_change_found", "no_change"),
    "grown": (view(grown(LESION, 1.2)), "changed", "growth"),
    "another lesion": (view(photograph("uncertain", seed=1)), "not_comparable", "unmatched"),
}


@pytest.mark.parametrize("name", LATER)
def test_what_has_changed(shipped, name):
    later, result, code = LATER[name]
    answer = compare(shipped, encoded(LESION), encoded(later))
    assert (answer["result"], [reason["code"] for reason in answer["reasons"]]) == (result, [code])
    assert answer["advice"].endswith("Show this spot to a doctor."), "the earlier image is suspicious alone"
    assert [answer[field] is None for field in NUMBERS] == [result == "not_comparable"] * len(NUMBERS)
    assert answer["overlay"] is None
    if answer["growth"] is not None:
        assert answer["growth"]["value"] == pytest.approx({"view": 0, "grown": 100 * (1.2**2 - 1)}[name], abs=6)
        registration = answer["registration"]
        assert (registration["scale"], registration["based_on"]) == (pytest.approx(1 / 1.04, abs=0.01), "texture")
        assert registration["rotation"] == pytest.approx(8, abs=0.5)
    else:
        alone = shipped.post("/predict", files={"file": encoded(later)}).json()
        same = ("decision", "malignancy", "novelty", "quality", "region")
        assert {field: answer["images"][1][field] for field in same} == {field: alone[field] for field in same}


def test_explain_lays_the_later_image_over_the_earlier_one(shipped):
    wide = cv2.copyMakeBorder(LESION, 0, 0, 100, 60, cv2.BORDER_REFLECT_101)
    answer = compare(shipped, encoded(wide), encoded(view(LESION)), query="?explain=true")
    region = answer["overlay_region"]
    assert region == answer["images"][0]["region"] == {"x": 80, "y": 0, "width": SIDE, "height": SIDE}
    overlay = cv2.imdecode(np.frombuffer(base64.b64decode(answer["overlay"].partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert overlay.shape == (SIDE, SIDE, 4)
    under, shown = wide[:, 80 : 80 + SIDE], overlay[..., 3] == 255
    shown[:, :20] = False  # here the earlier image shows skin beyond the later one's edge
    assert shown.mean() > 0.7
    apart = [np.abs(overlay[..., :3] / 1.03 - np.roll(under, shift, 1))[shown].mean() for shift in (0, 3, -3)]
    assert apart[0] < 0.7 * min(apart[1:]), "three pixels beside it fits less"
    inside = np.zeros((2, SIDE, SIDE + 160), np.uint8)
    for mask, line in zip(inside, answer["outlines"].values(), strict=True):
        cv2.fillPoly(mask, [np.array(line).astype(int)], 1)
    assert np.logical_and(*inside).sum() > 0.85 * np.logical_or(*inside).sum()
    assert all(image["heatmap"] and image["lesion"] for image in answer["images"])


def test_what_stands_in_the_way(client, forms):
    """Uses the tests' model, which draws no outline; blue 255 is above its novelty limit."""
    found = {
        "no_outline": compare(client, forms.png_of(230), forms.png_of(20)),
        "rejected": compare(client, forms.png_of(20), forms.png_of(20, 100, 255), query="?explain=true"),
        "same_file": compare(client, forms.png_of(20), forms.png_of(20), query="?explain=true"),
    }
    for code, answer in found.items():
        assert (answer["result"], [reason["code"] for reason in answer["reasons"]]) == ("not_comparable", [code])
        assert {answer[field] for field in (*NUMBERS, "overlay", "overlay_region")} == {None}
        assert "doctor" in answer["advice"]
    assert [image["decision"] for image in found["no_outline"]["images"]] == ["suspicious", "low_suspicion"]
    assert "suspicious on its own" in found["no_outline"]["advice"]
    metrics = client.get("/metrics").text
    assert 'aiderm_comparisons_total{model="melanoma",result="not_comparable",version="1"}' in metrics


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        (lambda png: [png], 400, "missing_file", "two images"),
        (lambda png: [png] * 3, 413, "too_large", "Allowed: 2"),
        (lambda png: [png, b"%PDF-1.7\n"], 415, "unsupported_type", "index 1"),
        (lambda png: [png[:150], png], 422, "truncated", "index 0"),
        (lambda png: [png, bytes(20_000_001)], 413, "too_large", "index 1"),
    ],
)
def test_refusals(client, forms, change, status, code, said):
    answer = client.post("/compare", files=[("files", content) for content in change(forms.png_of(230))])
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert said in answer.json()["detail"]
