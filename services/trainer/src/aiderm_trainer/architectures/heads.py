"""Builds the dense head: dropout and ReLU layers, then one sigmoid's logit or a softmax's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def dense_head(vector: Any, units: Sequence[int], dropout: float, classes: int, seed: int) -> tuple[Any, tuple[str, ...]]:
    """Adds Dense(ReLU) layers and the logits to a feature vector.

    Args:
        vector: features ``[N, F]``.
        units: width of each hidden layer.
        dropout: share dropped before each layer.
        classes: number of classes; 2 gives one unit.
        seed: of initial weights and dropout.

    Returns:
        logits ``[N, C]`` (``[N, 1]`` for two classes), and the Dense layers' names.
    """
    names = []
    for i, width in enumerate(units):
        vector = keras.layers.Dropout(dropout, seed=seed + 10 * i, name=f"head_dropout_{i}")(vector)
        name = f"head_dense_{i}"
        initial = keras.initializers.HeNormal(seed=seed + 10 * i + 1)
        vector = keras.layers.Dense(width, activation="relu", kernel_initializer=initial, name=name)(vector)
        names.append(name)
    vector = keras.layers.Dropout(dropout, seed=seed + 997, name="head_dropout")(vector)
    # Initial weights are small, so that the first loss is that of a model that knows nothing.
    initial = keras.initializers.RandomNormal(stddev=0.01, seed=seed + 998)
    logits = keras.layers.Dense(1 if classes == 2 else classes, kernel_initializer=initial, name="logits")(vector)
    return logits, (*names, "logits")
