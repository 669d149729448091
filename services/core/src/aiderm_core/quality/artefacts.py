"""Detects artefacts on the skin or beside the lesion: hair, ruler ticks and pen marks. Each detector is classical image
processing on a square of 224 pixels and takes a fraction of a millisecond.
"""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.quality.lesion import Lesion

Plane = NDArray[np.uint8]

SIDE = 224
_HALF = SIDE // 2

# Hair is thin, and straight over many times its width.
_HAIR_KERNEL = 9  # wider than a hair
_HAIR_LENGTH = 20  # at half the side
# Steps (x, y) whose multiples make a straight line, 7 to 14 degrees apart. Lines are widened first, so a step may skip pixels.
_HAIR_STEPS = ((1, 0), (4, 1), (2, 1), (3, 2), (1, 1))  # of one octave; the other directions are its mirror images
_HAIR_ROWS = 14  # rows that a line may extend below its first
# A pixel belongs to a line if it stands out from the texture around it (skin furrows, a pigment network) or is strong by itself.
_HAIR_WINDOW = 31
_HAIR_RELATIVE = 3.0
_HAIR_LEVELS = (8, 40)
_BANDS = 4  # bands of rows that are packed into one 32-bit number, a byte each, during the search for lines

# Ruler: evenly spaced ticks in the outer part of the image.
_TICKS = 5
_TICK_KERNEL = 7
_TICK_VISIBLE = 16
_PITCHES = tuple(6 * 1.07**step for step in range(16))
# For each pitch, the offsets of the ticks from the first one, and those of the gaps.
_COMBS = [
    ([round(number * pitch) for number in range(1, _TICKS)], [round((number + 0.5) * pitch) for number in range(_TICKS - 1)])
    for pitch in _PITCHES
]
_BAND, _OPPOSITE_BAND = slice(4, 64), slice(SIDE - 64, SIDE - 4)  # four pixels from the side, where a dark rim ends

# Ink: optical density above the skin's. Melanin absorbs blue > green > red, blood absorbs green and blue > red, pens mostly red.
_INK_RED_OVER_BLUE = 0.08
_INK_OVER_BLUE = 0.30
_INK_DENSITY = 0.15
_INK_CHROMA = 16
_INK_VALUE = 50
_DENSITY_UNIT = 64  # an optical density of 1 takes 64 levels of a byte, centred on 128
_LOGARITHMS = np.log(np.maximum(np.arange(256), 1))

_SQUARE_KERNEL = np.ones((_HAIR_KERNEL, _HAIR_KERNEL), np.uint8)
_ROW_KERNEL = np.ones((1, _TICK_KERNEL), np.uint8)
_TICK_WIDTH = np.ones((1, 3), np.uint8)  # a tick may be a pixel off its expected position
_GROWTH = np.ones((5, 5), np.uint8)
_LEVELS_OF = np.clip(np.arange(256) * _HAIR_RELATIVE, *_HAIR_LEVELS).astype(np.uint8)


