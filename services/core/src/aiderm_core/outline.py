"""Outlines the lesion and measures its shape and colours: observations for a clinician, not scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.imaging.geometry import Region

SIDE: Final = 224
"""Side in pixels at which shapes are measured, so that images of any size can be compared."""
SMALLEST: Final = 0.002
"""Share of the square that a lesion must cover to be outlined."""
_ROUGH: Final = 0.7  # pixels by which the simplified line may deviate from the mask's; this halves the number of points
RATIOS: Final = ("area", "diameter", "border")
"""Measures whose error is a ratio; the error of the others is a difference."""

# The six colours of the ABCD rule of dermatoscopy (Nachbar et al., J. Am. Acad. Dermatol. 30, 551-559, 1994), at the sRGB
# values of Kasmi and Mokrani (IET Image Processing 10, 448-455, 2016).
COLOURS: Final = {
    "white": (197, 188, 217),
    "red": (118, 21, 17),
    "light_brown": (163, 82, 16),
    "dark_brown": (135, 44, 5),
    "blue_grey": (113, 108, 139),
    "black": (41, 31, 30),
}
PRESENT: Final = 0.05
"""Share of the lesion that a colour must cover to count as present."""


class Measure(NamedTuple):
    """A measured value and the interval that held the value of a hand-drawn outline for 95% of lesions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LesionOutline:
    """The outlined lesion of an image.

    Attributes:
        points: float ``[K, 2]``, x and y in pixels of the upright image; the closed line around the largest piece.
        measures: area, diameter, asymmetry and border, see ``shape``; if the pixel spacing is known, also ``area_mm2`` in
            square millimetres and ``diameter_mm`` in millimetres.
        colours: for each of ``COLOURS``, the share of the lesion's pixels that are nearest to it.
    """

    points: NDArray[np.float64]
    measures: dict[str, Measure]
    colours: dict[str, float]

    @property
    def present(self) -> list[str]:
        """The colours that cover ``PRESENT`` of the lesion or more, the largest share first."""
        return sorted((name for name in self.colours if self.colours[name] >= PRESENT), key=lambda name: -self.colours[name])


def measure_lesion(
    probability: NDArray[np.float32],
    square: NDArray[np.uint8],
    region: Region,
    errors: Mapping[str, tuple[float, float]],
    spacing: tuple[float, float] | None = None,
) -> LesionOutline | None:
    """Draws the outline of the lesion and measures what lies inside.

    Args:
        probability: that each place lies inside the lesion, ``[h, h]``.
        square: the assessed region, uint8 ``[S, S, 3]`` RGB.
        region: position of the square in the upright image.
        errors: for each measure, the 2.5% and 97.5% quantiles of the hand-drawn outline's value relative to the model's: the
            ratio for ``RATIOS``, the difference for the others.
        spacing: millimetres between the rows and between the columns of the upright image, if known. The intervals do not
            include its error.

    Returns:
        None if no piece covers ``SMALLEST`` of the square.
    """
    enlarged = cv2.resize(probability, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    mask = largest_piece(enlarged > 0.5)
    if mask is None:
        return None
    measures = {name: _with_interval(name, value, errors[name]) for name, value in shape(mask).items()}
    if spacing is not None:
        sides = (region.width * spacing[1], region.height * spacing[0])
        measures |= _in_millimetres(mask, sides, measures["area"], errors["diameter"])
    points = (cv2.approxPolyDP(_line(mask), _ROUGH, closed=True)[:, 0].astype(np.float64) + 0.5) / SIDE
    pixels = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA) if len(square) != SIDE else square
    return LesionOutline(
        points=points * (region.width, region.height) + (region.x, region.y),
        measures=measures,
        colours=colour_shares(pixels[mask]),
    )


