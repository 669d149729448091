import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.evaluation import skin_tone

LAB = {"very light": (75, 12), "light": (66, 16), "intermediate": (61, 16), "tan": (56, 16), "brown": (48, 17), "dark": (34, 14)}


def patch(lightness, yellow, size=160, noise=0.0):
    """Skin of one colour with a dark round lesion in the middle."""
    rng = np.random.default_rng(0)
    lab = np.empty((size, size, 3), np.float32)
    lab[:] = (lightness, 12, yellow)
    lab[..., 0] += rng.normal(0, noise, (size, size)) if noise else 0
    y, x = np.ogrid[:size, :size]
    spot = np.hypot(x - size / 2, y - size / 2) < 0.25 * size
    lab[spot] = (lightness * 0.45, 10, 8)
    return np.round(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).astype(np.uint8), spot


@pytest.mark.parametrize("name", LAB)
def test_synthetic_skin_falls_into_its_band_with_and_without_an_outline(name):
    lightness, yellow = LAB[name]
    pixels, spot = patch(lightness, yellow, noise=1.0)
    expected = np.degrees(np.arctan((lightness - 50) / yellow))
    assert skin_tone.band(expected) == name
    for outline in (None, spot):
        angle = skin_tone.measure(pixels, outline)
        assert angle == pytest.approx(expected, abs=4)


def test_border_hair_and_glare_do_not_change_the_tone():
    pixels, _ = patch(61, 16)
    plain = skin_tone.measure(pixels)
    changed = pixels.copy()
    for at in range(10, 150, 14):
        cv2.line(changed, (at, 0), (at + 8, 159), (20, 15, 12), 1, cv2.LINE_AA)
    cv2.circle(changed, (40, 40), 6, (255, 255, 255), -1)
    y, x = np.ogrid[:160, :160]
    changed[np.hypot(x - 80, y - 80) > 72] = 4
    assert skin_tone.measure(changed) == pytest.approx(plain, abs=4)


def test_the_lesion_is_not_measured_for_the_skin():
    light, _ = patch(75, 12)
    angle = skin_tone.measure(light)
    assert angle > 55
    everywhere = np.ones(light.shape[:2], bool)
    assert skin_tone.measure(light, everywhere) is None


def test_every_synthetic_lesion_has_a_tone_or_none_and_the_darker_picture_the_darker_one():
    for seed in range(6):
        pixels = lesion(seed, bool(seed % 2), 128)
        angle = skin_tone.measure(pixels)
        darker = skin_tone.measure((pixels * 0.7).astype(np.uint8))
        assert angle is None or darker is None or darker < angle


@given(st.floats(0, 100), st.floats(-60, 90))
def test_the_angle_is_always_in_a_band(lightness, yellow):
    angle = skin_tone.typology_angle(lightness, yellow)
    assert -90 <= angle <= 90
    assert skin_tone.band(angle) in LAB


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        skin_tone.measure(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="outline must be"):
        skin_tone.measure(np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="degrees"):
        skin_tone.band(91)
