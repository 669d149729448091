"""Aligns two photographs of a lesion by a similarity transform (rotation, scale, shift) based on the skin around the lesion.

A lesion that has grown looks like one that was photographed from nearer, so structures inside it must not decide the scale.
Features anywhere in the images give a rough alignment (SIFT: Lowe, Int. J. Comput. Vis. 60, 91-110, 2004). Then the transform is
fitted only to the structure of the skin outside both outlines (Gauss-Newton as in Lucas and Kanade, IJCAI 1981, with Huber
weights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 224
"""Side in pixels at which squares are compared."""
_NEIGHBOURHOOD: Final = 7.0  # pixels; standard deviation of the Gaussian that brightness and contrast are normalised by
_NOISE: Final = 3.0  # grey levels; smaller differences are not structure
_SECOND_BEST: Final = 0.85  # Lowe's ratio
_WITHIN: Final = 4.0  # pixels by which a feature may miss its expected position
_LEAST_FEATURES: Final = 6
_LEAST_SKIN: Final = 200.0  # pixels
_LEAST_STRUCTURE: Final = 0.05  # root mean square; below it there is only rounding
_CLOSE: Final = 4.0  # pixels around an outline that count as lesion
_FAR: Final = 0.8  # radii of the lesion; the best of 0.4, 0.8 and 1.2 on 76 pairs of validation images with synthetic growth
_STEPS: Final = 25
_ROUGH_STEPS: Final = 8
_FACTORS: Final = (1.0, 0.93, 1.075, 0.86, 1.16)
_MIDDLE: Final = (SIDE - 1) / 2

Matrix = NDArray[np.float64]
Structure = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Alignment:
    """The alignment of the later square with the earlier one, at ``SIDE`` pixels each.

    Attributes:
        matrix: float64 ``[2, 3]``, from x and y in the later square to those in the earlier one.
        features: number of features that agree with the rough alignment.
        correlation: of the skin's structure once aligned, -1..1; None if the skin in both is too small or has no structure.
    """

    matrix: Matrix
    features: int
    correlation: float | None

    @property
    def scale(self) -> float:
        """Scale factor from the later square to the earlier one."""
        return scale_of(self.matrix)


def scale_of(matrix: Matrix) -> float:
    """The scale factor of a similarity transform, ``[2, 3]``."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def structure(square: NDArray[np.uint8], without: Mask | None = None) -> Structure:
    """Normalises the grey levels of uint8 ``[SIDE, SIDE, 3]`` by the local mean and spread, so that lighting cancels.

    The result is 0 inside the lesion ``without`` and close to it: a dark lesion would cast a halo on the skin around it.
    """
    grey = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float32)
    counted = np.ones_like(grey)
    if without is not None:
        reach = 2 * round(_CLOSE) + 1
        counted -= cv2.dilate(without.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))

    def around(values: Structure) -> Structure:
        blurred, share = (cv2.GaussianBlur(each, (0, 0), _NEIGHBOURHOOD) for each in (values * counted, counted))
        return np.asarray(blurred / np.maximum(share, 1e-3), np.float32)

    above = (grey - around(grey)) * counted
    return np.asarray(above / np.sqrt(around(above**2) + _NOISE**2), np.float32)


def levels(drawn: Structure) -> NDArray[np.uint8]:
    """A structure as grey levels, for algorithms that need those."""
    return np.clip(drawn * 48 + 128, 0, 255).astype(np.uint8)