def largest_piece(inside: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest connected piece of a mask with its holes filled; None if it covers less than ``SMALLEST``."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if len(stats) < 2:
        return None
    piece = (pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    lines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(piece, lines, -1, 1, cv2.FILLED)
    return piece > 0 if piece.mean() >= SMALLEST else None


def shape(mask: NDArray[np.bool_]) -> dict[str, float]:
    """Measures a lesion's shape.

    Args:
        mask: ``[S, S]``, True inside the lesion, one piece.

    Returns:
        ``area``: share of the square. ``diameter``: the longest distance between two points (maximum Feret diameter) as a
        share of the side. ``asymmetry``: the share of the area that has no counterpart when the lesion is mirrored about a
        principal axis, averaged over both axes, 0..1 (Stoecker et al., Comput. Med. Imaging Graph. 16, 191-197, 1992).
        ``border``: perimeter squared over 4 pi times the area (Golston et al., same volume, 199-203), of the smoothed line:
        1 for a circle.
    """
    side = len(mask)
    line = _line(mask).astype(np.float64)
    area = int(np.count_nonzero(mask))
    return {
        "area": area / mask.size,
        "diameter": min(_longest(line) / side, math.sqrt(2)),
        "asymmetry": _asymmetry(mask),
        "border": max(1.0, _smooth_perimeter(line) ** 2 / (4 * math.pi * area)),
    }


def colour_shares(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """For each of ``COLOURS``, the share of pixels, uint8 ``[K, 3]`` RGB, that are nearest to it in CIELAB."""
    reference = cv2.cvtColor(np.array([list(COLOURS.values())], np.uint8), cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    found = cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    nearest = ((found[:, None] - reference[None]) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(COLOURS)) / len(pixels)
    return dict(zip(COLOURS, shares.tolist(), strict=True))


def _line(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The outer line of a mask of one piece, ``[K, 2]`` x and y."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(max(lines, key=len)[:, 0], np.int32)


def _longest(line: NDArray[np.float64], width: float = 1.0, height: float = 1.0) -> float:
    """The longest distance between two points of a line of pixels, each ``width`` wide and ``height`` high."""
    hull = cv2.convexHull(line.astype(np.float32))[:, 0].astype(np.float64) * (width, height)
    return float(np.sqrt(((hull[:, None] - hull[None]) ** 2).sum(axis=2).max())) + math.sqrt(width * height)


def _in_millimetres(
    mask: NDArray[np.bool_], sides: tuple[float, float], area: Measure, error: tuple[float, float]
) -> dict[str, Measure]:
    """Area and diameter in millimetres; ``sides``: width and height of the whole mask in millimetres."""
    longest = _longest(_line(mask).astype(np.float64), sides[0] / len(mask), sides[1] / len(mask))
    return {
        "area_mm2": Measure(*(share * sides[0] * sides[1] for share in area)),
        "diameter_mm": Measure(longest, *(longest * each for each in error)),
    }


def _smooth_perimeter(line: NDArray[np.float64]) -> float:
    """Length of a closed line of pixels, smoothed over 7 pixels: a staircase of pixels is longer than the line it follows."""
    window = min(7, len(line))
    wrapped = np.concatenate([line[-(window // 2) :], line, line[: window // 2]]) if window > 1 else line
    smooth = np.stack([np.convolve(wrapped[:, i], np.ones(window) / window, "valid") for i in (0, 1)], axis=1)
    return float(np.hypot(*(smooth - np.roll(smooth, 1, axis=0)).T).sum()) + math.pi  # half a pixel outwards all around


def _asymmetry(mask: NDArray[np.bool_]) -> float:
    side = len(mask)
    y, x = np.nonzero(mask)
    centre = np.array([x.mean(), y.mean()])
    _, axes = np.linalg.eigh(np.cov(np.stack([x, y])) + np.eye(2) * 1e-9)
    # Rotate the principal axes onto the image's axes, and move the centroid to the middle.
    middle = np.array([side - 0.5, side - 0.5])
    turn = axes.T
    affine = np.hstack([turn, (middle - turn @ centre)[:, None]])
    straight = cv2.warpAffine(mask.astype(np.uint8) * 255, affine, (2 * side, 2 * side), flags=cv2.INTER_LINEAR) > 127
    area = max(1, int(np.count_nonzero(straight)))
    alone = [np.count_nonzero(straight & ~mirrored) / area for mirrored in (straight[::-1], straight[:, ::-1])]
    return float(np.mean(alone))


def _with_interval(name: str, value: float, error: tuple[float, float]) -> Measure:
    bounds = [value * each if name in RATIOS else value + each for each in error]
    least = 1.0 if name == "border" else 0.0
    most = math.inf if name == "border" else math.sqrt(2) if name == "diameter" else 1.0
    return Measure(value, *(min(max(bound, least), most) for bound in bounds))
