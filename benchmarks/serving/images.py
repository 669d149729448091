"""Writes synthetic lesions as JPEG files in the sizes that clients send: the model's, a dermatoscope archive's, a phone's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from aiderm_trainer.data.synthetic import lesion

KINDS = {"224px": (224, 224), "600x450": (600, 450), "12MP": (4000, 3000)}
COUNT = 4
PAINTED = 1200  # larger images are enlarged from this size, with grain added: painting 12 megapixels takes gigabytes


def write(folder: Path, kinds: Sequence[str] = tuple(KINDS), quality: int = 95) -> dict[str, list[Path]]:
    """Writes ``COUNT`` images of each kind; returns their paths by kind."""
    found: dict[str, list[Path]] = {}
    for kind in kinds:
        width, height = KINDS[kind]
        for seed in range(COUNT):
            side = max(width, height)
            pixels = lesion(seed, bool(seed % 2), min(side, PAINTED))
            if side > PAINTED:
                pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC)
            pixels = pixels[(side - height) // 2 :][:height, (side - width) // 2 :][:, :width]
            # Sensor grain: without it a JPEG is far smaller, and decodes far faster, than a camera's.
            grain = np.random.default_rng(seed).normal(0, 3, (*pixels.shape[:2], 1)).astype(np.float32)
            pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
            path = folder / f"{kind}-{seed}.jpg"
            cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
            found.setdefault(kind, []).append(path)
    return found