def onto(drawn: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """Transforms an image at ``SIDE`` pixels from the later square's frame to the earlier one's; 0 outside."""
    return np.asarray(cv2.warpAffine(drawn, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR))


def mask_onto(mask: Mask, matrix: Matrix) -> Mask:
    """Transforms a mask from the later square's frame to the earlier one's."""
    return onto(mask.astype(np.uint8) * 255, matrix) > 127


def visible(matrix: Matrix) -> Mask:
    """A mask of the part of the earlier frame that the later square covers."""
    return mask_onto(np.ones((SIDE, SIDE), np.bool_), matrix)


def skin_around(earlier: Mask, later: Mask, matrix: Matrix) -> Structure:
    """Weights of the skin that both squares show, in the earlier frame, ``[SIDE, SIDE]``.

    They rise from 0 inside the outlines and at their edge to 1 at ``_FAR`` radii of the lesion: skin beside a growing lesion may
    be pulled along with it.
    """
    lesion = earlier | mask_onto(later, matrix)
    away = cv2.distanceTransform((~lesion).astype(np.uint8), cv2.DIST_L2, 5)
    far = _FAR * max(10.0, math.sqrt(np.count_nonzero(lesion) / math.pi))
    return np.where(visible(matrix), np.clip((away - _CLOSE) / far, 0, 1), 0).astype(np.float32)


def align(squares: Sequence[NDArray[np.uint8]], outlines: tuple[Mask, Mask]) -> Alignment | None:
    """Aligns the later square with the earlier one.

    Features may lie on a lesion that has grown, so the fit to the skin starts from several scales around theirs.

    Args:
        squares: the earlier and the later one, uint8 ``[SIDE, SIDE, 3]`` RGB.
        outlines: masks of the lesion in each, ``[SIDE, SIDE]``.

    Returns:
        None if too few features agree.
    """
    rough, features = _by_features(*(structure(square) for square in squares))
    if rough is None or features < _LEAST_FEATURES:
        return None
    skins = [structure(square, mask) for square, mask in zip(squares, outlines, strict=True)]
    blurred = [np.asarray(cv2.GaussianBlur(each, (0, 0), 2), np.float32) for each in skins]
    centre = np.argwhere(outlines[0]).mean(axis=0)[::-1]
    fits: list[tuple[Matrix, float]] = []
    for factor in _FACTORS:
        start = rough * factor
        start[:, 2] += (1 - factor) * centre
        fitted = _fit(blurred[0], blurred[1], start, skin_around(*outlines, start)[::2, ::2], _ROUGH_STEPS)
        fits += [] if fitted is None else [fitted]
    if not fits:
        return Alignment(rough, features, None)
    start, _ = max(fits, key=lambda each: each[1])
    fine = _fit(skins[0], skins[1], start, skin_around(*outlines, start), _STEPS)
    return Alignment(rough, features, None) if fine is None else Alignment(fine[0], features, fine[1])


def _by_features(earlier: Structure, later: Structure) -> tuple[Matrix | None, int]:
    detector = cv2.SIFT.create(nfeatures=1200, contrastThreshold=0.015, edgeThreshold=15)
    (points, found), (other_points, other) = (detector.detectAndCompute(levels(each), None) for each in (earlier, later))
    if min(len(points), len(other_points)) < _LEAST_FEATURES:
        return None, 0
    squares = (found**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * found @ other.T
    distance = np.sqrt(np.maximum(squares, 0))
    best, back = distance.argmin(axis=1), distance.argmin(axis=0)
    two = np.partition(distance, 1, axis=1)[:, :2]
    sure = (back[best] == np.arange(len(best))) & (two[:, 0] < _SECOND_BEST * two[:, 1])
    if np.count_nonzero(sure) < _LEAST_FEATURES:
        return None, 0
    here = np.array([points[i].pt for i in np.flatnonzero(sure).tolist()])
    there = np.array([other_points[i].pt for i in best[sure].tolist()])
    matrix, agree = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=_WITHIN, maxIters=4000, confidence=0.999
    )
    return (None, 0) if matrix is None else (np.asarray(matrix, np.float64), int(agree.sum()))


def _fit(earlier: Structure, later: Structure, start: Matrix, weights: Structure, steps: int) -> tuple[Matrix, float] | None:
    """Fits the later structure to the earlier one where ``weights`` are positive; returns the transform and the correlation.

    Weights ``[SIDE / n, SIDE / n]`` use every n-th pixel each way. Returns None if too few pixels have weight or the pixels show
    no structure.
    """
    every = SIDE // len(weights)
    y, x = np.nonzero(weights > 0)
    weight = weights[y, x].astype(np.float64)
    y, x = y * every, x * every
    wanted = earlier[y, x].astype(np.float64)
    u, v = (x - _MIDDLE) / _MIDDLE, (y - _MIDDLE) / _MIDDLE
    slopes = [cv2.Scharr(later, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1))]
    layers = np.dstack([later, *slopes, np.ones_like(later)]).astype(np.float32)
    inverse = np.asarray(cv2.invertAffineTransform(start), np.float64)
    a, b = inverse[0, 0], inverse[1, 0]
    centre = inverse[:, :2] @ [_MIDDLE, _MIDDLE] + inverse[:, 2]
    correlation = 0.0
    for _ in range(steps):
        seen = onto(layers, cv2.invertAffineTransform(_similarity(a, b, centre)))[y, x].astype(np.float64)
        here, along, down = seen[:, 0], seen[:, 1], seen[:, 2]
        counted = weight * (seen[:, 3] > 0.99)
        own, common, both = (float((counted * product).sum()) for product in (here**2, wanted**2, here * wanted))
        if counted.sum() * every**2 < _LEAST_SKIN or min(own, common) < _LEAST_STRUCTURE**2 * counted.sum():
            return None
        correlation, gain = both / np.sqrt(own * common), min(max(both / own, 0.5), 2.0)
        miss = gain * here - wanted
        spread = np.sqrt((counted * miss**2).sum() / counted.sum())
        robust = counted * np.minimum(1, 1.5 * spread / np.maximum(np.abs(miss), 1e-9))
        change = gain * _MIDDLE * np.stack([along * u + down * v, down * u - along * v, along / _MIDDLE, down / _MIDDLE], axis=1)
        step = -np.linalg.solve((change * robust[:, None]).T @ change + 1e-6 * np.eye(4), (change * robust[:, None]).T @ miss)
        moved = float(np.abs(step * [_MIDDLE, _MIDDLE, 1, 1]).max())
        step *= min(1.0, 4.0 / max(moved, 1e-9))
        a, b, centre = a + step[0], b + step[1], centre + step[2:]
        if moved < 0.005:
            break
    return np.asarray(cv2.invertAffineTransform(_similarity(a, b, centre)), np.float64), correlation


def _similarity(a: float, b: float, centre: NDArray[np.float64]) -> Matrix:
    """The similarity transform that rotates and scales by ``a + bi`` and maps the square's middle to ``centre``."""
    turn = np.array([[a, -b], [b, a]])
    return np.hstack([turn, (centre - turn @ [_MIDDLE, _MIDDLE])[:, None]])
