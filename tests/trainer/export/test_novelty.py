import numpy as np
import pytest

from aiderm_trainer.export import novelty


def scored(features: np.ndarray, model: novelty.NoveltyModel) -> np.ndarray:
    return np.asarray(novelty.score(features.astype(np.float32), *(getattr(model, name) for name in model.names())))


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(4)
    return (rng.normal(size=(500, 12)) * np.linspace(3, 0.2, 12) + 5).astype(np.float32)


def test_one_training_image_in_a_hundred_lies_beyond_one(features: np.ndarray) -> None:
    assert (scored(features, novelty.fit(features, components=4)) > 1.0).mean() == pytest.approx(0.01, abs=0.002)


def test_it_is_the_mahalanobis_distance_of_the_fitted_covariance(features: np.ndarray) -> None:
    model = novelty.fit(features, components=4)
    axes = model.axes.astype(np.float64)
    covariance = axes @ np.diag(model.variance) @ axes.T + model.residual * (np.eye(12) - axes @ axes.T)
    standard = (features[:20].astype(np.float64) - model.mean) / model.deviation
    expected = np.sqrt(np.einsum("ni,ij,nj->n", standard, np.linalg.inv(covariance), standard) / 12)
    assert scored(features[:20], model) == pytest.approx(expected, rel=1e-3)


def test_images_that_lie_near_but_are_of_another_kind_stand_out_only_when_they_were_shown(features: np.ndarray) -> None:
    close = features[::2] + 2.5 * features.std(axis=0) * np.where(np.arange(12) < 4, 1, 0)
    seen, unseen = close[:120], close[120:]
    alone, taught = novelty.fit(features, components=4), novelty.fit(features, seen, components=4)
    assert (scored(unseen, alone) > 1.0).mean() < 0.9 * (scored(unseen, taught) > 1.0).mean()
    assert (scored(unseen, taught) > 1.0).mean() > 0.8
    assert (scored(features, taught) > 1.5).mean() < 0.02


def test_far_away_scores_higher_along_and_across_the_axes(features: np.ndarray) -> None:
    model = novelty.fit(features, components=4)
    far = features[:50] + 10 * model.axes[:, 0] * np.sqrt(model.variance[0]) * model.deviation
    odd = features[:50] + 10 * np.eye(12)[11] * np.sqrt(model.residual) * model.deviation
    assert scored(far, model).min() > np.quantile(scored(features, model), 0.99)
    assert scored(odd, model).min() > np.quantile(scored(features, model), 0.99)


def test_too_little_or_constant_data_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 images"):
        novelty.fit(np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="constant"):
        novelty.fit(np.ones((9, 8), np.float32))
