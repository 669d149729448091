"""Synthetic dermoscopic lesions, for tests, demonstrations and trying the trainer without data.

Skin, pigment and blood are painted as optical densities (Beer-Lambert law: transmittances multiply), so one lesion looks right on
every skin tone. The label shows in the ABCD criteria (Nachbar et al. 1994, doi:10.1016/S0190-9622(94)70061-3): asymmetry, border,
colours and structures are each stronger in malignant lesions, but overlap between the classes, as in real lesions. Hair, skin
tone, light, gel bubbles and the round border of the dermatoscope do not depend on the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_SIZE: Final = 32

_Field = NDArray[np.floating[Any]]  # float32 throughout

# sRGB of skin under a dermatoscope: rosy, lilac, cream, sallow, tanned, brown.
_SKIN: Final = np.array(
    [(228, 168, 160), (205, 178, 192), (226, 208, 194), (219, 186, 148), (198, 150, 118), (158, 112, 86)], dtype=np.float32
)
# Optical density of each absorber in red, green and blue.
_MELANIN: Final = (0.60, 1.00, 1.32)
_DEEP_MELANIN: Final = (1.25, 1.10, 1.00)  # black: melanin in the horny layer
_BLUE_GREY: Final = (1.15, 0.80, 0.55)  # melanin in the dermis, seen through scattering tissue
_BLOOD: Final = (0.10, 0.95, 0.80)
_SCAR: Final = np.array((226, 205, 200), dtype=np.float32)  # regression: white and fibrous


@dataclass(frozen=True)
class _Criteria:
    """Strength of each criterion, 0..1."""

    asymmetry: float
    border: float
    colour: float
    structure: float
    diameter: float


def _criteria(rng: np.random.Generator, malignant: bool) -> _Criteria:
    # The classes are 1.9 standard deviations apart in each criterion: single criteria overlap, all five together seldom do.
    mean = 0.69 if malignant else 0.31
    return _Criteria(*np.clip(rng.normal(mean, 0.2, 5), 0.0, 1.0).tolist())


def lesion(seed: int, malignant: bool, size: int = 224) -> NDArray[np.uint8]:
    """Paints one lesion.

    Args:
        seed: which lesion; the same seed, label and size give the same image.
        malignant: the label, which sets the mean strength of the ABCD criteria.
        size: side of the image in pixels, at least 32.

    Returns:
        uint8 ``[size, size, 3]``, RGB.

    Raises:
        ValueError: ``seed`` is negative or ``size`` below 32.
    """
    return outlined_lesion(seed, malignant, size)[0]


def outlined_lesion(seed: int, malignant: bool, size: int = 224) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns the image of ``lesion`` and a mask of the lesion in it, bool ``[size, size]``."""
    if seed < 0:
        raise ValueError(f"seed must not be negative. Received: {seed=}")
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE}. Received: {size=}")
    rng = np.random.default_rng([seed, int(malignant)])
    criteria = _criteria(rng, malignant)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)

    image = _skin(rng, size)
    image, body = _paint_lesion(rng, image, x, y, criteria)
    image = _hairs(rng, image)
    image = _gel_bubbles(rng, image)
    image = _camera(rng, image, x, y)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), body > 0.5


def dataset(folder: Path, count: int, seed: int = 0, size: int = 224, outlines: Path | None = None) -> Path:
    """Writes a folder tree ``{train,test}/{benign,malignant}/*.png``: half of the images per label, a fifth of each for test.

    Args:
        folder: created if missing.
        count: number of images, at least 4.
        seed: another seed gives other lesions.
        size: side of the images in pixels.
        outlines: folder for the lesions' outlines, under the images' file names; None writes no outlines.

    Returns:
        ``folder``.

    Raises:
        ValueError: ``count`` is below 4.
    """
    if count < 4:
        raise ValueError(f"count must be at least 4, one image of each label and split. Received: {count=}")
    for label, malignant in (("benign", False), ("malignant", True)):
        share = count // 2 if malignant else count - count // 2
        tests = max(1, round(share / 5))
        for index in range(share):
            split = "test" if index < tests else "train"
            path = folder / split / label / f"{label}_{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels, inside = outlined_lesion(seed * 1_000_003 + index, malignant, size)
            _write(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            if outlines is not None:
                outlines.mkdir(parents=True, exist_ok=True)
                _write(outlines / path.name, np.where(inside, np.uint8(255), np.uint8(0)))
    return folder


def _write(path: Path, pixels: Any) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"cannot write {path}")


