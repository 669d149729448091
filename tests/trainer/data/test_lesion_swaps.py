from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.lesion_swaps import Outlines, paint_over, transplant, widened
from aiderm_trainer.data.table import Row

SIDE = 96


def disc(radius: int, x: int = SIDE // 2, y: int = SIDE // 2) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (x, y), radius, 255, -1)
    return mask


def spotted(mask: np.ndarray, skin: tuple[int, int, int] = (220, 180, 160)) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), skin, np.uint8)
    picture[mask > 0] = (70, 40, 30)
    return picture


def row(name: str, split: str = "train") -> Row:
    return Row("0" * 64, f"pictures/{name}.jpg", "here", name, split, "", False)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 30))
def test_painting_over_leaves_skin_and_no_lesion(seed: int, radius: int) -> None:
    mask = disc(radius)
    picture = spotted(mask)
    painted = paint_over(picture, mask, np.random.default_rng(seed))
    assert painted is not None
    assert painted.shape == picture.shape
    assert painted.dtype == np.uint8
    assert np.abs(painted.astype(int) - (220, 180, 160)).max() < 40  # only the hole's edge and grain, but no pigment
    assert np.array_equal(painted, paint_over(picture, mask, np.random.default_rng(seed)))


def test_far_from_the_lesion_nothing_changes() -> None:
    mask = disc(12)
    picture = np.random.default_rng(0).integers(100, 220, (SIDE, SIDE, 3), np.uint8)
    far = widened(mask, 0.25) == 0
    for seed in range(12):
        painted = paint_over(picture, mask, np.random.default_rng(seed))
        assert painted is not None
        assert np.array_equal(painted[far], picture[far])


def test_a_lesion_without_skin_around_it_cannot_be_painted_over() -> None:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[:4] = 0
    assert paint_over(spotted(mask), mask, np.random.default_rng(0)) is None


def test_a_transplanted_lesion_keeps_its_pixels_and_gets_another_ground() -> None:
    mask = disc(14)
    picture = spotted(mask)
    ground = np.full((SIDE, SIDE, 3), (120, 80, 60), np.uint8)
    for seed in range(12):
        moved = transplant(picture, mask, ground, np.random.default_rng(seed))
        assert np.abs(moved[disc(10) > 0].astype(int) - (70, 40, 30)).max() <= 1
        assert not np.array_equal(moved[:5], picture[:5]) or np.allclose(moved[:5], picture[:5], atol=2)
    plain = transplant(picture, mask, ground, np.random.default_rng(1))
    # The new skin's colour is moved towards the lesion's own skin, but not past it.
    assert (plain[0, 0] >= (120, 80, 60)).all()
    assert (plain[0, 0] <= (220, 180, 160)).all()


def test_outlines_are_found_by_file_name_at_any_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "b.png"), cv2.resize(disc(20), (40, 40), interpolation=cv2.INTER_NEAREST))
    cv2.imwrite(str(tmp_path / "stranger.png"), disc(20))
    outlines = Outlines([row("a"), row("b")], tmp_path, SIDE)
    assert 0 not in outlines
    assert 1 in outlines
    assert outlines.rows.tolist() == [1]
    assert set(np.unique(outlines[1])) == {0, 255}
    assert (outlines[1] > 0).mean() == pytest.approx((disc(20) > 0).mean(), rel=0.1)


def test_a_folder_without_any_outline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no outline"):
        Outlines([row("a")], tmp_path, SIDE)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot read the outline"):
        Outlines([row("a")], tmp_path, SIDE)[0]
