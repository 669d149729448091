import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.evaluation.drawn_artefacts import ARTEFACTS, apply

SHA, OTHER = "a1" * 32, "b2" * 32
COVERING = ("round_border", "ruler", "ink", "colour_patch")


@pytest.fixture(scope="module")
def picture():
    return lesion(3, malignant=True, size=224)


def test_the_artefacts_are_those_that_the_report_names():
    assert list(ARTEFACTS) == [
        "round_border", "ruler", "ink", "hair", "gel_bubbles", "colour_patch", "blur", "jpeg_loss", "colour_cast",
        "squashed_aspect",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_changes_the_picture_always_the_same_way_for_one_image(name, picture):
    before = picture.copy()
    first = apply(name, picture, SHA)
    assert first.shape == picture.shape
    assert first.dtype == np.uint8
    assert np.array_equal(picture, before)
    assert np.array_equal(first, apply(name, picture, SHA))
    assert not np.array_equal(first, picture)
    changed = np.abs(first.astype(int) - picture)
    assert changed.mean() < 60
    assert not np.array_equal(first, apply(name, picture, OTHER))


@pytest.mark.parametrize("name", COVERING)
@pytest.mark.parametrize("seed", range(12))
def test_what_covers_stays_off_the_middle(name, seed, picture):
    drawn = apply(name, picture, f"{seed:02x}" * 32)
    y, x = np.ogrid[:224, :224]
    middle = np.hypot(x - 111.5, y - 111.5) < 0.25 * 224
    assert np.abs(drawn.astype(int) - picture)[middle].max() <= 1


def test_the_border_is_dark_and_round(picture):
    drawn = apply("round_border", picture, SHA)
    corners = drawn[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 40


def test_the_squashed_lesion_is_longer_one_way_by_four_thirds():
    spot = np.full((224, 224, 3), 220, np.uint8)
    y, x = np.ogrid[:224, :224]
    spot[np.hypot(x - 111.5, y - 111.5) < 50] = 60
    dark = apply("squashed_aspect", spot, SHA)[..., 0] < 140
    across, down = dark.any(axis=0).sum(), dark.any(axis=1).sum()
    assert max(across, down) / min(across, down) == pytest.approx(4 / 3, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(ARTEFACTS)), st.integers(100, 300), st.integers(0, 2**60))
def test_any_side_and_any_image_can_be_drawn_on(name, side, seed):
    pixels = np.full((side, side, 3), (210, 160, 150), np.uint8)
    assert apply(name, pixels, f"{seed:064x}").shape == pixels.shape


def test_unknown_names_and_shapes_are_refused(picture):
    with pytest.raises(ValueError, match="must be one of round_border"):
        apply("fog", picture, SHA)
    with pytest.raises(ValueError, match=r"\[S, S, 3\]"):
        apply("blur", picture[:100], SHA)