def _noise(rng: np.random.Generator, size: int, cells: float) -> _Field:
    """Smooth noise of mean 0 and deviation about 1, with ``cells`` features across the image."""
    nodes = max(4, min(size, int(np.ceil(cells)) + 3))
    grid = rng.standard_normal((nodes, nodes), dtype=np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field * np.float32(1.35 / (grid.std() + 1e-6)), dtype=np.float32)  # interpolation lowers the deviation


def _absorb(image: _Field, *layers: tuple[_Field, tuple[float, float, float]]) -> _Field:
    """The light that remains after it passed layers of (density, absorber)."""
    channels = []
    for channel in range(3):
        total = sum(density * np.float32(-absorber[channel]) for density, absorber in layers)
        channels.append(image[..., channel] * cv2.exp(total))
    return cv2.merge(channels)


def _blend(image: _Field, cover: _Field, colour: NDArray[np.float32] | np.float32) -> _Field:
    weight = cv2.merge([cover, cover, cover])
    return image + weight * (colour - image)


def _smoothstep(value: _Field, low: float, high: float) -> _Field:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _skin(rng: np.random.Generator, size: int) -> _Field:
    first, second = rng.choice(len(_SKIN), 2, replace=False, p=[0.25, 0.22, 0.2, 0.16, 0.12, 0.05])
    mix = rng.beta(0.8, 0.8)
    tone = (_SKIN[first] * mix + _SKIN[second] * (1 - mix)) * rng.uniform(0.93, 1.07)
    image = np.empty((size, size, 3), dtype=np.float32)
    image[:] = tone
    brown = 0.03 * _noise(rng, size, 3) + 0.02 * _noise(rng, size, 9) + 0.022 * _noise(rng, size, 26)
    red = 0.03 * _noise(rng, size, 2) + 0.03 * _noise(rng, size, 12) + 0.02 * _noise(rng, size, 30)
    # Skin lines: the creases between fields of the epidermis, faint.
    creases = np.clip(1 - np.abs(_noise(rng, size, 26)) / np.float32(0.35), 0, 1)
    brown = brown * rng.uniform(0.5, 1.5) + creases * rng.uniform(0.0, 0.06)
    red = red * rng.uniform(0.4, 1.5)
    if rng.random() < 0.3:  # telangiectases
        vessels = np.clip(1 - np.abs(_noise(rng, size, 7)) / np.float32(0.10), 0, 1)
        red += vessels * _smoothstep(_noise(rng, size, 3), 0.2, 1.4) * rng.uniform(0.1, 0.3)
    return _absorb(image, (brown, _MELANIN), (red, _BLOOD))


def _outline(rng: np.random.Generator, criteria: _Criteria, angles: int = 720) -> _Field:
    """The border's radius by angle, as a Fourier series: the second harmonic makes an ellipse, high ones make notches."""
    theta = np.linspace(0, 2 * np.pi, angles, endpoint=False, dtype=np.float32)
    radius = rng.uniform(0.27, 0.36) + 0.24 * criteria.diameter * rng.uniform(0.75, 1.1)
    curve = np.ones_like(theta)
    curve += rng.uniform(0.04, 0.2) * np.cos(2 * (theta - rng.uniform(0, np.pi)))
    for harmonic in (1, 3, 5):  # odd harmonics break the symmetry
        curve += 0.20 * criteria.asymmetry**1.3 / harmonic**0.7 * rng.normal() * np.cos(harmonic * theta + rng.uniform(0, 6.3))
    for harmonic in range(4, 16):
        curve += 0.115 * criteria.border**1.8 / harmonic**0.55 * rng.normal() * np.cos(harmonic * theta + rng.uniform(0, 6.3))
    return np.asarray(radius * np.clip(curve, 0.45, 1.75), dtype=np.float32)


