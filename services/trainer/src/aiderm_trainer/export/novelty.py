"""Measures how far an image is from dermoscopic training images, in features from several depths of the network.

The score combines two measures. The first is a distance from the training images: a Gaussian on the leading principal
components and one common variance for all others (Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999),
whose Mahalanobis distance (Lee et al., NeurIPS 2018) rises for anything that training has never shown. The second is a linear
classifier of the same features, dermoscopic or not, fitted to training images against simulated close-ups and everyday
photographs (outlier exposure, Hendrycks et al., ICLR 2019): a close-up shows the same lesion, so it is too near for the
distance alone to detect.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float32]
COMPONENTS: Final = 64
PRECISION: Final = 1e-3
# Both measures are scaled so that this share of the training images does not exceed 1.
USUAL: Final = 0.99
PENALTY: Final = 0.003  # inverse strength of the ridge penalty on standardised features


@dataclass(frozen=True)
class NoveltyModel:
    """The fitted parameters for features of width D.

    Attributes:
        mean: ``[D]``, mean of the training images.
        deviation: ``[D]``, scale by which features are divided first.
        axes: ``[D, K]``, principal components of the standardised features.
        variance: ``[K]``, variance along each axis.
        residual: variance of each remaining component, a scalar.
        head: ``[D]``, weights of the classifier "not dermoscopic"; 0 if no other images were given.
        offset: added to the head's sum, a scalar.
    """

    mean: Floats
    deviation: Floats
    axes: Floats
    variance: Floats
    residual: np.float32
    head: Floats
    offset: np.float32

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The fields, in the order in which ``score`` takes them."""
        return tuple(field.name for field in fields(cls))


def fit(features: Floats, others: Floats | None = None, components: int = COMPONENTS) -> NoveltyModel:
    """Fits the model to features of training images and, for the classifier, to those of images that are not dermoscopic.

    Args:
        features: ``[N, D]``.
        others: ``[M, D]``; the score is the distance alone when None.
        components: components of the Gaussian; fewer if there are fewer features or images.

    Raises:
        ValueError: fewer than three images, or features that do not vary.
    """
    count, width = features.shape
    components = min(components, width - 1, count - 2)
    if components < 1:
        raise ValueError(f"novelty needs at least 3 images and 2 features. Received: {count} x {width}")
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    if not spread.sum() > 0:
        raise ValueError("novelty cannot be fitted: all features are constant")
    # A feature that hardly varies says little, and float32 noise in it must not count as unusual.
    deviation = np.maximum(spread, np.maximum(0.05 * spread.mean(), PRECISION * np.abs(mean)))
    standard = (features - mean) / deviation
    _, singular, axes = np.linalg.svd(standard, full_matrices=False)
    variance = singular**2 / (count - 1)
    residual = max(float(variance[components:].sum() / (width - components)), PRECISION)
    model = NoveltyModel(
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        axes=np.ascontiguousarray(axes[:components].T, np.float32),
        variance=np.maximum(variance[:components], PRECISION).astype(np.float32),
        residual=np.float32(residual),
        head=np.zeros(width, np.float32),
        offset=np.float32(0.0),
    )
    head, offset = (model.head, model.offset) if others is None else _classifier(standard, (others - mean) / deviation)
    plain = np.asarray(score(features.astype(np.float32), *(getattr(model, name) for name in NoveltyModel.names())))
    unit = np.float32(np.quantile(plain, USUAL) ** 2)
    return NoveltyModel(model.mean, model.deviation, model.axes, model.variance * unit, model.residual * unit, head, offset)


def _classifier(dermoscopic: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[Floats, np.float32]:
    """Weights and offset of log-odds, scaled to 0 at the median training image and to 1 at their ``USUAL`` quantile."""
    x = np.concatenate([dermoscopic, others])
    y = np.concatenate([np.zeros(len(dermoscopic)), np.ones(len(others))])
    fitted = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=2000).fit(x, y)
    odds = dermoscopic @ fitted.coef_[0]
    middle, usual = np.quantile(odds, (0.5, USUAL))
    scale = max(float(usual - middle), PRECISION)
    return np.asarray(fitted.coef_[0] / scale, np.float32), np.float32(-middle / scale)


def score(features: Any, mean: Any, deviation: Any, axes: Any, variance: Any, residual: Any, head: Any, offset: Any) -> Any:
    """Features ``[N, D]`` -> novelty ``[N]``: about 1 where only 1% of training images are above, growing with either measure."""
    standard = (features - mean) / deviation
    along = tf.matmul(standard, axes)
    # The residual itself, not a difference of two squared lengths, which would cancel to noise that differs between engines.
    rest = standard - tf.matmul(along, axes, transpose_b=True)
    distance = tf.reduce_sum(along**2 / variance, axis=1) + tf.reduce_sum(rest**2, axis=1) / residual
    other = tf.nn.relu(tf.reduce_sum(standard * head, axis=1) + offset)
    return tf.sqrt(distance / float(mean.shape[0]) + other**2)
