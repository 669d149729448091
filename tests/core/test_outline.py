"""Measures of known shapes, and lesions drawn in them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.imaging.geometry import Region
from aiderm_core.outline import COLOURS, SIDE, SMALLEST, colour_shares, largest_piece, measure_lesion, shape

MIDDLE = (SIDE - 1) / 2
EXACT = {"area": (1.0, 1.0), "diameter": (1.0, 1.0), "asymmetry": (0.0, 0.0), "border": (1.0, 1.0)}


def polar(radius, centre=(MIDDLE, MIDDLE)):
    """The mask of the region inside a line, which is given as a function from angle to radius."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    line = np.stack([centre[0] + radius(angles) * np.cos(angles), centre[1] + radius(angles) * np.sin(angles)], axis=1)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.rint(line).astype(np.int32)], 1)
    return mask > 0


def ellipse(angles, long=80.0, short=40.0, turn=0.0):
    return long * short / np.hypot(short * np.cos(angles - turn), long * np.sin(angles - turn))


def test_a_disc_has_the_measures_of_a_circle():
    found = shape(polar(lambda a: np.full_like(a, 60.0)))
    assert found["area"] == pytest.approx(math.pi * 60**2 / SIDE**2, rel=0.02)
    assert found["diameter"] == pytest.approx(120 / SIDE, rel=0.02)
    assert found["asymmetry"] < 0.02
    assert found["border"] == pytest.approx(1.0, abs=0.03)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, math.pi))
def test_an_ellipse_measures_the_same_however_it_is_turned(turn):
    found = shape(polar(lambda a: ellipse(a, turn=turn)))
    assert found["area"] == pytest.approx(math.pi * 80 * 40 / SIDE**2, rel=0.03)
    assert found["diameter"] == pytest.approx(160 / SIDE, rel=0.02)
    assert found["asymmetry"] < 0.04
    assert found["border"] == pytest.approx(1.19, abs=0.05)  # for an ellipse with axes of 2:1


def test_notches_raise_the_border_and_a_bulge_the_asymmetry():
    round_, notched = shape(polar(lambda a: np.full_like(a, 60.0))), shape(polar(lambda a: 60 * (1 + 0.2 * np.sin(9 * a))))
    assert notched["border"] > round_["border"] + 0.8
    bulging = shape(polar(lambda a: 55 * (1 + 0.35 * np.cos(a) ** 9)))
    assert bulging["asymmetry"] > round_["asymmetry"] + 0.03


def test_the_largest_piece_is_taken_and_its_holes_are_filled():
    mask = polar(lambda a: np.full_like(a, 40.0))
    whole = mask.copy()
    mask[100:110, 100:110] = False
    mask[5:15, 5:15] = True
    assert np.array_equal(largest_piece(mask), whole)
    speck = np.zeros((SIDE, SIDE), bool)
    speck[: int(SIDE * SMALLEST), :10] = True
    assert largest_piece(speck) is None
    assert largest_piece(np.zeros((SIDE, SIDE), bool)) is None


def test_each_colour_is_nearest_to_itself():
    for name, colour in COLOURS.items():
        assert colour_shares(np.full((7, 3), colour, np.uint8))[name] == 1.0
    both = np.array([COLOURS["red"]] * 3 + [COLOURS["black"]], np.uint8)
    assert colour_shares(both) == {**dict.fromkeys(COLOURS, 0.0), "red": 0.75, "black": 0.25}


def test_the_outline_lies_in_the_upright_image_with_what_was_measured():
    probability = cv2.resize(polar(lambda a: np.full_like(a, 60.0)).astype(np.float32), (56, 56), interpolation=cv2.INTER_AREA)
    square = np.full((SIDE, SIDE, 3), COLOURS["white"], np.uint8)
    square[polar(lambda a: np.full_like(a, 64.0))] = COLOURS["dark_brown"]
    errors = {**EXACT, "area": (0.8, 1.3), "asymmetry": (-0.5, 0.1)}
    found = measure_lesion(probability, square, Region(75, 0, 450, 450), errors)
    assert np.allclose(found.points.mean(axis=0), (75 + 225, 225), atol=4)
    assert np.ptp(found.points, axis=0) == pytest.approx([120 / SIDE * 450] * 2, rel=0.05)
    assert len(found.points) < 120
    area, asymmetry = found.measures["area"], found.measures["asymmetry"]
    assert (area.low, area.high) == pytest.approx((0.8 * area.value, 1.3 * area.value))
    assert asymmetry.low == 0.0  # nothing is more symmetric than 0
    assert asymmetry.high == pytest.approx(asymmetry.value + 0.1)
    assert found.present == ["dark_brown"]


@pytest.mark.parametrize("spacing", [(0.02, 0.02), (0.02, 0.05)])  # between rows, between columns
def test_millimetres_where_the_size_of_a_pixel_is_known(spacing):
    probability = polar(lambda a: ellipse(a, long=30, short=80)).astype(np.float32)
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    region, errors = Region(75, 0, 450, 450), {**EXACT, "area": (0.8, 1.3), "diameter": (0.9, 1.2)}
    measures = measure_lesion(probability, square, region, errors, spacing).measures
    pixel = 450 / SIDE
    across, down = 60 * pixel * spacing[1], 160 * pixel * spacing[0]
    assert measures["diameter_mm"] == pytest.approx(np.multiply(max(across, down), (1, 0.9, 1.2)), rel=0.03)
    assert measures["area_mm2"] == pytest.approx(np.multiply(math.pi * across * down / 4, (1, 0.8, 1.3)), rel=0.03)
    assert set(measure_lesion(probability, square, region, errors).measures) == set(EXACT)


def test_without_a_lesion_nothing_is_measured():
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert measure_lesion(np.full((56, 56), 0.2, np.float32), square, Region(0, 0, 224, 224), EXACT) is None
