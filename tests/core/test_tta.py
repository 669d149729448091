"""Test-time augmentation: eight orientations, one result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_core.bundle.manifest import Label
from aiderm_core.runtime import Outputs, load_runtime
from aiderm_core.tta import POOLS, VIEWS, TtaRuntime, pooled, views

LABELS = (
    Label(id="mel", name="Melanoma", malignant=True),
    Label(id="bcc", name="Basal cell carcinoma", malignant=True),
    Label(id="nv", name="Naevus", malignant=False),
)
MALIGNANT = np.array([True, True, False])


class Positions:
    """A runtime that depends on where bright pixels are, so all its outputs depend on the orientation."""

    name, precision = "openvino", "f32"

    def run(self, batch, hint="latency"):
        light = batch[..., 0].astype(np.float64) / 255
        side = light.shape[1]
        ramp = np.linspace(-3, 3, side)[None, :, None] + np.linspace(-1, 1, side)[None, None]
        logits = np.stack([(light * ramp).sum((1, 2)), light[:, 0].sum(1), light[:, :, 0].sum(1)], axis=1)
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        malignancy = probability[:, :2].sum(1)
        return Outputs(
            probability.astype(np.float32),
            malignancy.astype(np.float32),
            (light * malignancy[:, None, None]).astype(np.float32),
            logits[:, 1].astype(np.float32),
        )


@pytest.fixture(scope="module")
def batch():
    return np.random.default_rng(3).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)


def test_views_are_the_eight_symmetries_and_begin_with_the_picture(batch):
    seen = views(batch)
    assert seen.shape == (24, 6, 6, 3)
    assert seen.dtype == np.uint8
    for n, picture in enumerate(batch):
        own = seen[n * VIEWS : (n + 1) * VIEWS]
        assert (own[0] == picture).all()
        assert len({view.tobytes() for view in own}) == 8
        assert {view.tobytes() for view in views(np.ascontiguousarray(np.rot90(picture))[None])} == {v.tobytes() for v in own}
    with pytest.raises(ValueError, match=r"Received: \[1, 4, 6, 3\]"):
        views(np.zeros((1, 4, 6, 3), np.uint8))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("turn", [lambda p: np.rot90(p, axes=(1, 2)), lambda p: p[:, ::-1], lambda p: p.swapaxes(1, 2)])
def test_answers_do_not_depend_on_the_orientation_and_maps_turn_with_the_picture(batch, pool, turn):
    runtime = TtaRuntime(Positions(), LABELS, pool)
    straight, turned = runtime.run(batch), runtime.run(np.ascontiguousarray(turn(batch)))
    assert turned.malignancy == pytest.approx(straight.malignancy, abs=1e-6)
    assert turned.probability == pytest.approx(straight.probability, abs=1e-6)
    assert np.allclose(turned.heatmap, turn(straight.heatmap), atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_one_answer_a_picture_that_keeps_the_contract(batch, pool):
    outputs = TtaRuntime(Positions(), LABELS, pool).run(batch)
    assert outputs.probability.shape == (3, 3)
    assert outputs.heatmap.shape == (3, 6, 6)
    assert outputs.probability.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)
    assert outputs.malignancy == pytest.approx(outputs.probability[:, :2].sum(axis=1), abs=1e-6)
    assert (outputs.heatmap.max(axis=(1, 2)) <= outputs.malignancy + 1e-6).all()
    assert (outputs.novelty == Positions().run(batch).novelty).all()
    assert all(getattr(outputs, name).dtype == np.float32 for name in ("probability", "malignancy", "heatmap", "novelty"))


@given(
    logits=st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=VIEWS, max_size=VIEWS),
    shift=st.floats(-4, 4),
)
@settings(max_examples=60, deadline=None)
def test_a_shift_of_the_prior_passes_through_the_mean_of_log_odds(logits, shift):
    def log_odds(extra):
        values = np.array(logits) + extra * MALIGNANT
        probability = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        # float64 throughout, because this tests the formula and not the rounding
        outputs = Outputs(probability, probability[:, :2].sum(axis=1), np.zeros((VIEWS, 2, 2)), np.zeros(VIEWS))
        answer = pooled(outputs, MALIGNANT, "log_odds").probability.astype(np.float64)[0]
        return np.log(answer[:2].sum()) - np.log(answer[2])

    assert log_odds(shift) - log_odds(0.0) == pytest.approx(shift, abs=2e-3)


def test_views_that_agree_change_nothing():
    outputs = Outputs(
        np.tile(np.float32([0.5, 0.2, 0.3]), (8, 1)), np.full(8, 0.7, np.float32), np.full((8, 2, 2), 0.7, np.float32), np.ones(8)
    )
    for pool in POOLS:
        answer = pooled(outputs, MALIGNANT, pool)
        assert answer.probability[0] == pytest.approx([0.5, 0.2, 0.3], abs=1e-6)
        assert answer.heatmap[0] == pytest.approx(np.full((2, 2), 0.7), abs=1e-6)


def test_broken_answers_are_not_hidden():
    probability = np.tile(np.float32([0.5, 0.2, 0.3]), (8, 1))
    probability[3, 0] = np.nan
    outputs = Outputs(probability, np.r_[np.full(7, 0.7), np.nan].astype(np.float32), np.zeros((8, 2, 2), np.float32), np.ones(8))
    for pool in POOLS:
        answer = pooled(outputs, MALIGNANT, pool)
        assert np.isnan(answer.probability).any()
        assert np.isnan(answer.malignancy).all()


def test_what_does_not_fit_is_refused():
    outputs = Outputs(np.ones((7, 3), np.float32), np.ones(7), np.ones((7, 2, 2)), np.ones(7))
    with pytest.raises(ValueError, match="Received: 7 and 3"):
        pooled(outputs, MALIGNANT, "probability")
    with pytest.raises(ValueError, match="Received: 'median'"):
        TtaRuntime(Positions(), LABELS, "median")


def test_it_runs_a_real_graph(sound_bundle, manifest):
    """The graph's heatmap is the green channel; the pooled one must match it, and no image may affect another."""
    pictures = np.full((2, 64, 64, 3), (200, 0, 20), np.uint8)
    pictures[0, :16, :16, 1] = 250
    pictures[1, 48:, :16, 1] = 250
    plain = load_runtime("openvino", sound_bundle)
    runtime = TtaRuntime(plain, manifest.labels, "probability")
    assert (runtime.name, runtime.precision) == ("openvino", "f32")
    outputs, alone = runtime.run(pictures), plain.run(pictures)
    assert outputs.malignancy == pytest.approx(alone.malignancy, abs=1e-5)
    assert outputs.heatmap == pytest.approx(alone.heatmap, abs=1e-5)
    assert outputs.heatmap[1, -1, 0] > 0.5
