import numpy as np

from aiderm_trainer.data.style import restyle, skin_style


def image(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 4, (64, 64, 3))
    out = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    out[24:40, 24:40] = (80, 50, 45)
    return out


def test_the_skin_takes_the_other_colour_and_the_lesion_stays_darker() -> None:
    pale, red = image((225, 190, 170), 0), image((190, 110, 100), 1)
    own, other = skin_style(pale), skin_style(red)
    assert own is not None
    assert other is not None
    styled = restyle(pale, own, other, 1.0)
    after = skin_style(styled)
    assert after is not None
    assert np.abs(after[0] - other[0]).max() < 6 < np.abs(own[0] - other[0]).max()
    assert styled[28:36, 28:36].mean() < styled[2:10, 2:10].mean() - 40
    assert np.abs(restyle(pale, own, other, 0.0).astype(int) - pale).max() <= 4  # caused by rounding in 8-bit Lab


def test_a_black_border_stays_black_and_is_no_skin() -> None:
    picture = image((225, 190, 170), 0)
    y, x = np.ogrid[:64, :64]
    picture[np.hypot(y - 31.5, x - 31.5) > 28] = 4
    own, other = skin_style(picture), skin_style(image((190, 110, 100), 1))
    assert own is not None
    assert other is not None
    assert own[0][0] > 150
    assert restyle(picture, own, other, 1.0)[0, 0].max() < 40
    assert skin_style(np.zeros((64, 64, 3), np.uint8)) is None
