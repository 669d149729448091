"""Enlarging lesions by a known amount."""

from __future__ import annotations

import numpy as np
import pytest

from aiderm_trainer.data.growth import grown, taken_again
from aiderm_trainer.data.synthetic import outlined_lesion


@pytest.mark.parametrize("rim", [False, True])
def test_the_lesion_grows_by_what_was_asked_and_nothing_else_moves(rim):
    y, x = np.mgrid[:224, :224]
    lesion = np.hypot(x - 100, 1.3 * (y - 120)) < 45
    drawn = np.repeat(np.where(lesion, 60, 200).astype(np.uint8)[..., None], 3, axis=2)
    for growth in (0.05, 0.4):
        larger = grown(drawn, lesion, growth, rim=rim)
        assert np.count_nonzero(larger[..., 0] < 130) == pytest.approx(np.count_nonzero(lesion) * (1 + growth), rel=0.01)
    texture = np.random.default_rng(1).integers(0, 255, (224, 224, 3), np.uint8)
    moved = (grown(texture, lesion, 0.4, rim=rim) != texture).any(axis=2)
    assert not moved[np.hypot(x - 100, y - 120) > 105].any(), "skin far from the lesion stays"
    assert bool(moved[118:122, 98:103].any()) is not rim, "the middle stays where the rim alone grows"


def test_what_cannot_grow_is_refused():
    image = np.zeros((64, 64, 3), np.uint8)
    assert grown(image, np.zeros((64, 64), np.bool_), 0.0, rim=False) is image
    with pytest.raises(ValueError, match="must not be empty"):
        grown(image, np.zeros((64, 64), np.bool_), 0.1, rim=False)
    with pytest.raises(ValueError, match="cannot grow by 10%"):
        grown(image, np.ones((64, 64), np.bool_), 0.1, rim=False)


def test_a_camera_never_mirrors():
    image, _ = outlined_lesion(1, True)
    turned = [taken_again(image, np.random.default_rng(seed), zoom=1.0, shift=0.0) for seed in range(3)]
    assert all((each.shape, each.dtype) == (image.shape, np.uint8) for each in turned)
    quarter = [np.rot90(image[80:144, 80:144], turns) for turns in range(4)]
    disc = np.hypot(*np.mgrid[-31.5:32, -31.5:32]) < 30
    for each in turned:  # turning keeps the mean colour of the middle
        assert each[80:144, 80:144][disc].mean() == pytest.approx(quarter[0][disc].mean(), abs=2)
