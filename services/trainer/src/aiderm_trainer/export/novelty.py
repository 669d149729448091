"""How far a picture lies from the training images, in the features of layers that were not fine-tuned.

A Gaussian on the leading principal components and an even variance for all others (Tipping and Bishop, "Probabilistic
Principal Component Analysis", 1999); its Mahalanobis distance (Lee et al., NeurIPS 2018) per dimension is the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

COMPONENTS = 64
PRECISION = 1e-3


@dataclass(frozen=True)
class NoveltyModel:
    """Mean ``[D]``, axes ``[D, K]``, variance along each axis ``[K]``, and the variance of what is left."""

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    variance: NDArray[np.float32]
    residual: float


def fit(features: NDArray[np.float32], components: int = COMPONENTS) -> NoveltyModel:
    """Fits it to features ``[N, D]`` of training images.

    Raises:
        ValueError: fewer than three images, or features that do not vary.
    """
    count, width = features.shape
    components = min(components, width - 1, count - 2)
    if components < 1:
        raise ValueError(f"novelty needs at least 3 images and 2 features. Received: {count} x {width}")
    mean = features.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(features - mean, full_matrices=False)
    variance = singular**2 / (count - 1)
    residual = float(variance[components:].sum() / (width - components))
    if not variance.sum() > 0:
        raise ValueError("novelty cannot be fitted: all features are constant")
    # Nothing counts as unusual by less than float32 features mean: about a thousandth of their own size.
    floor = PRECISION**2 * float((mean**2).mean() + variance.sum() / width)
    return NoveltyModel(
        mean.astype(np.float32),
        axes[:components].T.astype(np.float32),
        np.maximum(variance[:components], floor).astype(np.float32),
        max(residual, floor),
    )


def score(features: Any, mean: Any, axes: Any, variance: Any, residual: Any) -> Any:
    """Root mean square distance, in standard deviations: features ``[N, D]`` -> ``[N]``."""
    centered = features - mean
    along = tf.matmul(centered, axes)
    # The rest itself, not a difference of two squared lengths: that would cancel to noise which differs between engines.
    rest = centered - tf.matmul(along, axes, transpose_b=True)
    distance = tf.reduce_sum(along**2 / variance, axis=1) + tf.reduce_sum(rest**2, axis=1) / residual
    return tf.sqrt(distance / float(mean.shape[0]))
