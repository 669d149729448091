"""Paints a lesion over with the surrounding skin, for the control experiment of Bissoto et al. (CVPRW 2019 and 2020).

The hole is filled with the harmonic function that continues the skin around it (Laplace's equation, solved exactly on a
coarse grid; Perez, Gangnet, Blake, "Poisson Image Editing", 2003), and the skin's own grain is added to it. Of the
lesion's edge, pigment and shape nothing is left but the position of the hole. Training paints lesions over with different code.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

Pixels = NDArray[np.uint8]
Flags = NDArray[np.bool_]

MARGIN: Final = 0.05  # share of the side: outlines are drawn tight, and a rim of pigment would reveal the lesion
MIN_SKIN: Final = 0.10  # share of the image: with less there is nothing to paint with
_GRID = 64
_DARK = 40  # of 255: the dermatoscope's dark border is not skin
_GRAIN_SCALE = 0.02  # share of the side: finer structure is grain
_TRIES = 32


def paint_over(pixels: Pixels, outline: Flags, seed: int) -> Pixels | None:
    """Returns the image without its lesion.

    Args:
        pixels: uint8 ``[S, S, 3]`` RGB.
        outline: ``[S, S]``, True inside the lesion.
        seed: seed of the places that the grain is copied from.

    Returns:
        uint8 ``[S, S, 3]``, unchanged outside the widened outline; None if less than ``MIN_SKIN`` of the image is skin.

    Raises:
        ValueError: shapes that do not fit.
    """
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or outline.shape != pixels.shape[:2] or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 [S, S, 3], the outline [S, S]. Received: {pixels.shape}, {outline.shape}")
    side = len(pixels)
    hole = _grown(outline, MARGIN)
    skin = ~hole & ~_dark(pixels)
    if skin.mean() < MIN_SKIN:
        return None
    image = pixels.astype(np.float32)
    smooth = cv2.resize(_harmonic(image, hole, skin), (side, side), interpolation=cv2.INTER_CUBIC)
    filled = smooth + _grain(image, hole, skin, np.random.default_rng(seed))
    weight = np.clip(cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(0.5, 0.006 * side)) * 2, 0, 1)
    weight[~_grown(hole, 0.02)] = 0
    return np.clip(image + weight[..., None] * (filled - image) + 0.5, 0, 255).astype(np.uint8)


def _harmonic(image: NDArray[np.float32], hole: Flags, skin: Flags) -> NDArray[np.float32]:
    """Colours ``[g, g, 3]``: those of the skin where there is skin, and the solution of Laplace's equation elsewhere.

    The image's edge is a mirror (no flow across it), so a hole that touches it is filled from the inside.
    """
    size = (_GRID, _GRID)
    weight = cv2.resize(skin.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(image * skin[..., None], size, interpolation=cv2.INTER_AREA)
    # Averaged, so that one hair at the rim does not draw a streak through the hole.
    weight, colour = cv2.GaussianBlur(weight, (0, 0), 1.2), cv2.GaussianBlur(colour, (0, 0), 1.2)
    inside = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    known = (weight > 0.25) & ~inside
    if not known.any():
        known = weight >= weight.max()
    out = colour / np.maximum(weight, 1e-6)[..., None]
    number = np.full(size, -1)
    unknown = np.flatnonzero(~known)
    number.ravel()[unknown] = np.arange(len(unknown))
    y, x = np.unravel_index(unknown, size)
    degree = np.zeros(len(unknown))
    right = np.zeros((len(unknown), 3))
    rows, columns = [np.arange(len(unknown))], [np.arange(len(unknown))]
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        ny, nx = y + dy, x + dx
        there = (ny >= 0) & (ny < _GRID) & (nx >= 0) & (nx < _GRID)
        degree += there
        ny, nx = ny.clip(0, _GRID - 1), nx.clip(0, _GRID - 1)
        neighbour = number[ny, nx]
        fixed, free = there & (neighbour < 0), there & (neighbour >= 0)
        right[fixed] += out[ny[fixed], nx[fixed]]
        rows.append(np.flatnonzero(free))
        columns.append(neighbour[free])
    value = np.concatenate([degree, *(-np.ones(len(part)) for part in rows[1:])])
    matrix = sparse.csr_matrix((value, (np.concatenate(rows), np.concatenate(columns))))
    out[y, x] = spsolve(matrix, right)
    return np.asarray(out, np.float32)


def _grain(image: NDArray[np.float32], hole: Flags, skin: Flags, rng: np.random.Generator) -> NDArray[np.float32]:
    """Fine structure ``[S, S, 3]`` for the hole, copied from other places that show skin."""
    side = len(image)
    sigma = max(0.7, _GRAIN_SCALE * side)
    weight = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), sigma)
    local = cv2.GaussianBlur(image * skin[..., None], (0, 0), sigma) / np.maximum(weight, 1e-3)[..., None]
    residual = np.where(skin[..., None], image - local, 0)
    limit = 2.5 * residual[skin].std(axis=0)
    residual = np.clip(residual, -limit, limit).astype(np.float32)  # single hairs and vessels are not grain
    out, missing = np.zeros_like(image), hole.copy()
    for _ in range(_TRIES):
        if not missing.any():
            break
        down, across = rng.integers(0, side, 2)
        turned, source = residual, skin
        if rng.random() < 0.5:
            turned, source = residual[:, ::-1], skin[:, ::-1]
        moved, usable = np.roll(turned, (down, across), (0, 1)), np.roll(source, (down, across), (0, 1))
        taken = missing & usable
        out[taken] = moved[taken]
        missing &= ~taken
    return out


def _dark(pixels: Pixels) -> Flags:
    return np.asarray(cv2.dilate((pixels.max(axis=2) < _DARK).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0, np.bool_)


def _grown(flags: Flags, margin: float) -> Flags:
    reach = max(1, round(margin * len(flags)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(flags.astype(np.uint8), kernel) > 0, np.bool_)
