"""Compares two photographs of one lesion: reports what has changed, or why they cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.assess import ImageAssessment
from aiderm_core.change import colour
from aiderm_core.change.growth import log_growth, outer_line
from aiderm_core.change.registration import (
    SIDE,
    Alignment,
    Mask,
    Matrix,
    align,
    mask_onto,
    onto,
    scale_of,
    skin_around,
    structure,
)
from aiderm_core.decision import Decision, Reason
from aiderm_core.imaging.geometry import Region, to_model_input
from aiderm_core.outline import Measure, largest_piece

_EDGE: Final = 0.02  # largest share of an edge of the square that a lesion may touch
_SHARPNESS: Final = 30.0  # largest factor between the sharpness of the two photographs
_LIGHT: Final = 2.5  # largest factor between the light on the skin in the two, by channel
_SCALE: Final = 2.0  # largest factor between the camera distances
_CORRELATION: Final = 0.5  # least correlation of the skin's structure
_SKIN: Final = 0.15  # least mean weight of the skin, see ``skin_around``
_SURE_FEATURES: Final = 20  # features that must agree if the skin's correlation is too low
_OVERLAP: Final = 0.6  # least Dice coefficient of the outlines once aligned
_AGREE: Final = 0.5  # largest difference between the log growth from the outlines and that from the border's movement
_GROWTH_ERROR: Final = (0.02, 0.12, 0.012)
"""Half the width of the 95% interval of the log growth is the sum of three terms: a constant, a share of the log growth's
absolute value, and a share of (1 - correlation of the skin) / weight of the skin. The interval held the true value for 97% of 141
pairs with synthetic growth and for 95% of 222 pairs of views, all of validation images outlined by the model melanoma 6. It does
not allow for perspective, or for skin that is stretched at only one of the visits."""
_COLOUR_ERROR: Final = 11.0
"""In CIELAB units: two views of one image whose contrast and white balance differ by up to a fifth are closer than this in 95% of
222 pairs of validation images outlined by the model melanoma 6."""

_TEXTS: Final = {
    "rejected": "One of the pictures cannot be assessed.",
    "no_outline": "No spot stands out in one of the pictures.",
    "focus": "One of the pictures is much sharper than the other.",
    "lighting": "The light differs too much between the pictures.",
    "framing": "The spot reaches the edge of a picture, or too little skin around it is in both. Leave more skin around it.",
    "unmatched": "The two pictures do not fit together. They may show different spots.",
    "scale": "How near the camera was cannot be told: the skin around the spot shows too little that both pictures have.",
}
"""Codes of obstacles, each with its text for the reader."""


@dataclass(frozen=True)
class Photograph:
    """One of two photographs of a lesion.

    Attributes:
        pixels: the assessed square, uint8 ``[S, S, 3]`` RGB.
        probability: that each place lies inside the lesion, ``[h, h]``; None if the graph draws no outline.
        region: position of the square in the upright image.
        measures: values of ``quality.measurements.METRICS``.
        spacing: millimetres between the rows and between the columns of the upright image, if known.
        rejected: the image does not allow an assessment.
    """

    pixels: NDArray[np.uint8]
    probability: NDArray[np.float32] | None
    region: Region
    measures: Mapping[str, float]
    spacing: tuple[float, float] | None = None
    rejected: bool = False

    @classmethod
    def of(cls, found: ImageAssessment) -> Photograph:
        """Builds the photograph from an assessed image."""
        rejected = found.verdict.decision is Decision.REJECTED
        return cls(found.square, found.outline, found.region, found.measures, found.image.spacing, rejected)


@dataclass(frozen=True)
class LesionChange:
    """What has changed between two photographs.

    Attributes:
        obstacles: why they cannot be compared, see ``_TEXTS``; empty if they can.
        matrix: float64 ``[2, 3]``, from x and y in the later upright image to those in the earlier one.
        scale: scale factor of the matrix.
        rotation: rotation of the matrix in degrees, from x towards y.
        matched: basis of the scale: the skin's texture, or the pixel spacing that both files state.
        growth: change of the area in percent of the earlier one, with a 95% interval.
        colour: distance in CIELAB between the lesion's mean colours, relative to the skin, with a 95% interval.
        appeared: colours of ``outline.COLOURS`` that only the later one shows.
        vanished: colours that only the earlier one shows.
        outlines: float64 ``[K, 2]`` and ``[L, 2]``, the earlier and the later outline in pixels of the earlier upright image.
        changed: whether the interval of growth or colour excludes "no change"; None if they cannot be compared.
    """

    obstacles: tuple[Reason, ...]
    matrix: NDArray[np.float64] | None = None
    scale: float | None = None
    rotation: float | None = None
    matched: Literal["texture", "spacing"] | None = None
    growth: Measure | None = None
    colour: Measure | None = None
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    outlines: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    changed: bool | None = None


class _NotComparableError(Exception):
    """Carries the code of the obstacle."""


def compare(earlier: Photograph, later: Photograph) -> LesionChange:
    """Compares two photographs of one lesion."""
    try:
        return _compare(earlier, later)
    except _NotComparableError as obstacle:
        code = str(obstacle)
        return LesionChange((Reason(code, _TEXTS[code]),))


def _compare(earlier: Photograph, later: Photograph) -> LesionChange:
    _require(not (earlier.rejected or later.rejected), "rejected")
    first, second = _outline(earlier), _outline(later)
    if first is None or second is None:
        raise _NotComparableError("no_outline")
    _require(max(_at_edge(first), _at_edge(second)) <= _EDGE, "framing")
    _require(_apart(earlier.measures["sharpness"], later.measures["sharpness"]) <= _SHARPNESS, "focus")
    squares = [to_model_input(each.pixels, SIDE) for each in (earlier, later)]
    found = align(squares, (first, second))
    if found is None:
        raise _NotComparableError("unmatched")
    matrix, matched = _based_on(found, earlier, later, first)
    moved, weights = mask_onto(second, matrix), skin_around(first, second, matrix)
    areas = np.count_nonzero(first), np.count_nonzero(moved)
    _require(2 * int(np.count_nonzero(first & moved)) >= _OVERLAP * sum(areas), "unmatched")
    _require(float(weights.mean()) >= _SKIN, "framing")
    grown = log_growth(structure(squares[0]), onto(structure(squares[1]), matrix), (first, moved))
    _require(abs(math.log(areas[1] / areas[0]) - grown) <= _AGREE, "unmatched")
    growth = _growth(grown, found.correlation if matched == "texture" else None, float(weights.mean()))
    shown = onto(squares[1], matrix)
    skins = squares[0][weights > 0], shown[weights > 0]
    lights = colour.skin_light(skins[0]) / np.maximum(colour.skin_light(skins[1]), 1e-3)
    _require(max(float(lights.max()), 1.0) / min(float(lights.min()), 1.0) <= _LIGHT, "lighting")
    before, after = squares[0][first], colour.in_light_of(*skins, shown[moved])
    apart = colour.difference(before, after)
    difference = Measure(apart, max(0.0, apart - _COLOUR_ERROR), apart + _COLOUR_ERROR)
    upright = _upright(matrix, earlier.region, later.region)
    return LesionChange(
        obstacles=(),
        matrix=upright,
        scale=scale_of(upright),
        rotation=math.degrees(math.atan2(upright[1, 0], upright[0, 0])),
        matched=matched,
        growth=growth,
        colour=difference,
        appeared=colour.appeared(before, after),
        vanished=colour.appeared(after, before),
        outlines=(_drawn(first, earlier.region), _drawn(moved, earlier.region)),
        changed=not growth.low <= 0 <= growth.high or difference.low > 0,
    )


def _require(condition: bool, code: str) -> None:
    if not condition:
        raise _NotComparableError(code)


def _growth(log_ratio: float, correlation: float | None, skin: float) -> Measure:
    """The growth in percent. The interval is wider if the growth is large, or if the skin is scarce or fits badly."""
    fixed, relative, by_skin = _GROWTH_ERROR
    error = fixed + relative * abs(log_ratio) + (0.0 if correlation is None else by_skin * (1 - correlation) / skin)
    return Measure(*(100 * math.expm1(log_ratio + each) for each in (0, -error, error)))


def _outline(photograph: Photograph) -> Mask | None:
    if photograph.probability is None:
        return None
    return largest_piece(cv2.resize(photograph.probability, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) > 0.5)


def _at_edge(mask: Mask) -> float:
    """The largest share of one edge of the square that the lesion covers."""
    return float(max(edge.mean() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])))


def _apart(first: float, second: float) -> float:
    """The factor between two positive numbers, at least 1."""
    return max(first, second) / max(min(first, second), 1e-9)


def _based_on(
    found: Alignment, earlier: Photograph, later: Photograph, lesion: Mask
) -> tuple[Matrix, Literal["texture", "spacing"]]:
    """The similarity transform and the basis of its scale: the skin, or the files' pixel spacing if the skin does not fit."""
    _require(1 / _SCALE <= found.scale <= _SCALE, "scale")
    if found.correlation is not None and found.correlation >= _CORRELATION:
        return found.matrix, "texture"
    _require(found.features >= _SURE_FEATURES, "unmatched")
    if earlier.spacing is None or later.spacing is None:
        raise _NotComparableError("scale")
    sides = [
        math.sqrt(rows * columns) * width
        for (rows, columns), width in ((earlier.spacing, earlier.region.width), (later.spacing, later.region.width))
    ]
    factor = sides[1] / sides[0] / found.scale
    centre = np.argwhere(lesion).mean(axis=0)[::-1]
    scaled = found.matrix * factor
    scaled[:, 2] += (1 - factor) * centre
    return scaled, "spacing"


def _upright(matrix: Matrix, earlier: Region, later: Region) -> Matrix:
    """The same similarity transform between the upright images, where a pixel's centre lies at its index plus one half."""
    middle, out, into = np.eye(3), np.diag([earlier.width / SIDE, earlier.height / SIDE, 1]), np.eye(3)
    middle[:2, 2], out[:2, 2] = 0.5, (earlier.x, earlier.y)
    into[:2] = np.diag([later.width / SIDE, later.height / SIDE]) @ np.eye(2, 3) + [[0, 0, later.x], [0, 0, later.y]]
    whole = np.vstack([matrix, [0, 0, 1]])
    return np.asarray((out @ middle @ whole @ np.linalg.inv(middle) @ np.linalg.inv(into))[:2], np.float64)


def _drawn(mask: Mask, region: Region) -> NDArray[np.float64]:
    points = (outer_line(mask).astype(np.float64) + 0.5) / SIDE
    return np.asarray(points * (region.width, region.height) + (region.x, region.y), np.float64)
