"""Change between two synthetic photographs: no change is reported where there is none, and known growth is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.change import LesionChange, Photograph, compare
from aiderm_core.imaging.geometry import Region

SIDE = 224
RADIUS = 45.0


@cache
def noise(seed: int, fine: float, size: int = 2 * SIDE) -> np.ndarray:
    drawn = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32), (0, 0), fine)
    return drawn / drawn.std()


def photograph(
    seed: int = 1,
    *,
    growth: float = 0.0,
    turn: float = 0.0,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    light: tuple[float, float, float] = (1.0, 1.0, 1.0),
    blur: float = 0.0,
    texture: float = 6.0,
    lesion: tuple[int, int, int] = (110, 70, 50),
) -> Photograph:
    """A lesion whose area is larger by the share ``growth``, seen by a camera that is turned by ``turn`` degrees and shifted."""
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE].astype(np.float32) - (SIDE - 0.5)
    angle = np.arctan2(y, x)
    radius = RADIUS * np.sqrt(1 + growth) * (1 + 0.12 * np.cos(2 * angle + seed) + 0.06 * np.cos(3 * angle))
    inside = np.clip((radius - np.hypot(x, y)) / 3 + 0.5, 0, 1)[..., None]
    skin = np.array([205, 160, 140]) + texture * (noise(seed, 2.0) + noise(seed + 100, 5.0))[..., None]
    spot = np.array(lesion) + 10 * noise(seed + 200, 3.0)[..., None]
    scene = np.clip((skin * (1 - inside) + spot * inside) * light, 0, 255).astype(np.uint8)
    matrix = cv2.getRotationMatrix2D((SIDE - 0.5, SIDE - 0.5), turn, zoom)
    matrix[:, 2] += np.array(shift) - SIDE / 2
    pixels, mask = (cv2.warpAffine(each, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR) for each in (scene, inside))
    if blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    probability = cv2.resize(mask, (56, 56), interpolation=cv2.INTER_AREA)
    return Photograph(
        pixels, probability, Region(0, 0, SIDE, SIDE), {"sharpness": float(cv2.Laplacian(pixels, cv2.CV_64F).var())}
    )


def codes(found: LesionChange) -> list[str]:
    return [reason.code for reason in found.obstacles]


def test_a_photograph_does_not_differ_from_itself():
    found = compare(photograph(), photograph())
    assert codes(found) == []
    assert (found.scale, found.rotation, found.growth.value, found.colour.value) == pytest.approx((1, 0, 0, 0), abs=0.01)
    assert found.changed is False
    assert found.matched == "texture"
    assert (found.appeared, found.vanished) == ((), ())


@pytest.mark.parametrize("growth", [0.0, 0.1, 0.4])
def test_growth_is_measured_whatever_the_camera_did(growth):
    later = photograph(growth=growth, turn=70, zoom=1.1, shift=(6, -9), light=(0.9, 0.85, 0.95))
    found = compare(photograph(), later)
    assert codes(found) == []
    assert found.growth.value == pytest.approx(100 * growth, abs=5)
    assert found.growth.low <= 100 * growth <= found.growth.high
    assert found.scale == pytest.approx(1 / 1.1, abs=0.01)
    assert found.rotation == pytest.approx(70, abs=0.5)  # the scene was turned anticlockwise; back is clockwise
    assert found.changed is (growth > 0.05)


def test_later_and_earlier_swapped_give_the_reciprocal():
    one, other = photograph(), photograph(growth=0.2, turn=-25)
    forth, back = compare(one, other), compare(other, one)
    assert (1 + forth.growth.value / 100) * (1 + back.growth.value / 100) == pytest.approx(1, abs=0.03)
    assert forth.scale * back.scale == pytest.approx(1, abs=0.01)


def test_two_lesions_do_not_fit_together():
    assert codes(compare(photograph(1), photograph(2))) == ["unmatched"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rejected": True}, "rejected"),
        ({"probability": None}, "no_outline"),
        ({"probability": np.zeros((56, 56), np.float32)}, "no_outline"),
        ({"measures": {"sharpness": 1e6}}, "focus"),
        ({"probability": np.ones((56, 56), np.float32)}, "framing"),
    ],
)
def test_what_one_photograph_lacks_is_named(change, code):
    whole = photograph()
    for pair in ((whole, replace(whole, **change)), (replace(whole, **change), whole)):
        found = compare(*pair)
        assert codes(found) == [code]
        assert (found.changed, found.growth, found.colour, found.outlines) == (None, None, None, None)


def test_the_light_may_not_differ_too_much():
    assert codes(compare(photograph(), photograph(light=(0.5, 0.5, 0.5)))) == ["lighting"]
    assert codes(compare(photograph(), photograph(light=(1.0, 0.9, 0.55)))) == ["lighting"]


def test_bare_skin_does_not_tell_the_scale_but_spacing_does():
    bare, grown = photograph(texture=0.0), photograph(texture=0.0, zoom=1.15, turn=10)
    assert codes(compare(bare, grown)) == ["scale"]
    for spacing, growth in ((0.05, 15**2 / 100 + 30), (0.05 / 1.15, 0)):  # it really grew, or was only seen from nearer
        known = [replace(bare, spacing=(0.05, 0.05)), replace(grown, spacing=(spacing, spacing))]
        found = compare(*known)
        assert codes(found) == []
        assert found.matched == "spacing"
        assert found.growth.value == pytest.approx(growth, abs=3)
        assert found.scale == pytest.approx(spacing / 0.05, abs=0.001)


def test_too_little_skin_is_not_compared():
    near, beside = (photograph(zoom=1.7, shift=(at, at)) for at in (16, -16))
    assert codes(compare(near, beside)) == ["framing"]


def test_a_lesion_that_turns_dark_has_changed():
    found = compare(photograph(), photograph(turn=30, light=(0.9, 0.95, 0.85), lesion=(45, 35, 35)))
    assert codes(found) == []
    assert found.colour.low > 0
    assert found.changed is True
    assert found.appeared == ("black",)
    assert abs(found.growth.value) < 5


def test_positions_are_those_of_the_upright_images():
    one, other = photograph(), photograph(turn=90)
    regions = Region(100, 0, 448, 448), Region(0, 56, 112, 112)
    found = compare(replace(one, region=regions[0]), replace(other, region=regions[1]))
    assert found.scale == pytest.approx(4, abs=0.02)
    middle = found.matrix @ [56, 56 + 56, 1]
    assert middle == pytest.approx([100 + 224, 224], abs=1)
    for outline in found.outlines:
        assert outline.mean(axis=0) == pytest.approx([100 + 224, 224], abs=12)
        assert outline.max() - outline.min() < 448


@settings(max_examples=3, deadline=None)
@given(quarters=st.integers(1, 3), turn=st.integers(-180, 180), zoom=st.floats(0.9, 1.1))
def test_where_the_camera_was_changes_nothing(quarters, turn, zoom):
    later = photograph(growth=0.15, turn=turn, zoom=zoom)
    turned = replace(
        later, pixels=np.rot90(later.pixels, quarters).copy(), probability=np.rot90(later.probability, quarters).copy()
    )
    growth, again = compare(photograph(), later).growth, compare(photograph(), turned).growth
    assert growth.value == pytest.approx(again.value, abs=1)
    assert growth.low <= 15 <= growth.high
