"""Trains against background cues: paints some lesions over, and moves others onto another image's skin.

A model that still predicts the label after the lesion was painted over relies on the camera and the skin (Bissoto et al.,
"(De)Constructing Bias on Skin Lesion Datasets", CVPRW 2019). The outline of a lesion is an image ``MASKS/<file name>.png``. It
shows the same centred square as the model's input, at any size, and is white inside the lesion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.table import Row

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]

MARGIN = 0.04  # share of the side: outlines are drawn tightly, and a rim of pigment would reveal the lesion
SKIN_SHARE = 0.12  # least share of the image that must be skin; with less there is nothing to fill the lesion from


@dataclass(frozen=True)
class Swaps:
    """How often an outlined image is changed; otherwise it is used unchanged.

    Attributes:
        painted: probability that the lesion is painted over and the label replaced by a random one: half of such images
            pull towards malignant and half towards benign, so the best prediction is an uninformative one.
        transplanted: probability that the lesion is moved onto the painted-over image of another lesion.
    """

    painted: float = 0.1
    transplanted: float = 0.2


class Outlines:
    """Lesion outlines of the rows that have one.

    Raises:
        ConfigError: the folder holds no outline for any row.
    """

    def __init__(self, rows: list[Row], folder: Path, size: int) -> None:
        self.size = size
        self._files = {}
        there = {path.stem: path for path in folder.glob("*.png")}
        for i, row in enumerate(rows):
            if (file := there.get(Path(row.path).stem)) is not None:
                self._files[i] = file
        if not self._files:
            raise ConfigError(
                f"{folder} holds no outline NAME.png of any of {len(rows)} training images. Received: {len(there)} .png files"
            )
        self.rows = np.array(sorted(self._files), np.int64)

    def __contains__(self, index: int) -> bool:
        return index in self._files

    def __getitem__(self, index: int) -> Mask:
        """Outline of row ``index``: uint8 ``[size, size]``, 255 inside the lesion."""
        mask = cv2.imread(str(self._files[index]), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ConfigError(f"cannot read the outline {self._files[index]}")
        mask = np.asarray((mask > 0) * np.uint8(255), np.uint8)
        soft = cv2.resize(mask, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return np.asarray((soft > 127) * np.uint8(255), np.uint8)


def widened(mask: Mask, margin: float = MARGIN) -> Mask:
    """Grows the outline by a share of the side."""
    reach = max(1, round(margin * mask.shape[0]))
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))


def paint_over(image: Image, mask: Mask, rng: np.random.Generator) -> Image | None:
    """Replaces the lesion with skin.

    One of three fills is chosen at random, so that no kind of fill becomes a cue by itself: smooth from all sides (a pyramid
    of averages; Gortler et al., "The Lumigraph", 1996), inpainted (Telea 2004), or one colour. Grain like the skin's is usually
    added.

    Args:
        image: uint8 ``[S, S, 3]``.
        mask: uint8 ``[S, S]``, 255 inside the lesion.
        rng: source of all randomness.

    Returns:
        uint8 ``[S, S, 3]``; None if too little skin is left to paint with.
    """
    hole = widened(mask, MARGIN * rng.uniform(0.5, 1.5))
    skin = hole == 0
    if skin.mean() < SKIN_SHARE:
        return None
    side = image.shape[0]
    kind = rng.random()
    if kind < 0.5:
        filled = _push_pull(image, skin)
    elif kind < 0.8:
        small = side // 2
        half = cv2.inpaint(
            cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA),
            cv2.resize(hole, (small, small), interpolation=cv2.INTER_NEAREST),
            3,
            cv2.INPAINT_TELEA,
        )
        filled = cv2.resize(half, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    else:
        ring = skin & (widened(hole, 0.08) > 0)
        filled = np.broadcast_to(np.median(image[ring if ring.any() else skin], axis=0), image.shape).astype(np.float32)
    if rng.random() < 0.7:
        filled = filled + _grain(image, skin, rng)
    edge = cv2.GaussianBlur(hole, (0, 0), side * rng.uniform(0.004, 0.015)).astype(np.float32)[..., None] / 255
    return np.clip(image * (1 - edge) + filled * edge, 0, 255).astype(np.uint8)


def transplant(image: Image, mask: Mask, skin: Image, rng: np.random.Generator) -> Image:
    """Puts the lesion of ``image`` on another image's skin, whose colour is shifted part of the way to that of ``image``.

    Args:
        image: uint8 ``[S, S, 3]``.
        mask: uint8 ``[S, S]``, 255 inside the lesion.
        skin: uint8 ``[S, S, 3]``, a painted-over image.
        rng: source of all randomness.
    """
    grown = widened(mask, MARGIN * rng.uniform(0.5, 1.5))
    around = (grown == 0) & (widened(grown, 0.1) > 0)
    ground = skin.astype(np.float32)
    if around.any():
        ground = ground + rng.uniform(0.3, 1.0) * (np.median(image[around], axis=0) - np.median(skin[around], axis=0))
    edge = cv2.GaussianBlur(grown, (0, 0), image.shape[0] * rng.uniform(0.006, 0.02)).astype(np.float32)[..., None] / 255
    return np.clip(image * edge + ground * (1 - edge), 0, 255).astype(np.uint8)


def _push_pull(image: Image, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fills unknown pixels from ever coarser averages of the known ones."""
    weight = known.astype(np.float32)
    levels = [(image.astype(np.float32) * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 2:
        value, weight = (cv2.pyrDown(plane) for plane in levels[-1])
        levels.append((value, weight))
    value, weight = levels[-1]
    filled = value / np.maximum(weight, 1e-6)[..., None]
    for value, weight in reversed(levels[:-1]):
        up = cv2.resize(filled, (weight.shape[1], weight.shape[0]), interpolation=cv2.INTER_LINEAR)
        here = np.minimum(weight, 1.0)[..., None]
        filled = np.where(here > 0.02, value / np.maximum(weight, 1e-6)[..., None] * here + up * (1 - here), up)
    return np.asarray(filled, np.float32)


def _grain(image: Image, skin: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise that imitates the skin's grain: half fine, half a few pixels wide, as strong as measured on the skin."""
    side = image.shape[0]
    residual = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 2.0)
    spread = min(12.0, 1.5 * float(np.median(np.abs(residual[skin]))))
    fine = rng.standard_normal((side, side), np.float32)
    coarse = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), 1.5) * 4
    return np.asarray(spread * (fine + coarse)[..., None] / 2, np.float32)