def _paint_lesion(rng: np.random.Generator, image: _Field, x: _Field, y: _Field, criteria: _Criteria) -> tuple[_Field, _Field]:
    """Returns the image with a lesion, and how much the lesion covers each pixel, 0..1."""
    size = len(image)
    radii = _outline(rng, criteria)
    dx, dy = x - np.float32(rng.normal(0, 0.07)), y - np.float32(rng.normal(0, 0.07))
    warp = 0.007 + 0.022 * criteria.border
    dx, dy = dx + warp * _noise(rng, size, 9), dy + warp * _noise(rng, size, 9)
    distance, angle = cv2.cartToPolar(dx, dy)
    border = np.take(radii, (angle * np.float32(len(radii) / (2 * np.pi))).astype(np.int32) % len(radii))
    depth = 1 - distance / border  # 1 in the centre, 0 on the border, negative outside
    depth += (0.02 + 0.055 * criteria.border) * _noise(rng, size, 16) + 0.03 * _noise(rng, size, 40)

    # A naevus fades into the skin; a melanoma ends abruptly, at least on one side.
    side = rng.uniform(0, 2 * np.pi)
    abrupt = 0.5 + 0.5 * np.cos(angle - np.float32(side))
    softness = rng.uniform(0.24, 0.42) - 0.26 * criteria.border * abrupt
    body = _smoothstep(depth / softness, -0.6, 1.0)

    tone = rng.uniform(0.55, 1.05) + 0.25 * (criteria.colour - 0.5)
    lean = np.cos(rng.uniform(0, 6.3)) * dx + np.sin(rng.uniform(0, 6.3)) * dy
    clouds = 0.16 * _noise(rng, size, 5) + 0.10 * _noise(rng, size, 13) + 0.07 * _noise(rng, size, 34)
    density = tone * (0.72 + rng.uniform(-0.1, 0.5) * np.clip(depth, 0, 1) + clouds * (0.7 + 0.9 * criteria.structure))
    density = np.clip(density + 0.9 * criteria.asymmetry * tone * lean, 0.12, None)
    density *= _pattern(rng, x, y, dx, dy, criteria)
    flush = _smoothstep(depth, -0.35, 0.25) * rng.uniform(0.0, 0.25)
    image = _absorb(image, (body * density * np.float32(0.95), _MELANIN), (flush, _BLOOD))
    return _more_colours(rng, image, body, depth, dx, dy, criteria), body


def _pattern(rng: np.random.Generator, x: _Field, y: _Field, dx: _Field, dy: _Field, criteria: _Criteria) -> _Field:
    """Factor on the pigment's density: a network (honeycomb of dark lines) or globules (dark cobbles), regular or broken up."""
    size = len(x)
    turn = rng.uniform(0, np.pi)
    pitch = min(rng.uniform(52, 88), 0.7 * size)  # radians over half the image; a mesh is at least four pixels wide
    wander = np.float32(0.012 + 0.014 * criteria.structure)
    u, v = x + wander * _noise(rng, size, 10), y + wander * _noise(rng, size, 10)
    comb = np.zeros_like(x)
    for arm in range(3):
        phi = turn + arm * np.pi / 3 * 2
        comb += np.cos(np.float32(pitch) * (np.float32(np.cos(phi)) * u + np.float32(np.sin(phi)) * v))
    comb = comb / 3 + 0.16 * _noise(rng, size, 45)  # -0.5 .. 1: a triangular lattice of peaks
    strength = rng.uniform(0.25, 0.65)
    where = _smoothstep(_noise(rng, size, 4), -1.6 + 1.9 * criteria.structure, 0.4 + 1.4 * criteria.structure)
    if rng.random() < 0.35:  # globules: the peaks are dark
        marks = _smoothstep(comb + 0.25 * _noise(rng, size, 12) * np.float32(criteria.structure), 0.25, 0.75)
        return np.asarray(1 - 0.15 * strength + 1.1 * strength * marks * where, dtype=np.float32)
    # Network: the holes are light.
    holes = _smoothstep(comb, -0.15, 0.55)
    return np.asarray(1 + strength * (0.35 - 0.95 * holes) * where, dtype=np.float32)


