"""Finds images that occur twice: identical files, and re-encoded, resized, shifted, recoloured, mirrored or rotated copies.

Perceptual hashes alone are not enough: most dermoscopic images are one dark blob in the middle, and thousands of unrelated
naevi have similar hashes and thumbnails that correlate above 0.95. So the hashes (pHash of the DCT, Zauner 2010; dHash) only
propose pairs. A pair is accepted if its fine detail (hairs, skin lines, pigment network) coincides after local contrast is
removed. That measure is bimodal: on 16,000 public images unrelated pairs stay below 0.3 and duplicates exceed 0.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from aiderm_trainer.data.table import Row

SIDE: Final = 64

# A pair becomes a candidate if at most this many of 64 bits differ in both hashes. Programs make rotated and mirrored copies and
# change little else; cameras and crops change more.
MAX_DISTANCE: Final = 16
MAX_DISTANCE_TURNED: Final = 10
_MIN_LIKENESS: Final = 0.8  # correlation of 16 x 16 thumbnails: a cheap first filter (duplicates reach at least 0.85)
MIN_DETAIL: Final = 0.36  # correlation of the fine detail above which a pair counts as one image
_MAX_SHIFT: Final = 6  # pixels of the thumbnail
_BLACK: Final = 32
_AROUND: Final = np.ones((7, 7), dtype=np.uint8)
_BLOCK: Final = 512

_Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two images of the same scene: indices of their rows (first < second) and how well their detail agrees, 0..1."""

    first: int
    second: int
    agreement: float


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey thumbnail for comparison.

    Args:
        pixels: uint8 ``[H, W, 3]``, RGB.

    Returns:
        uint8 ``[64, 64]``; the whole image, regardless of its aspect ratio.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """64-bit pHash (signs of low DCT frequencies about their median) and dHash (signs of horizontal differences).

    Args:
        thumbnails: uint8 ``[N, 64, 64]``.

    Returns:
        Two uint64 arrays ``[N]``.
    """
    grey = thumbnails.astype(np.float32)
    position = np.arange(SIDE, dtype=np.float32)
    basis = np.cos(np.pi * (2 * position + 1) * np.arange(1, 9, dtype=np.float32)[:, None] / (2 * SIDE))
    frequencies = (basis @ grey @ basis.T).reshape(len(grey), 64)
    phash = frequencies > np.median(frequencies, axis=1, keepdims=True)
    edges = np.linspace(0, SIDE, 10).round().astype(int)[:-1]
    coarse = np.add.reduceat(np.add.reduceat(grey, edges, axis=2), np.arange(0, SIDE, 8), axis=1)
    coarse = coarse / np.diff([*edges, SIDE])
    dhash = (coarse[:, :, 1:] > coarse[:, :, :-1]).reshape(len(grey), 64)
    return _pack(phash), _pack(dhash)


def _pack(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0] if len(bits) else np.empty(0, dtype=np.uint64)


def find_near_duplicates(thumbnails: NDArray[np.uint8], *, progress: bool = False) -> list[NearDuplicate]:
    """Finds pairs of images that show the same scene, in any of the eight orientations of a square.

    Args:
        thumbnails: uint8 ``[N, 64, 64]`` from ``thumbnail``.
        progress: shows a progress bar.

    Returns:
        The pairs, ordered by their indices. Compares every pair: about 20 s for 16,000 images on one core.

    Raises:
        ValueError: ``thumbnails`` has another shape or type.
    """
    if thumbnails.ndim != 3 or thumbnails.shape[1:] != (SIDE, SIDE) or thumbnails.dtype != np.uint8:
        raise ValueError(f"thumbnails must be uint8 [N, {SIDE}, {SIDE}]. Received: {thumbnails.dtype} {thumbnails.shape}")
    phash, dhash = perceptual_hashes(thumbnails)
    best: dict[tuple[int, int], float] = {}
    for orientation in track(range(8), "comparing images", disable=not progress):
        turned = _orient(thumbnails, orientation)
        turned_phash, turned_dhash = perceptual_hashes(turned) if orientation else (phash, dhash)
        pairs = _candidates(phash, dhash, turned_phash, turned_dhash, MAX_DISTANCE_TURNED if orientation else MAX_DISTANCE)
        pairs = pairs[_likeness(thumbnails, turned, pairs) >= _MIN_LIKENESS]
        for (first, second), agreement in zip(pairs.tolist(), _agreement(thumbnails, turned, pairs).tolist(), strict=True):
            if agreement >= MIN_DETAIL:
                best[first, second] = max(agreement, best.get((first, second), 0.0))
    return [NearDuplicate(first, second, agreement) for (first, second), agreement in sorted(best.items())]