def hair_cover(luminance: Plane) -> float:
    """Share of the central disc that dark or light hair covers.

    Top-hats as in DullRazor (Lee et al. 1997, doi:10.1016/S0010-4825(97)00020-6) are followed by openings by line segments in
    all directions: what survives is straight for 40 pixels, unlike a pigment network.

    Args:
        luminance: uint8 ``[224, 224]``.
    """
    flags = np.zeros((_HALF, _HALF), np.uint8)
    for bit, lines in enumerate(_hats(luminance, _SQUARE_KERNEL)):
        half = cv2.resize(lines, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
        texture = cv2.blur(half, (_HAIR_WINDOW, _HAIR_WINDOW))
        flags |= (half > cv2.LUT(texture, _LEVELS_OF)).view(np.uint8) << np.uint8(bit)
    straight = straight_lines(flags)
    if straight is None:
        return 0.0
    disc = _mask(_HALF, 0.45)
    return cv2.countNonZero(flags & straight & disc) / cv2.countNonZero(disc)


def _hats(image: Plane, kernel: Plane) -> NDArray[np.uint8]:
    """Black-hat and top-hat, ``[2, H, W]``: by how much each pixel is darker or brighter than its surroundings."""
    found = np.empty((2, *image.shape), np.uint8)
    cv2.subtract(cv2.erode(cv2.dilate(image, kernel), kernel), image, found[0])
    cv2.subtract(image, cv2.dilate(cv2.erode(image, kernel), kernel), found[1])
    return found


def straight_lines(flags: Plane) -> Plane | None:
    """The union of openings by line segments of each of two planes; None if there is no line.

    The planes are widened by a pixel first. One octave of directions is enough, because each byte holds two bits each of the
    planes, their transposes and the mirror images of both. The four bytes of a number hold four bands of rows, each followed by
    the rows that its lines can reach. So one operation on a quarter of the plane covers all bands and directions.

    Args:
        flags: uint8 ``[112, 112]``, a bit for each plane; the result has the same layout.
    """
    wide = flags.copy()
    wide[:, 1:] |= flags[:, :-1]
    wide[1:] |= wide[:-1].copy()
    turned = wide | cv2.transpose(wide) << np.uint8(4)
    turned |= cv2.flip(turned, 1) << np.uint8(2)
    band = _HALF // _BANDS
    # Zeros at each row's end keep a line that leaves the plane from continuing in the next row.
    packed = np.zeros((band + _HAIR_ROWS, _HALF + _HAIR_LENGTH), np.uint32)
    in_bytes = packed.view(np.uint8).reshape(*packed.shape, _BANDS)
    for number in range(_BANDS):
        rows = turned[number * band :][: len(packed)]
        in_bytes[: len(rows), :_HALF, number] = rows
    bits, found = packed.ravel(), None
    for distances in _HAIR_DISTANCES:
        kept = bits
        for further in distances:  # a run of pixels and the same run further on make a longer one
            kept = kept[:-further] & kept[further:]
        if cv2.countNonZero(kept.view(np.int32)):
            for further in reversed(distances):
                longer = np.zeros(len(kept) + further, np.uint32)
                longer[: len(kept)] = kept
                longer[further:] |= kept
                kept = longer
            found = kept if found is None else found | kept
    if found is None:
        return None
    lines = found.view(np.uint8).reshape(in_bytes.shape)[:, :_HALF]
    straight = np.zeros_like(flags)
    for number in range(_BANDS):
        rows = straight[number * band :][: len(packed)]
        rows |= lines[: len(rows), :, number]
    straight |= cv2.flip(straight, 1) >> np.uint8(2)
    return np.asarray((straight | cv2.transpose(straight) >> np.uint8(4)) & np.uint8(3), np.uint8)


def _distances(x: int, y: int) -> list[int]:
    """Distances, in a packed plane, between the runs that make up a line of steps (x, y); each run is twice the one before."""
    count, length, found = round(_HAIR_LENGTH / math.hypot(x, y)) + 1, 1, []
    while length < count:
        further = min(length, count - length)
        found.append(further * (y * (_HALF + _HAIR_LENGTH) + x))
        length += further
    return found


_HAIR_DISTANCES = [_distances(x, y) for x, y in _HAIR_STEPS]


def ruler_contrast(luminance: Plane) -> float:
    """Contrast between five evenly spaced ticks and the gaps between them, 0..1 of the range of grey.

    For each pitch of 6 to 17 pixels, the contrast is that of the weakest tick minus that of the strongest gap.

    Args:
        luminance: uint8 ``[224, 224]``.
    """
    # Ticks lie along the image's four sides, at right angles to them. The bands of all four sides form one plane, with the ticks
    # as columns.
    turned = cv2.transpose(luminance)
    bands = np.concatenate([plane[rows] for plane in (luminance, turned) for rows in (_BAND, _OPPOSITE_BAND)])
    # The mean of four rows, with halves rounded to even, as OpenCV's INTER_AREA computes it; takes less than half the time.
    rows = _hats(bands, _ROW_KERNEL).reshape(-1, 4, SIDE).astype(np.uint16)
    sums = rows[:, 0] + rows[:, 1] + rows[:, 2] + rows[:, 3]
    visible = cv2.reduce((sums > 4 * _TICK_VISIBLE + 2).view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    sums = sums[visible[:, 0] >= _TICKS]
    if not len(sums):
        return 0.0
    ticks = ((sums + 1 + (sums >> 2 & 1)) >> 2).astype(np.uint8)
    # Transposed, so that a shift is a slice along the first axis.
    near = np.ascontiguousarray(cv2.dilate(ticks, _TICK_WIDTH).T)
    gaps = np.ascontiguousarray(ticks.T)
    best = _TICK_VISIBLE
    for after, between in _COMBS:
        width = SIDE - after[-1]
        weakest = near[:width]
        for at in after:
            weakest = np.minimum(weakest, near[at : at + width])
        if weakest.max() <= best:
            continue
        strongest = gaps[between[0] : between[0] + width]
        for at in between[1:]:
            strongest = np.maximum(strongest, gaps[at : at + width])
        best = max(best, int(cv2.subtract(weakest, strongest).max()))
    return best / 255 if best > _TICK_VISIBLE else 0.0


def ink_cover(square: Plane, lesion: Lesion | None) -> float:
    """Share of the round image that has a colour of pens and not of skin; the lesion is left out.

    Black ink cannot be told from shadow, so it is not counted.

    Args:
        square: uint8 ``[S, S, 3]`` RGB; it is measured at 112 pixels.
        lesion: its position, if known; otherwise the middle is left out.
    """
    small = square if len(square) == _HALF else cv2.resize(square, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
    channels = cv2.split(small)
    # Skin: for each channel, the median of the brighter half of the ring, because hair, rim and ink darken skin.
    ring = _ring()
    brighter = len(ring) * 3 // 4
    skin = [int(np.partition(channel.ravel().take(ring), brighter)[brighter]) for channel in channels]
    red, green, blue = (cv2.LUT(channel, _density(level)) for channel, level in zip(channels, skin, strict=True))
    most = cv2.max(red, green)
    picture = _disc(_HALF, 0.5)
    ink = (
        (cv2.subtract(red, blue) > round(_INK_RED_OVER_BLUE * _DENSITY_UNIT))
        & (cv2.subtract(most, blue) > round(_INK_OVER_BLUE * _DENSITY_UNIT))
        & (most > 128 + round(_INK_DENSITY * _DENSITY_UNIT))
        & picture
    )
    if not ink.any():
        return 0.0
    value = cv2.max(cv2.max(*channels[:2]), channels[2])
    chroma = cv2.subtract(value, cv2.min(cv2.min(*channels[:2]), channels[2]))
    ink &= (chroma >= _INK_CHROMA) & (value >= _INK_VALUE) & ~_left_out(lesion)
    return float(np.count_nonzero(ink) / np.count_nonzero(picture))


@cache
def _density(skin: int) -> Plane:
    """For each level, the optical density above the skin's, as a byte."""
    table = np.clip(128.5 + _DENSITY_UNIT * (math.log(max(skin, 1)) - _LOGARITHMS), 0, 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def _left_out(lesion: Lesion | None) -> NDArray[np.bool_]:
    if lesion is None:
        return _disc(_HALF, 0.3)
    grown = cv2.dilate(lesion.mask.view(np.uint8), _GROWTH)
    return np.asarray(cv2.resize(grown, (_HALF, _HALF), interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


@cache
def _ring() -> NDArray[np.intp]:
    """Flat indices, at half the side, of every third pixel of the ring near the image's rim."""
    return np.flatnonzero(_disc(_HALF, 0.48) & ~_disc(_HALF, 0.40))[::3]


@cache
def _mask(side: int, radius: float) -> Plane:
    return _disc(side, radius).view(np.uint8) * np.uint8(255)


@cache
def _disc(side: int, radius: float) -> NDArray[np.bool_]:
    y, x = np.ogrid[:side, :side]
    disc: NDArray[np.bool_] = np.hypot(x - (side - 1) / 2, y - (side - 1) / 2) <= radius * side
    disc.flags.writeable = False
    return disc