def _more_colours(
    rng: np.random.Generator, image: _Field, body: _Field, depth: _Field, dx: _Field, dy: _Field, criteria: _Criteria
) -> _Field:
    """Black, blue-grey, red and white areas: seldom one in a naevus, several and off-centre in a melanoma."""
    size = len(image)
    inner = _smoothstep(depth, -0.02, 0.22)
    for absorber, amount in ((_DEEP_MELANIN, 1.1), (_BLUE_GREY, 0.95), (_BLOOD, 0.75), (None, 0.75)):
        if rng.random() > 0.02 + 0.9 * criteria.colour**2.3:
            continue
        away = 0.05 + 0.26 * criteria.asymmetry
        phi = rng.uniform(0, 2 * np.pi)
        far = np.hypot(dx - np.float32(away * np.cos(phi)), dy - np.float32(away * np.sin(phi)))
        reach = rng.uniform(0.10, 0.22) + 0.10 * criteria.diameter
        area = _smoothstep(1.35 - far / np.float32(reach) + 0.55 * _noise(rng, size, 7) + 0.2 * _noise(rng, size, 22), 0.0, 1.3)
        area = area * inner * np.float32(amount * rng.uniform(0.5, 1.0))
        if absorber is None:
            image = _blend(image, area * np.float32(0.75), _SCAR)
        else:
            if absorber is _BLUE_GREY:  # a veil hides the brown under it
                image = _blend(image, area * np.float32(0.45), np.float32(150))
            image = _absorb(image, (area, absorber))
    dots = rng.poisson(30 * criteria.structure * rng.random()) if rng.random() < 0.5 else 0
    if dots:
        mask = np.zeros((size, size), dtype=np.uint8)
        reach = rng.uniform(0.3, 0.9)
        for _ in range(dots):
            shade = int(rng.integers(90, 256))
            phi, far = rng.uniform(0, 2 * np.pi), 0.42 * reach * np.sqrt(rng.random())
            centre = (np.array((np.cos(phi), np.sin(phi))) * far * 0.5 + 0.5) * size * 16
            cv2.circle(mask, centre.astype(int).tolist(), int(size * rng.uniform(0.003, 0.009) * 16), shade, -1, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(mask, (0, 0), max(0.4, size / 320)).astype(np.float32) / 255
        image = _absorb(image, (soft * body * np.float32(rng.uniform(0.4, 0.9)), _DEEP_MELANIN))
    return image


def _hairs(rng: np.random.Generator, image: _Field) -> _Field:
    size = len(image)
    kind = rng.random()
    if kind < 0.45:
        return image
    count = int(rng.integers(1, 7) if kind < 0.83 else rng.integers(8, 26))
    mask = np.zeros((size, size), dtype=np.uint8)
    steps = np.linspace(0, 1, 24)[:, None]
    way = rng.uniform(0, np.pi)
    for _ in range(count):
        start = rng.uniform(-0.1, 1.1, 2)
        phi = way + rng.normal(0, 0.5) + np.pi * rng.integers(2)
        end = start + rng.uniform(0.35, 1.1) * np.array((np.cos(phi), np.sin(phi)))
        bend = (start + end) / 2 + rng.normal(0, 0.10, 2)
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        width = max(1, round(size * rng.uniform(0.004, 0.009)))
        cv2.polylines(mask, [(curve * size * 16).astype(np.int32)], False, int(rng.integers(140, 256)), width, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.35, size / 420)).astype(np.float32) / 255
    fair = rng.random() < 0.15
    colour = np.array((214, 190, 150) if fair else (62, 44, 38), dtype=np.float32) * rng.uniform(0.7, 1.15)
    return _blend(image, soft * np.float32(rng.uniform(0.55, 0.9)), colour)


def _gel_bubbles(rng: np.random.Generator, image: _Field) -> _Field:
    if rng.random() > 0.2:
        return image
    size = len(image)
    light = np.zeros((size, size), dtype=np.uint8)
    shade = np.zeros_like(light)
    for _ in range(rng.integers(1, 9)):
        centre = (rng.uniform(0.05, 0.95, 2) * size * 16).astype(int)
        radius = int(size * 16 * rng.uniform(0.008, 0.035))
        cv2.circle(shade, centre.tolist(), radius, 190, max(1, size // 160), cv2.LINE_AA, 4)
        glint = centre - int(radius * 0.45)
        cv2.circle(light, glint.tolist(), max(8, radius // 4), 255, -1, cv2.LINE_AA, 4)
    blur = max(0.4, size / 260)
    dark = cv2.GaussianBlur(shade, (0, 0), blur).astype(np.float32)[..., None] / 255
    shine = cv2.GaussianBlur(light, (0, 0), blur).astype(np.float32)[..., None] / 255
    return image * (1 - 0.3 * dark) + shine * (250 - image) * 0.9


def _camera(rng: np.random.Generator, image: _Field, x: _Field, y: _Field) -> _Field:
    """Lens, light and sensor: blur, vignette, the dermatoscope's round border, white balance, noise."""
    size = len(image)
    image = cv2.GaussianBlur(image, (0, 0), max(0.3, size / 224 * rng.uniform(0.35, 0.9)))
    distance = np.hypot(x - np.float32(rng.normal(0, 0.08)), y - np.float32(rng.normal(0, 0.08)))
    light = 1 - np.float32(rng.uniform(0.02, 0.16)) * distance**2
    if rng.random() < 0.16:
        edge = rng.uniform(0.88, 1.22)
        light = light * _smoothstep(edge - distance, 0.0, rng.uniform(0.03, 0.12))
    balance = (rng.normal(1.0, 0.035, 3) * rng.normal(1.0, 0.05)).astype(np.float32)
    grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(rng.uniform(0.8, 2.2))
    channels = [image[..., channel] * (light * balance[channel]) + grain for channel in range(3)]
    return np.asarray(cv2.merge(channels), dtype=np.float32)
