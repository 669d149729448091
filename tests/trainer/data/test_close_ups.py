"""Simulated close-ups show the same lesion smaller and in other light; fitting and evaluation use different ones."""

from __future__ import annotations

import numpy as np
import pytest

from aiderm_trainer.data.close_ups import EVALUATION, FITTING, CloseUp, close_up
from aiderm_trainer.data.synthetic import lesion

BOTH = pytest.mark.parametrize("how", [FITTING, EVALUATION], ids=["fitting", "evaluation"])


def darkness(image: np.ndarray) -> np.ndarray:
    grey = image.mean(axis=2)
    return np.asarray(np.median(grey) - grey)


@BOTH
def test_a_seed_fixes_the_close_up(how: CloseUp) -> None:
    image = lesion(11, True, 128)
    one, again, other = (close_up(image, np.random.default_rng(seed), how) for seed in (1, 1, 2))
    assert one.dtype == np.uint8
    assert one.shape == image.shape
    assert (one == again).all()
    assert (one != other).any()


@BOTH
def test_the_lesion_is_seen_from_afar(how: CloseUp) -> None:
    """The dark part of the image shrinks with the scale, and the rest is skin."""
    image = lesion(12, True, 160)
    covered = (darkness(image) > 30).mean()
    shares = [(darkness(close_up(image, np.random.default_rng(seed), how)) > 30).mean() for seed in range(12)]
    assert np.median(shares) < 0.6 * covered


def test_fitting_and_evaluation_draw_other_images() -> None:
    image = lesion(13, False, 128)
    assert FITTING.skin != EVALUATION.skin
    assert (close_up(image, np.random.default_rng(1), FITTING) != close_up(image, np.random.default_rng(1), EVALUATION)).any()


def test_an_image_without_bright_skin_is_no_error() -> None:
    for image in (np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        assert close_up(image, np.random.default_rng(0)).shape == (64, 64, 3)
