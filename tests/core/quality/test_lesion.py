"""A lesion that stands out is located; in doubt None is returned."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.quality.lesion import SIDE, find_lesion


def skin(seed: int = 0, size: int = 224) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 20, (size, size, 1)).astype(np.float32), (0, 0), 1.5)[..., None]
    return np.clip(np.array([205, 160, 140]) + grain, 0, 255).astype(np.uint8)


def with_lesion(x: float, y: float, radius: int = 30, colour: tuple[int, int, int] = (110, 70, 60), seed: int = 0) -> np.ndarray:
    """A round lesion with a soft edge; ``x`` and ``y`` are its centre's offset from the middle as shares of the side."""
    picture = skin(seed)
    cover = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(cover, (round(111.5 + x * 224), round(111.5 + y * 224)), radius, 255, -1)
    weight = cv2.GaussianBlur(cover, (0, 0), 3)[..., None] / 255
    return (picture * (1 - weight) + np.array(colour) * weight).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.25), st.floats(0, 2 * np.pi), st.integers(18, 40), st.integers(0, 5))
def test_offset_is_the_centroids_distance_from_the_middle(distance: float, angle: float, radius: int, seed: int) -> None:
    lesion = find_lesion(with_lesion(distance * np.cos(angle), distance * np.sin(angle), radius, seed=seed))
    assert lesion is not None
    assert lesion.offset == pytest.approx(distance, abs=0.02)
    assert lesion.mask.shape == (SIDE, SIDE)
    assert lesion.mask.mean() == pytest.approx(np.pi * radius**2 / 224**2, rel=0.35)


@pytest.mark.parametrize(
    "picture",
    [
        np.full((224, 224, 3), 120, np.uint8),
        skin(),
        np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8),
        with_lesion(0, 0, colour=(195, 152, 133)),  # hardly darker than the skin
        np.maximum(with_lesion(-0.25, 0, 25) // 2, with_lesion(0.25, 0, 25) // 2),  # hardly anything of either is left
        np.minimum(with_lesion(-0.25, 0, 25), with_lesion(0.25, 0, 25)),  # two of the same size
        np.tile(np.linspace(60, 220, 224, dtype=np.uint8)[None, :, None], (224, 1, 3)),  # light from one side
    ],
    ids=["uniform", "skin", "noise", "faint", "none", "two", "gradient"],
)
def test_in_doubt_nothing_is_said(picture: np.ndarray) -> None:
    assert find_lesion(picture) is None


def test_dark_round_rim_is_no_lesion() -> None:
    y, x = np.ogrid[:224, :224]
    rim = np.hypot(x - 111.5, y - 111.5) > 108
    alone, beside = skin(1), with_lesion(0.1, 0.0, seed=1)
    alone[rim] = beside[rim] = 0
    assert find_lesion(alone) is None
    lesion = find_lesion(beside)
    assert lesion is not None
    assert lesion.offset == pytest.approx(0.1, abs=0.02)


def test_on_real_lesions_it_is_mostly_sure_and_then_right() -> None:
    data = Path(os.environ.get("AIDERM_SHARED", "../shared")) / "data" / "ham10000-224"
    masks = sorted((data / "masks").glob("*.png"))[::55][:100]
    if not masks:
        pytest.skip("needs pictures with outlines (AIDERM_SHARED)")
    y, x = np.mgrid[:224, :224]
    errors, sure = [], 0
    for file in masks:
        outline = cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (224, 224)) > 127
        picture = decode_image((data / "images" / f"{file.stem}.jpg").read_bytes()).pixels
        lesion = find_lesion(to_model_input(picture, 224))
        sure += lesion is not None
        if lesion is not None:
            true = np.hypot(x[outline].mean() - 111.5, y[outline].mean() - 111.5) / 224
            errors.append(abs(lesion.offset - true))
    assert sure >= 0.5 * len(masks)
    assert np.median(errors) < 0.02
    assert np.quantile(errors, 0.9) < 0.06
