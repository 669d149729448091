import numpy as np
import pytest

from aiderm_trainer.export import novelty


def scored(features: np.ndarray, model: novelty.NoveltyModel) -> np.ndarray:
    return np.asarray(
        novelty.score(features.astype(np.float32), model.mean, model.axes, model.variance, np.float32(model.residual))
    )


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(4)
    return (rng.normal(size=(500, 12)) * np.linspace(3, 0.2, 12) + 5).astype(np.float32)


def test_training_images_lie_about_one_standard_deviation_away(features: np.ndarray) -> None:
    model = novelty.fit(features, components=4)
    assert np.sqrt((scored(features, model) ** 2).mean()) == pytest.approx(1.0, abs=0.02)


def test_it_is_the_mahalanobis_distance_of_the_fitted_covariance(features: np.ndarray) -> None:
    model = novelty.fit(features, components=4)
    axes = model.axes.astype(np.float64)
    covariance = axes @ np.diag(model.variance) @ axes.T + model.residual * (np.eye(12) - axes @ axes.T)
    centered = features[:20].astype(np.float64) - model.mean
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centered, np.linalg.inv(covariance), centered) / 12)
    assert scored(features[:20], model) == pytest.approx(expected, rel=1e-3)


def test_far_away_scores_higher_along_and_across_the_axes(features: np.ndarray) -> None:
    model = novelty.fit(features, components=4)
    far = features[:50] + 10 * model.axes[:, 0] * np.sqrt(model.variance[0])
    odd = features[:50] + 10 * np.eye(12)[11] * np.sqrt(model.residual)
    assert scored(far, model).min() > np.quantile(scored(features, model), 0.99)
    assert scored(odd, model).min() > np.quantile(scored(features, model), 0.99)


def test_too_little_or_constant_data_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 images"):
        novelty.fit(np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="constant"):
        novelty.fit(np.ones((9, 8), np.float32))