def _orient(thumbnails: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    turned = np.rot90(thumbnails, orientation % 4, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if orientation >= 4 else turned)


def _candidates(
    phash: NDArray[np.uint64],
    dhash: NDArray[np.uint64],
    turned_phash: NDArray[np.uint64],
    turned_dhash: NDArray[np.uint64],
    limit: int,
) -> _Pairs:
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(phash), _BLOCK):
        # Visit each pair once: the rotated image is the later one.
        close = np.bitwise_count(phash[start : start + _BLOCK, None] ^ turned_phash[None, start:]) <= limit
        first, second = np.nonzero(close)
        pairs = np.stack((first, second), axis=1)[second > first] + start
        distance = np.bitwise_count(dhash[pairs[:, 0]] ^ turned_dhash[pairs[:, 1]])
        found.append(pairs[distance <= limit])
    return np.concatenate(found)


def _likeness(thumbnails: NDArray[np.uint8], turned: NDArray[np.uint8], pairs: _Pairs) -> NDArray[np.float32]:
    """Correlation of the coarse thumbnails of each pair: float32 ``[len(pairs)]``."""

    def coarse(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        means = grey.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 256)
        means -= means.mean(axis=1, keepdims=True)
        return np.asarray(means / (np.linalg.norm(means, axis=1, keepdims=True) + 1e-6), dtype=np.float32)

    one, other = coarse(thumbnails), coarse(turned)
    blocks = [np.einsum("ij,ij->i", one[pairs[block, 0]], other[pairs[block, 1]]) for block in _blocks(len(pairs))]
    return np.concatenate([np.empty(0, dtype=np.float32), *blocks])


def _detail_spectra(thumbnails: NDArray[np.uint8]) -> NDArray[np.complex64]:
    """Spectra of the fine detail at unit energy: complex64 ``[N, 64, 33]``."""
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    window = np.clip((0.95 - np.hypot(axis[:, None], axis[None, :])) / 0.25, 0, 1)
    details = np.empty(thumbnails.shape, dtype=np.float32)
    for detail, small in zip(details, thumbnails, strict=True):
        grey = small.astype(np.float32)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.0)
        # The edge of the dermatoscope's black border is the same in many images and must not count as agreement.
        fine *= cv2.erode((small > _BLACK).astype(np.uint8), _AROUND)
        detail[:] = window * fine / (np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 5.0)) + 1.0)
    details -= details.mean(axis=(1, 2), keepdims=True)
    details /= np.sqrt((details**2).sum(axis=(1, 2), keepdims=True)) + 1e-6
    return np.fft.rfft2(details).astype(np.complex64)


def _agreement(thumbnails: NDArray[np.uint8], turned: NDArray[np.uint8], pairs: _Pairs) -> NDArray[np.float32]:
    """Highest correlation of the detail of each pair over small shifts: float32 ``[len(pairs)]``."""
    result = np.empty(len(pairs), dtype=np.float32)
    for block in _blocks(len(pairs)):
        firsts, first_at = np.unique(pairs[block, 0], return_inverse=True)
        seconds, second_at = np.unique(pairs[block, 1], return_inverse=True)
        one = _detail_spectra(thumbnails[firsts])[first_at]
        other = _detail_spectra(turned[seconds])[second_at]
        correlation = np.fft.irfft2(one * other.conj(), s=(SIDE, SIDE))
        near = np.r_[0 : _MAX_SHIFT + 1, -_MAX_SHIFT:0]
        result[block] = correlation[:, near][:, :, near].max(axis=(1, 2))
    return result


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def join_groups(rows: Sequence[Row], pairs: Iterable[tuple[int, int]] = ()) -> list[Row]:
    """Merges the groups of images that have identical bytes or are near-duplicates.

    Args:
        rows: in the order that the pairs' indices refer to.
        pairs: positions of near-duplicates.

    Returns:
        The rows in their original order; a merged group takes the alphabetically first name of its groups.

    Raises:
        IndexError: a pair refers to a row that does not exist.
    """
    parent: dict[str, str] = {row.group: row.group for row in rows}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    def join(one: str, other: str) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    by_sha: dict[str, str] = {}
    for row in rows:
        join(by_sha.setdefault(row.sha256, row.group), row.group)
    for first, second in pairs:
        join(rows[first].group, rows[second].group)
    return [replace(row, group=root(row.group)) for row in rows]


def same_files(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows whose files have the same bytes: lists of two or more, ordered by path."""
    by_sha: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.path):
        by_sha[row.sha256].append(row)
    return [members for members in by_sha.values() if len(members) > 1]
