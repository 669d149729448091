import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.augment import ARTEFACTS, Augmentation, augment, warp
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
    assert sum(not np.array_equal(view, PICTURE) for view in views) >= 6  # a stroke may fall outside
