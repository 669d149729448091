from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.augment import ARTEFACTS, Augmentation, at_half_scale, augment, bubbles, degrade, warp
from aiderm_trainer.data.synthetic import lesion

PICTURE = lesion(3, True, 96)
STILL = Augmentation(shift=0, zoom=1, aspect=1, color=0, blur=0, resample=0, sharpen=0, jpeg=0, artefacts=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_view_keeps_shape_and_type_and_is_fixed_by_its_seed(seed: int) -> None:
    view = augment(PICTURE, np.random.default_rng(seed))
    assert view.shape == PICTURE.shape
    assert view.dtype == np.uint8
    assert np.array_equal(view, augment(PICTURE, np.random.default_rng(seed)))


def test_other_seeds_give_other_views() -> None:
    views = {augment(PICTURE, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert len(views) == 20


def test_the_source_picture_is_left_alone() -> None:
    before = PICTURE.copy()
    for seed in range(20):
        augment(PICTURE, np.random.default_rng(seed), Augmentation(artefacts=1.0))
    assert np.array_equal(before, PICTURE)


def test_rotation_and_flip_alone_keep_the_center_and_the_colours() -> None:
    plain = np.zeros((65, 65, 3), np.uint8)
    plain[28:37, 28:37] = 255
    for seed in range(10):
        view = warp(plain, np.random.default_rng(seed), STILL)
        assert view[32, 32].min() == 255
        assert abs(int(view.sum()) - int(plain.sum())) < 0.05 * plain.sum()


def test_shift_moves_the_picture_no_further_than_it_may() -> None:
    plain = np.zeros((101, 101, 3), np.uint8)
    plain[48:53, 48:53] = 255
    for seed in range(20):
        view = warp(plain, np.random.default_rng(seed), Augmentation(shift=0.1, zoom=1, aspect=1))
        y, x = np.argwhere(view[..., 0] > 127).mean(axis=0)
        assert max(abs(y - 50), abs(x - 50)) <= 10.5


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_an_artefact_changes_the_picture_but_not_its_form(artefact) -> None:
    views = [artefact(PICTURE, np.random.default_rng(seed)) for seed in range(8)]
    assert all(view.shape == PICTURE.shape and view.dtype == np.uint8 for view in views)
    assert sum(not np.array_equal(view, PICTURE) for view in views) >= 6  # a stroke may be drawn outside the image


@pytest.mark.parametrize("seed", range(20))
def test_bubbles_look_as_if_each_were_drawn_over_the_whole_image(seed: int) -> None:
    rng, side = np.random.default_rng(seed), len(PICTURE)
    out = PICTURE.astype(np.float32)
    y, x = np.mgrid[:side, :side]
    for _ in range(int(rng.integers(1, 9))):
        cx, cy = rng.uniform(0, side, 2)
        radius = side * rng.uniform(0.01, 0.07)
        width = max(1.0, radius * rng.uniform(0.08, 0.25))
        rim = np.exp(-(((np.hypot(x - cx, y - cy) - radius) / width) ** 2)) * rng.uniform(0.2, 0.8)
        out += (rim * np.clip(((x - cx) + (y - cy)) / (2 * radius), -1, 1) * 90)[..., None]
        spot = np.hypot(x - cx - radius * 0.4, y - cy - radius * 0.4) / (radius * 0.2 + 0.5)
        out += (np.exp(-(spot**2) / 2) * rng.uniform(40, 160))[..., None]
    expected = np.clip(out, 0, 255).astype(int)
    assert np.abs(bubbles(PICTURE, np.random.default_rng(seed)).astype(int) - expected).max() <= 1  # order of rounding


def test_half_scale_keeps_the_picture_and_softens_its_finest_detail() -> None:
    soft = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8), (0, 0), 2)
    halved = at_half_scale(soft, 95)
    assert halved.shape == soft.shape
    assert np.abs(halved.astype(int) - soft).mean() < 3
    sharp = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    assert at_half_scale(sharp, 95).std() < 0.8 * sharp.std()


def test_half_scale_is_drawn_as_often_as_it_should() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    often = replace(STILL, half_scale=0.5)
    changed = [not np.array_equal(degrade(picture, np.random.default_rng(seed), often), picture) for seed in range(60)]
    assert 0.25 < np.mean(changed) < 0.75
    assert all(np.array_equal(degrade(picture, np.random.default_rng(seed), STILL), picture) for seed in range(20))
