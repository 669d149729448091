"""Draws artefacts of cameras and clinics on the assessed region, to measure how they change a model's answers.

This is not the augmentation of training: shapes, code and ranges differ, so that a model is not tested on what it was taught.
Each function takes uint8 ``[S, S, 3]`` RGB and a generator and returns the same shape. Hiding the lesion would change the
question, so ruler, ink and colour patch stay off the middle of the image; hair and bubbles may cross it, as in real images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Artefact = Callable[[Pixels, np.random.Generator], Pixels]

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates: lines are smoother than with whole pixels
_CLEAR = 0.27  # share of the side: radius around the middle that covering artefacts leave free
REFERENCE_SIDE = 224  # blur is stated in pixels at this side


def apply(name: str, pixels: Pixels, sha256: str) -> Pixels:
    """Adds one artefact; the same image always gets the same one.

    Args:
        name: a key of ``ARTEFACTS``.
        pixels: uint8 ``[S, S, 3]`` RGB.
        sha256: checksum of the image's file, used as the seed.

    Raises:
        ValueError: an unknown name, or pixels of the wrong shape or type.
    """
    if name not in ARTEFACTS:
        raise ValueError(f"artefact must be one of {', '.join(ARTEFACTS)}. Received: {name!r}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.shape[0] != pixels.shape[1] or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 [S, S, 3]. Received: {pixels.dtype} {list(pixels.shape)}")
    rng = np.random.default_rng([int(sha256[:15], 16), sum(map(ord, name))])
    return ARTEFACTS[name](pixels, rng)


def _round_border(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The dark rim of a round dermatoscope, slightly off centre, with a sharp or a fading edge."""
    side = len(pixels)
    centre = (side - 1) / 2 + rng.normal(0, 0.012 * side, 2)
    y, x = np.ogrid[:side, :side]
    distance = np.hypot(x - centre[0], y - centre[1]).astype(np.float32)
    radius, edge = side * rng.uniform(0.46, 0.54), side * rng.uniform(0.004, 0.04)
    light = np.clip((radius - distance) / edge + 0.5, 0, 1)[..., None]
    rim = rng.uniform(0, 22) * np.array([1.0, rng.uniform(0.8, 1), rng.uniform(0.75, 1)], np.float32)
    return _rounded(pixels * light + rim.astype(np.float32) * (1 - light))


