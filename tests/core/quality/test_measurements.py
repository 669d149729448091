"""Each metric detects its own defect and no other."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aiderm_core.bundle.manifest import QualityLimit
from aiderm_core.quality.measurements import ADVISORY, METRICS, QualityWarning, derive_limits, measure, warnings


def lesion_like(seed: int = 0, size: int = 224) -> np.ndarray:
    """Skin with a dark blotch and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    blotch = np.exp(-(((x**2 + y**2) / 0.03) ** 2))[..., None]
    texture = cv2.GaussianBlur(rng.normal(0, 25, (size, size, 1)).astype(np.float32), (0, 0), 1.2)[..., None]
    skin, lesion = np.array([205, 160, 140]), np.array([110, 70, 60])
    return np.clip(skin * (1 - blotch) + lesion * blotch + texture + rng.normal(0, 3), 0, 255).astype(np.uint8)


SAMPLES = [measure(lesion_like(seed)) for seed in range(60)]
LIMITS = derive_limits(SAMPLES)


def codes(pixels: np.ndarray) -> set[str]:
    return {warning.code for warning in warnings(measure(pixels), LIMITS)}


def rejected(pixels: np.ndarray) -> set[str]:
    measures = measure(pixels)
    return {metric for metric, limit in LIMITS.items() if limit.beyond(measures[metric], limit.reject)}


def test_values_that_can_be_computed_by_hand() -> None:
    pixels = np.full((300, 300, 3), 51, np.uint8)
    assert measure(pixels) == {
        "sharpness": 0.0,
        "brightness": pytest.approx(0.2),
        "contrast": 0.0,
        "underexposed": 0.0,
        "overexposed": 0.0,
        "glare": 0.0,
        "resolution": 300.0,
        "hair": 0.0,
        "ruler": 0.0,
        "ink": 0.0,
        "off_centre": 0.0,
    }


def test_contrast_and_brightness_of_two_halves() -> None:
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[:, 112:] = 255
    measures = measure(pixels)
    assert measures["brightness"] == pytest.approx(0.5)
    assert measures["contrast"] == pytest.approx(0.5)
    assert measures["underexposed"] == pytest.approx(0.5)
    assert measures["overexposed"] == pytest.approx(0.5)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    # On a chequerboard of 0 and a the Laplacian is +-4a, of mean zero: its variance is 16 a^2.
    board = (np.indices((224, 224)).sum(0) % 2 * 10).astype(np.uint8)
    assert measure(board[..., None].repeat(3, 2))["sharpness"] == pytest.approx(16 * 100)


@pytest.mark.parametrize("side", [100, 224, 1000])
def test_resolution_is_the_shorter_side_before_scaling(side: int) -> None:
    assert measure(np.zeros((side, side + 7, 3), np.uint8))["resolution"] == side


def test_round_dark_border_does_not_count() -> None:
    picture = lesion_like()
    y, x = np.ogrid[:224, :224]
    picture[np.hypot(x - 111.5, y - 111.5) > 109] = 0
    assert measure(picture) == measure(lesion_like())


