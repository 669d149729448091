"""Hair, rulers and ink are measured where they lie, and nowhere else."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.quality.artefacts import hair_cover, ink_cover, ruler_contrast, straight_lines
from aiderm_core.quality.lesion import find_lesion

DISC = math.pi * (0.45 * 112) ** 2


def skin(seed: int = 0, level: int = 165, grain: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, grain, (224, 224)).astype(np.float32), (0, 0), 1.2)
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def line(plane: np.ndarray, angle: float, off: float, shade: int, half: float = 90.0, thickness: int = 2) -> None:
    x, y = math.cos(angle), math.sin(angle)
    middle = np.array([112 - off * y, 112 + off * x])
    ends = [tuple(round(float(v) * 16) for v in middle + sign * half * np.array([x, y])) for sign in (-1, 1)]
    cv2.line(plane, ends[0], ends[1], shade, thickness, cv2.LINE_AA, 4)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, math.pi), st.sampled_from([40, 235]), st.integers(0, 5))
def test_hair_is_found_in_any_direction_dark_or_light(angle: float, shade: int, seed: int) -> None:
    plane = skin(seed)
    for off in (-40, 0, 40):
        line(plane, angle, off, shade)
    # Three hairs two pixels wide, one to two at half the side; each is as long as its chord of the disc.
    chords = sum(2 * math.sqrt((0.45 * 112) ** 2 - (off / 2) ** 2) for off in (-40, 0, 40))
    assert 0.5 * chords / DISC < hair_cover(plane) < 2.5 * chords / DISC


def test_more_hair_is_more_cover() -> None:
    plane, covers = skin(), []
    for off in range(-80, 90, 20):
        line(plane, 0.5, off, 50)
        covers.append(hair_cover(plane))
    assert covers == sorted(covers)
    assert covers[-1] > 5 * covers[0] > 0


@pytest.mark.parametrize("seed", range(4))
def test_skin_spots_and_a_net_are_no_hair(seed: int) -> None:
    assert hair_cover(skin(seed)) < 0.003
    spots, rng = skin(seed), np.random.default_rng(seed)
    for x, y in rng.integers(20, 204, (25, 2)):
        cv2.circle(spots, (int(x), int(y)), int(rng.integers(2, 8)), 80, -1, cv2.LINE_AA)
    assert hair_cover(spots) < 0.003
    net = skin(seed)
    for x in range(60, 160, 9):
        for y in range(60, 160, 9):
            cv2.circle(net, (x + int(rng.integers(-1, 2)), y + int(rng.integers(-1, 2))), 5, 130, 1, cv2.LINE_AA)
    assert hair_cover(net) < 0.01


def openings(plane: np.ndarray) -> np.ndarray:
    """Reference: the union of the openings of a binary plane by lines of 20 pixels in 16 directions, computed by definition."""
    padded = np.pad(plane, 24)
    union = np.zeros_like(padded)
    octave = [(1, 0), (4, 1), (2, 1), (3, 2), (1, 1), (2, 3), (1, 2), (1, 4)]
    for x, y in octave + [(-y, x) for x, y in octave]:
        count = round(20 / math.hypot(x, y)) + 1
        shifts = [(number * y, number * x) for number in range(count)]
        starts = np.minimum.reduce([np.roll(padded, (-down, -across), (0, 1)) for down, across in shifts])
        union |= np.maximum.reduce([np.roll(starts, shift, (0, 1)) for shift in shifts])
    return union[24:-24, 24:-24]


@pytest.mark.parametrize("seed", range(4))
def test_straight_lines_are_the_openings_in_all_directions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes = (rng.random((2, 112, 112)) < 0.06 * (seed + 1)).astype(np.uint8)
    for plane in planes:
        for _ in range(12):
            start, end = ([int(value) for value in point] for point in rng.integers(-10, 122, (2, 2)))
            cv2.line(plane, start, end, 1, int(rng.integers(1, 3)))
    expected = [openings(cv2.dilate(plane, np.ones((2, 2), np.uint8))) for plane in planes]
    found = straight_lines(planes[0] | planes[1] << 1)
    assert found is not None
    assert np.array_equal(found & 1, expected[0])
    assert np.array_equal(found >> 1, expected[1])
    assert expected[0].any()
    assert expected[1].any()


def test_without_straight_lines_nothing_is_found() -> None:
    assert straight_lines(np.zeros((112, 112), np.uint8)) is None


def ruler(plane: np.ndarray, pitch: float, shade: int, along: int) -> np.ndarray:
    out = plane.copy()
    for number in range(int(200 / pitch)):
        x = round((8 + number * pitch) * 16)
        length = 14 if number % 5 == 0 else 8
        cv2.line(out, (x, 214 * 16), (x, (214 - length) * 16), shade, 1, cv2.LINE_AA, 4)
    return np.ascontiguousarray(np.rot90(out, along))


@pytest.mark.parametrize("along", range(4))
@pytest.mark.parametrize("pitch", [6.3, 8.0, 11.5, 15.2])
@pytest.mark.parametrize("shade", [40, 250])
def test_a_ruler_is_seen_on_each_side_at_each_pitch(pitch: float, shade: int, along: int) -> None:
    assert ruler_contrast(ruler(skin(1), pitch, shade, along)) > 0.1
    assert ruler_contrast(skin(1)) == 0


def test_a_fainter_ruler_has_less_contrast() -> None:
    values = [ruler_contrast(ruler(skin(2, grain=2), 9.0, shade, 0)) for shade in (20, 60, 100)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0


def test_uneven_lines_are_no_ruler() -> None:
    even = ruler_contrast(ruler(skin(3), 9.0, 40, 0))
    values = []
    for seed in range(9):
        plane = skin(3)
        for x in np.cumsum(np.random.default_rng(seed).uniform(4, 22, 12)):
            cv2.line(plane, (round(x), 214), (round(x), 204), 40, 1, cv2.LINE_AA)
        values.append(ruler_contrast(plane))
    assert np.median(values) < even / 3  # nearly even lines still give a weak contrast
    assert max(values) < even / 2


def coloured(pen: tuple[float, float, float] | None, lesion: tuple[int, int, int] = (110, 70, 60)) -> np.ndarray:
    """Skin with a lesion in the middle and a stroke whose optical density is ``pen`` beside it."""
    rng = np.random.default_rng(0)
    picture = np.array([205.0, 160.0, 140.0]) + cv2.GaussianBlur(rng.normal(0, 12, (224, 224)), (0, 0), 1.2)[..., None]
    cover = np.zeros((224, 224), np.uint8)
    cv2.circle(cover, (112, 112), 35, 255, -1)
    weight = cv2.GaussianBlur(cover, (0, 0), 3)[..., None] / 255
    picture = picture * (1 - weight) + np.array(lesion) * weight
    if pen is not None:
        stroke = np.zeros((224, 224), np.uint8)
        cv2.line(stroke, (30, 70), (120, 25), 255, 8)
        picture = picture * np.exp(-np.array(pen) * stroke[..., None] / 255)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("pen", [(0.75, 1.3, 0.25), (1.5, 0.8, 0.2), (1.4, 0.35, 0.9)], ids=["violet", "blue", "green"])
def test_pens_are_ink_beside_a_lesion_that_is_found_or_not(pen: tuple[float, float, float]) -> None:
    picture = coloured(pen)
    expected = 8 * math.hypot(90, 45) / (math.pi * 112**2)
    assert ink_cover(picture, find_lesion(picture)) == pytest.approx(expected, rel=0.35)
    assert ink_cover(picture, None) == pytest.approx(expected, rel=0.45)


@pytest.mark.parametrize(
    "lesion", [(110, 70, 60), (150, 40, 50), (60, 35, 30), (90, 90, 110)], ids=["brown", "red", "dark", "blue"]
)
def test_lesions_are_no_ink(lesion: tuple[int, int, int]) -> None:
    picture = coloured(None, lesion)
    assert ink_cover(picture, find_lesion(picture)) < 0.001


@pytest.mark.parametrize("shade", [(0.6, 0.9, 1.2), (0.2, 1.0, 0.9), (1.0, 1.0, 1.0)], ids=["melanin", "blood", "shadow"])
def test_what_skin_absorbs_with_is_no_ink(shade: tuple[float, float, float]) -> None:
    assert ink_cover(coloured(shade), None) == 0


def test_a_cast_of_the_light_is_no_ink() -> None:
    bluish = np.clip(coloured(None) * np.array([0.8, 0.95, 1.3]), 0, 255).astype(np.uint8)
    assert ink_cover(bluish, find_lesion(bluish)) < 0.001