def _ruler(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A millimetre scale along one side: short ticks, every fifth one long, sometimes with numbers."""
    side = len(pixels)
    cover = np.zeros((side, side), np.uint8)
    pitch, start = side * rng.uniform(0.028, 0.065), side * rng.uniform(0.0, 0.05)
    depth = side * rng.uniform(0.90, 0.965)
    short, long = side * rng.uniform(0.02, 0.035), side * rng.uniform(0.04, 0.065)
    thickness = max(1, round(side * rng.uniform(0.003, 0.007)))
    for number in range(int((side - start) / pitch) + 1):
        x = start + number * pitch
        length = long if number % 5 == 0 else short
        _line(cover, (x, depth), (x, depth - length), thickness)
    if rng.random() < 0.5:
        _line(cover, (0, depth), (side, depth), thickness)
    if rng.random() < 0.6:
        for number in range(0, int((side - start) / pitch) + 1, 10):
            place = (round(start + number * pitch + 0.01 * side), round(depth - long))
            cv2.putText(cover, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, side / 600, 255, 1, cv2.LINE_AA)
    return _cover(pixels, _turned(cover, rng, 6), _grey(rng.choice([18, 30, 235])), rng.uniform(0.7, 0.95))


def _ink(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Marks of a surgical pen around the lesion: arcs, dashes or dots that darken what they lie on."""
    side = len(pixels)
    cover = np.zeros((side, side), np.uint8)
    thickness = max(2, round(side * rng.uniform(0.012, 0.03)))
    middle = side / 2
    for _ in range(rng.integers(1, 4)):
        angle, radius = rng.uniform(0, 360), side * rng.uniform(_CLEAR + 0.1, 0.5)
        axes, centre = (round(radius), round(radius * rng.uniform(0.94, 1.06))), (round(middle), round(middle))
        if rng.random() < 0.6:
            cv2.ellipse(cover, centre, axes, angle, 0, rng.uniform(18, 85), 255, thickness, cv2.LINE_AA)
        else:
            for dot in range(rng.integers(2, 6)):
                phi = math.radians(angle + 12 * dot)
                place = (round(middle + radius * math.cos(phi)), round(middle + radius * math.sin(phi)))
                cv2.circle(cover, place, thickness, 255, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(cover, (0, 0), max(0.5, side * 0.004))
    density = (soft.astype(np.float32) / 255 * rng.uniform(0.6, 1.4))[..., None]
    # Optical density in red, green, blue: violet, blue, green and black pens.
    pen = np.array([(0.55, 1.3, 0.25), (1.5, 0.8, 0.2), (1.4, 0.35, 0.9), (1.4, 1.4, 1.4)], np.float32)[rng.integers(4)]
    return _rounded(pixels * np.exp(-density * pen))


def _hair(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Hairs as quadratic curves that lie roughly in one direction, of one colour and varying thickness."""
    side = len(pixels)
    colour = np.array([(28, 20, 18), (60, 40, 28), (110, 80, 55), (205, 190, 165)], np.float32)[
        rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])
    ]
    cover = np.zeros((side, side), np.uint8)
    way = rng.uniform(0, math.pi)
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(rng.integers(8, 26)):
        middle, phi = rng.uniform(0, side, 2), way + rng.normal(0, 0.35)
        half = side * rng.uniform(0.12, 0.5) * np.array([math.cos(phi), math.sin(phi)])
        bend = side * rng.normal(0, 0.1) * np.array([-math.sin(phi), math.cos(phi)])
        path = (1 - t) ** 2 * (middle - half) + 2 * t * (1 - t) * (middle + bend) + t**2 * (middle + half)
        points = np.round(path * 2**_SHIFT).astype(np.int32)
        cv2.polylines(cover, [points], False, 255, max(1, round(side * rng.uniform(0.003, 0.008))), cv2.LINE_AA, _SHIFT)
    return _cover(pixels, cover, colour, rng.uniform(0.65, 0.95))


def _gel_bubbles(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Air in the immersion gel: thin bright rings with a darker inner side and a white reflection, in clusters."""
    side = len(pixels)
    shade, light = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    centre = rng.uniform(0.1, 0.9, 2) * side
    for _ in range(rng.integers(6, 24)):
        place = np.clip(centre + rng.normal(0, 0.25 * side, 2), 0, side - 1)
        radius = side * (0.008 + 0.035 * rng.beta(1, 3))
        at, reach = (round(place[0]), round(place[1])), max(1, round(radius))
        cv2.circle(shade, at, reach, rng.uniform(0.05, 0.2), -1, cv2.LINE_AA)
        cv2.circle(light, at, reach, rng.uniform(0.25, 0.65), max(1, round(radius * 0.25)), cv2.LINE_AA)
        glint = (round(place[0] - radius * 0.4), round(place[1] - radius * 0.4))
        cv2.circle(light, glint, max(1, round(radius * 0.22)), rng.uniform(0.7, 1.0), -1, cv2.LINE_AA)
    light = cv2.GaussianBlur(light, (0, 0), max(0.4, side * 0.002))[..., None]
    dimmed = pixels * (1 - shade[..., None])
    return _rounded(dimmed + (np.float32(250) - dimmed) * np.clip(light, 0, 1))


def _colour_patch(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A coloured plaster or calibration sticker that reaches in from the edge, as in sets of children's naevi."""
    side = len(pixels)
    cover = np.zeros((side, side), np.uint8)
    angle, reach = rng.uniform(0, 2 * math.pi), side * rng.uniform(0.10, 0.2)
    away = side * max(rng.uniform(0.44, 0.6), _CLEAR + reach / side + 0.02)
    place = side / 2 + away * np.array([math.cos(angle), math.sin(angle)])
    if rng.random() < 0.5:
        axes = (round(reach), round(reach * rng.uniform(0.75, 1.0)))
        cv2.ellipse(cover, (round(place[0]), round(place[1])), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    else:
        box = cv2.boxPoints(((float(place[0]), float(place[1])), (1.7 * reach, 1.3 * reach), rng.uniform(0, 90)))
        cv2.fillPoly(cover, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
    colours = [(214, 60, 66), (52, 106, 190), (66, 158, 84), (240, 200, 60), (235, 130, 50), (40, 40, 44), (120, 70, 150)]
    colour = np.array(colours[rng.integers(len(colours))], np.float32) * np.float32(rng.uniform(0.8, 1.1))
    return _cover(pixels, cover, np.clip(colour, 0, 255), 1.0)


def _blur(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus: a Gaussian of 1.0 to 1.4 pixels at a side of 224."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(1.0, 1.4) * len(pixels) / REFERENCE_SIDE), np.uint8)


def _jpeg_loss(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Saved again by a messaging app: JPEG of quality 25 to 55, colour at half the resolution."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 56)), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def _colour_cast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """White balance of other light: channel gains in linear light, up to a third for red and blue and 6% for green."""
    warm, tint = rng.uniform(0.08, 0.28) * rng.choice([-1, 1]), rng.uniform(-0.06, 0.06)
    gain = np.exp(np.array([warm, tint, -warm]))
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    shown = np.clip(linear[:, None] * gain, 0, 1)
    table = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055) * 255
    return np.asarray(cv2.LUT(pixels, np.round(table).astype(np.uint8)[None]), np.uint8)


def _squash(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Squashes 4:3 to a square, or the reverse, around the centre; mirrored beyond the edges."""
    side = len(pixels)
    ratio = math.sqrt(4 / 3)
    x, y = (ratio, 1 / ratio) if rng.random() < 0.5 else (1 / ratio, ratio)
    middle = (side - 1) / 2
    matrix = np.array([[x, 0, middle * (1 - x)], [0, y, middle * (1 - y)]])
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


ARTEFACTS: Final[dict[str, Artefact]] = {
    "round_border": _round_border,
    "ruler": _ruler,
    "ink": _ink,
    "hair": _hair,
    "gel_bubbles": _gel_bubbles,
    "colour_patch": _colour_patch,
    "blur": _blur,
    "jpeg_loss": _jpeg_loss,
    "colour_cast": _colour_cast,
    "squashed_aspect": _squash,
}


def _rounded(image: NDArray[np.floating[Any]]) -> Pixels:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _grey(value: float) -> NDArray[np.float32]:
    return np.full(3, value, np.float32)


def _line(cover: Pixels, start: tuple[float, float], end: tuple[float, float], thickness: int) -> None:
    scale = 2**_SHIFT
    first, second = ((round(x * scale), round(y * scale)) for x, y in (start, end))
    cv2.line(cover, first, second, 255, thickness, cv2.LINE_AA, _SHIFT)


def _turned(cover: Pixels, rng: np.random.Generator, jitter: float) -> Pixels:
    """Rotates by a random number of quarter turns and up to ``jitter`` degrees."""
    side = len(cover)
    quarter = np.ascontiguousarray(np.rot90(cover, int(rng.integers(4))))
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.uniform(-jitter, jitter), 1.0)
    return np.asarray(cv2.warpAffine(quarter, matrix, (side, side)), np.uint8)


def _cover(pixels: Pixels, cover: Pixels, colour: NDArray[np.float32], opacity: float) -> Pixels:
    weight = (cover.astype(np.float32) * np.float32(opacity / 255))[..., None]
    image = pixels.astype(np.float32)
    return _rounded(image + weight * (colour - image))
