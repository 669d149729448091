"""Augments images with OpenCV and NumPy: one warp for all geometry, then the properties in which cameras differ.

In the public data sets the camera gives the label away (sharpness, crop, border, colour). So everything that a camera, a crop
or a clinic adds is drawn at random for benign and malignant alike: colour, blur, resampling, sharpening, JPEG loss, decoding
at half scale, round dark borders, rulers, ink, hair, gel bubbles and coloured patches. See Bissoto et al.,
"(De)Constructing Bias on Skin Lesion Datasets", CVPRW 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How far each change may go; probabilities are per image. The defaults are what the shipped model saw.

    Attributes:
        shift: largest shift, as a share of the side.
        zoom: largest factor f; the zoom lies between 1/f and f.
        aspect: largest ratio between the axes' scales, applied either way (data sets squash 4:3 to a square).
        color: largest relative change of brightness, contrast and each channel's gain.
        artefacts: probability of each of ruler, ink, gel bubbles and colour patch.
        hair: probability of hairs.
        border: probability of a round dark border.
        half_scale: probability of imitating a JPEG of twice the side that is decoded at half scale.
    """

    shift: float = 0.08
    zoom: float = 1.25
    aspect: float = 1.33
    color: float = 0.18
    blur: float = 0.35
    resample: float = 0.3
    sharpen: float = 0.15
    jpeg: float = 0.5
    artefacts: float = 0.1
    hair: float = 0.25
    border: float = 0.2
    half_scale: float = 0.0


def warp(image: Image, rng: np.random.Generator, how: Augmentation) -> Image:
    """Rotation, flip, zoom, aspect and shift as one affine matrix, so the image is interpolated once.

    Args:
        image: uint8 ``[S, S, 3]``.
        rng: source of all randomness.
        how: ranges.
    """
    side = image.shape[0]
    angle = rng.uniform(0, 2 * np.pi)
    zoom = how.zoom ** rng.uniform(-1, 1)
    stretch = how.aspect ** rng.uniform(-0.5, 0.5)
    flip = 1 if rng.random() < 0.5 else -1
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # The stretch acts along the image's own axes, before the rotation, because cameras and resizers squash along these.
    matrix = rotation @ np.diag([flip * zoom * stretch, zoom / stretch])
    center = np.array([side / 2 - 0.5] * 2)
    offset = center + rng.uniform(-how.shift, how.shift, 2) * side - matrix @ center
    affine = np.hstack([matrix, offset[:, None]])
    return cv2.warpAffine(image, affine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def recolor(image: Image, rng: np.random.Generator, how: Augmentation) -> Image:
    """Brightness, contrast, gamma and white balance, through one lookup table per channel."""
    levels = np.linspace(0.0, 1.0, 256)
    gamma = np.exp(rng.uniform(-how.color, how.color))
    contrast = 1 + rng.uniform(-how.color, how.color)
    brightness = rng.uniform(-how.color, how.color) / 2
    gains = 1 + rng.uniform(-how.color, how.color, 3) / 2
    curve = (levels[:, None] ** gamma - 0.5) * contrast + 0.5 + brightness
    table = np.clip(curve * gains * 255, 0, 255).astype(np.uint8)[None]
    colored = cv2.LUT(image, table)
    if rng.random() < 0.3:  # saturation: blend with the image's own grey
        grey = cv2.cvtColor(cv2.cvtColor(colored, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        amount = rng.uniform(-1.5, 1.5) * how.color
        colored = cv2.addWeighted(colored, 1 + amount, grey, -amount, 0)
    return colored


def degrade(image: Image, rng: np.random.Generator, how: Augmentation) -> Image:
    """Optics, resizers and codecs: blur, loss of resolution, sharpening, JPEG."""
    side = image.shape[0]
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.2) * side / 224)
    if rng.random() < how.resample:
        small = max(16, int(side * rng.uniform(0.35, 0.9)))
        down = cv2.INTER_AREA if rng.random() < 0.7 else cv2.INTER_LINEAR
        up = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=down), (side, side), interpolation=up)
    if rng.random() < how.sharpen:
        amount = rng.uniform(0.3, 1.5)
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    if rng.random() < how.jpeg:
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(10 + 85 * rng.random() ** 0.7)])
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    if how.half_scale and rng.random() < how.half_scale:
        image = at_half_scale(image, int(rng.integers(80, 96)))
    return image


