"""Computes embeddings with a pretrained backbone, for finding similar images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.config import TrainConfig

ARCHITECTURE = "mobilenet_v2"
SIZE = 224
Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def load_embedding(weights: str | Path) -> Embed:
    """Returns a function uint8 ``[N, 224, 224, 3]`` -> float32 ``[N, D]``: pooled maps of three depths of MobileNetV2.

    Args:
        weights: a file of pretrained weights, or ``imagenet``.

    Raises:
        aiderm_trainer.config.ConfigError: the weights cannot be loaded.
    """
    network = build(TrainConfig(arch=ARCHITECTURE, weights=str(weights), size=SIZE), 2)
    vector = network.model.get_layer(network.vector).output
    return Trunk(keras.Model(network.model.input, vector, name="embedding"))