def test_blur_lowers_sharpness_step_by_step() -> None:
    values = [measure(cv2.GaussianBlur(lesion_like(), (0, 0), sigma))["sharpness"] for sigma in (0.3, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] / 10


def test_size_of_the_file_hardly_changes_what_is_measured() -> None:
    small = lesion_like(3)
    large = cv2.resize(small, (1120, 1120), interpolation=cv2.INTER_NEAREST)
    a, b = measure(small), measure(large)
    for metric in set(METRICS) - {"resolution"}:
        assert a[metric] == pytest.approx(b[metric], rel=0.02, abs=1e-3)


def test_reflections_are_glare_and_pale_skin_is_not() -> None:
    shiny = lesion_like(1)
    for place in ((60, 80), (120, 150), (140, 70)):
        cv2.circle(shiny, place, 8, (250, 250, 248), -1)
    expected = 3 * math.pi * 8**2 / (math.pi * (0.45 * 224) ** 2)
    assert measure(shiny)["glare"] == pytest.approx(expected, rel=0.2)
    assert "glare" in codes(shiny)
    pale = np.clip(lesion_like(1).astype(int) + 50, 0, 255).astype(np.uint8)
    assert measure(pale)["glare"] == 0.0


def test_gentle_pictures_pass() -> None:
    for seed in range(100, 130):
        assert rejected(lesion_like(seed)) == set()
    assert sum(bool(codes(lesion_like(seed))) for seed in range(100, 130)) <= 4


@pytest.mark.parametrize(
    ("fault", "warned"),
    [
        (lambda p: cv2.GaussianBlur(p, (0, 0), 3), "sharpness"),
        (lambda p: (p * 0.2).astype(np.uint8), "brightness"),
        (lambda p: (p * 0.1 + 130).astype(np.uint8), "contrast"),
        (lambda p: np.where(np.arange(224)[:, None, None] < 90, 0, p).astype(np.uint8), "underexposed"),
        (lambda p: np.where(np.arange(224)[:, None, None] < 90, 255, p).astype(np.uint8), "overexposed"),
        (lambda p: p[:120, :120].copy(), "resolution"),
    ],
)
def test_a_fault_is_warned_of(fault, warned: str) -> None:
    assert warned in codes(fault(lesion_like(7)))


@pytest.mark.parametrize("level", [0, 1, 90, 128, 254, 255])
def test_uniform_pictures_are_rejected(level: int) -> None:
    assert rejected(np.full((224, 224, 3), level, np.uint8))


def test_heavy_blur_is_rejected() -> None:
    assert rejected(cv2.GaussianBlur(lesion_like(2), (0, 0), 8)) == {"sharpness"}


def test_warnings_have_sentences_and_an_order() -> None:
    everything = {metric: (-1.0 if worse == "low" else 2.0) for metric, worse in METRICS.items()}
    found = warnings(everything, LIMITS)
    assert [warning.code for warning in found] == list(METRICS)
    for warning in found:
        assert isinstance(warning, QualityWarning)
        assert warning.text.count(".") >= 2  # it says what is wrong and what to do


def test_no_limit_no_warning() -> None:
    assert warnings(measure(np.zeros((224, 224, 3), np.uint8)), {}) == ()
    open_ended = {"sharpness": QualityLimit(worse="low", warn=None, reject=5.0)}
    assert warnings({"sharpness": 0.0}, open_ended) == ()
    assert warnings({}, LIMITS) == ()


def test_limits_warn_in_the_tail_and_reject_beyond_everything_seen() -> None:
    rng = np.random.default_rng(0)
    samples = [
        dict.fromkeys(METRICS, 0.3) | {"sharpness": float(v), "glare": float(g)} for v, g in rng.uniform(0.1, 0.6, (2000, 2))
    ]
    limits = derive_limits(samples)
    assert set(limits) == set(METRICS)
    assert {metric for metric, limit in limits.items() if limit.reject is None} == ADVISORY
    for metric, warned in (("sharpness", 10), ("glare", 10)):
        limit = limits[metric]
        assert limit.worse == METRICS[metric]
        assert sum(limit.beyond(sample[metric], limit.warn) for sample in samples) == pytest.approx(warned, abs=2)
        assert not any(limit.beyond(sample[metric], limit.reject) for sample in samples)


def test_a_share_that_never_occurs_gets_a_floor() -> None:
    limits = derive_limits([dict.fromkeys(METRICS, 0.0)])
    for metric in ("underexposed", "overexposed", "glare"):
        assert limits[metric].warn == 0.01


def test_slight_blur_is_only_shown_and_more_of_it_withholds_a_low_suspicion() -> None:
    limit = LIMITS["sharpness"]
    assert limit.warn is not None
    assert limit.doubt is not None
    assert limit.reject is not None
    assert limit.reject < limit.doubt < limit.warn
    slightly, strongly = (limit.doubt + limit.warn) / 2, (limit.reject + limit.doubt) / 2
    assert [warning.advisory for warning in warnings({"sharpness": slightly}, LIMITS)] == [True]
    assert [warning.advisory for warning in warnings({"sharpness": strongly}, LIMITS)] == [False]


def test_what_covers_the_skin_only_advises() -> None:
    assert {warning.code for warning in warnings(dict.fromkeys(METRICS, 1.0), LIMITS) if warning.advisory} == ADVISORY
    limits = derive_limits([dict.fromkeys(METRICS, 0.3) | {"hair": float(value)} for value in np.linspace(0, 1, 101)])
    assert limits["hair"] == QualityLimit(worse="high", warn=0.95, doubt=None)


def test_limits_of_an_older_manifest_go_on_working() -> None:
    older = {metric: QualityLimit(worse="high", warn=0.1, reject=0.5) for metric in ("glare", "underexposed")}
    found = warnings(dict.fromkeys(METRICS, 0.3), older)
    assert [(warning.code, warning.advisory) for warning in found] == [("underexposed", False), ("glare", False)]


def test_limits_need_complete_samples() -> None:
    with pytest.raises(ValueError, match="none"):
        derive_limits([])
    with pytest.raises(ValueError, match="finite glare"):
        derive_limits([dict.fromkeys(METRICS, 0.3) | {"glare": math.nan}])
    with pytest.raises(ValueError, match="finite sharpness"):
        derive_limits([{"brightness": 1.0}])


@pytest.mark.parametrize("shape", [(224, 224), (224, 224, 4), (0, 5, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Received: uint8"):
        measure(np.zeros(shape, np.uint8))


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(3))))
def test_measures_are_finite_and_in_range(pixels: np.ndarray) -> None:
    measures = measure(pixels)
    assert list(measures) == list(METRICS)
    assert all(math.isfinite(value) and value >= 0 for value in measures.values())
    for metric in set(METRICS) - {"sharpness", "resolution"}:
        assert measures[metric] <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.fixed_dictionaries({metric: st.floats(0, 1) for metric in METRICS}), min_size=1, max_size=30))
def test_no_sample_is_ever_rejected_by_its_own_limits(samples: list[dict[str, float]]) -> None:
    limits = derive_limits(samples)
    for sample in samples:
        assert not any(limit.beyond(sample[metric], limit.reject) for metric, limit in limits.items())