def at_half_scale(image: Image, quality: int) -> Image:
    """Imitates decoding a JPEG of slightly more than twice the side at half scale: frequencies are dropped, not areas averaged.

    A photograph of 600 x 450 pixels has a side of 225 at half scale, one pixel more than an input of 224. Resizing it to 224
    shifts the content by up to half a pixel.
    """
    side = image.shape[0]
    large = cv2.resize(image, (2 * side + 2, 2 * side + 2), interpolation=cv2.INTER_CUBIC)
    _, encoded = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])
    half = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_REDUCED_COLOR_2), np.uint8)
    return np.asarray(cv2.resize(half, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def dark_border(image: Image, rng: np.random.Generator) -> Image:
    """The round dark edge that a dermatoscope leaves."""
    side = image.shape[0]
    radius = side * rng.uniform(0.48, 0.66)
    center = side / 2 + rng.uniform(-0.06, 0.06, 2) * side
    y, x = np.ogrid[:side, :side]
    distance = np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2)
    inside = np.clip((radius - distance) / (side * rng.uniform(0.005, 0.06)) + 0.5, 0, 1)
    shade = rng.integers(0, 30)
    out, dark = image.copy(), inside < 1
    weight = inside[dark][:, None]
    out[dark] = image[dark] * weight + shade * (1 - weight)
    return out


def ruler(image: Image, rng: np.random.Generator) -> Image:
    """A scale along one side, with ticks."""
    out = image.copy()
    side = out.shape[0]
    near = int(side * rng.uniform(0.01, 0.12))
    pitch = side * rng.uniform(0.03, 0.09)
    shade = [int(v) for v in rng.integers(0, 90, 3)]
    thick = 1 if rng.random() < 0.7 else 2
    for i, at in enumerate(np.arange(rng.uniform(0, pitch), side, pitch)):
        long = side * (0.09 if i % 5 == 0 else 0.05)
        cv2.line(out, (int(at), near), (int(at), int(near + long)), shade, thick, cv2.LINE_AA)
    return np.ascontiguousarray(np.rot90(out, int(rng.integers(4))))


def ink(image: Image, rng: np.random.Generator) -> Image:
    """A stroke of surgical marker somewhere near the edge, translucent."""
    side = image.shape[0]
    layer = image.copy()
    colour = [(60, 40, 120), (30, 30, 90), (90, 40, 110), (30, 60, 70)][int(rng.integers(4))]
    start = rng.uniform(0, 1, 2)
    start[int(rng.integers(2))] = rng.choice([0.03, 0.97]) + rng.uniform(-0.03, 0.08)
    points = (np.cumsum(np.vstack([start, rng.normal(0, 0.06, (4, 2))]), axis=0) * side).astype(np.int32)
    cv2.polylines(layer, [points], False, colour, int(side * rng.uniform(0.015, 0.05)) + 1, cv2.LINE_AA)
    weight = rng.uniform(0.4, 0.85)
    return cv2.addWeighted(layer, weight, image, 1 - weight, 0)


def hair(image: Image, rng: np.random.Generator) -> Image:
    """A few dark, or fair, curved hairs across the image."""
    out = image.copy()
    side = out.shape[0]
    shade = [int(v) for v in (rng.integers(10, 70, 3) if rng.random() < 0.8 else rng.integers(150, 220, 3))]
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(int(2 + 28 * rng.random() ** 2)):
        a, b = rng.uniform(-0.1, 1.1, (2, 2))
        c = (a + b) / 2 + rng.normal(0, 0.18, 2)
        curve = ((1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b) * side
        cv2.polylines(out, [curve.astype(np.int32)], False, shade, 1 if rng.random() < 0.75 else 2, cv2.LINE_AA)
    return out


def bubbles(image: Image, rng: np.random.Generator) -> Image:
    """Air in the immersion gel: rings, brighter on one side, with a highlight."""
    out = image.astype(np.float32)
    side = out.shape[0]
    for _ in range(int(rng.integers(1, 9))):
        cx, cy = rng.uniform(0, side, 2)
        radius = side * rng.uniform(0.01, 0.07)
        width, spot = max(1.0, radius * rng.uniform(0.08, 0.25)), radius * 0.2 + 0.5
        # Outside this square, the rim and the highlight change a float32 by less than its rounding error.
        reach = max(radius + 5 * width, radius * 0.4 + 7 * spot)
        top, bottom, left, right = (int(np.clip(at, 0, side)) for at in (cy - reach, cy + reach + 1, cx - reach, cx + reach + 1))
        y, x = np.mgrid[top:bottom, left:right]
        around = out[top:bottom, left:right]
        rim = np.exp(-(((np.hypot(x - cx, y - cy) - radius) / width) ** 2)) * rng.uniform(0.2, 0.8)
        light = np.clip(((x - cx) + (y - cy)) / (2 * radius), -1, 1)
        around += (rim * light * 90)[..., None]
        glint = np.exp(-(((x - cx - radius * 0.4) ** 2 + (y - cy - radius * 0.4) ** 2) / (2 * spot**2)))
        around += (glint * rng.uniform(40, 160))[..., None]
    return np.clip(out, 0, 255).astype(np.uint8)


def patch(image: Image, rng: np.random.Generator) -> Image:
    """The coloured sticker that some clinics put beside a lesion: a disc or a square in a corner or at an edge."""
    out = image.copy()
    side = out.shape[0]
    colour = [int(v) for v in cv2.cvtColor(np.array([[[rng.integers(180), 200, 210]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]]
    angle = rng.uniform(0, 2 * np.pi)
    center = side / 2 + side * rng.uniform(0.5, 0.68) * np.array([np.cos(angle), np.sin(angle)])
    reach = int(side * rng.uniform(0.08, 0.22))
    x, y = (int(v) for v in center)
    if rng.random() < 0.6:
        cv2.circle(out, (x, y), reach, colour, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(out, (x - reach, y - reach), (x + reach, y + reach), colour, -1)
    return out


ARTEFACTS = (hair, ruler, ink, bubbles, patch, dark_border)


def augment(image: Image, rng: np.random.Generator, how: Augmentation = Augmentation()) -> Image:
    """One random view of an image; the same generator state gives the same view.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.
        rng: source of all randomness.
        how: ranges and probabilities.

    Returns:
        uint8 ``[S, S, 3]`` RGB.
    """
    return alter(warp(image, rng, how), rng, how)


def alter(image: Image, rng: np.random.Generator, how: Augmentation = Augmentation()) -> Image:
    """Applies all of ``augment`` except the warp: artefacts, colour and loss of quality. Nothing moves in the image.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.
        rng: source of all randomness.
        how: ranges and probabilities.
    """
    for artefact in ARTEFACTS:
        chance = {hair: how.hair, dark_border: how.border}.get(artefact, how.artefacts)
        if rng.random() < chance:
            image = artefact(image, rng)
    return degrade(recolor(image, rng, how), rng, how)


# Stronger than the default: the network sees it beside a clean view and learns to be stable against it. Decoding at half scale
# was added after melanoma 6, which is not stable against it (docs/architecture.md).
ARTEFACT_HEAVY = Augmentation(artefacts=0.15, hair=0.5, border=0.3, blur=0.35, resample=0.2, jpeg=0.6, half_scale=0.15)


def clean_view(image: Image, rng: np.random.Generator, how: Augmentation = Augmentation()) -> Image:
    """An image without artefacts, in one of its eight orientations, or rotated by any angle and cropped anew.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.
        rng: source of all randomness.
        how: ranges of the warp.

    Returns:
        uint8 ``[S, S, 3]`` RGB.
    """
    if rng.random() < 0.5:
        return warp(image, rng, how)
    turned = np.rot90(image, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)
