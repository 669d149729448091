"""Builds the custom CNN: (Conv2D, MaxPooling2D, Dropout) twice, Flatten, Dense ReLU, Dense sigmoid (or softmax)."""

from __future__ import annotations

import keras

from aiderm_trainer.architectures.heads import dense_head
from aiderm_trainer.architectures.network import Network
from aiderm_trainer.config import TrainConfig

NAME = "custom_cnn"
SIZE = 96
LARGEST_MAP = 16


def build(config: TrainConfig, classes: int) -> Network:
    """Builds the network for any input size; pooling grows with the size, so that the flattened map stays at most 16 x 16."""
    size = config.size or SIZE
    pool = next(p for p in range(2, size) if size // p // p <= LARGEST_MAP)
    x = inputs = keras.Input((size, size, 3), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    for i, filters in enumerate((32, 64)):
        initial = keras.initializers.HeNormal(seed=config.seed + 100 + i)
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=initial, name=f"conv_{i}")(x)
        x = keras.layers.MaxPooling2D(pool, name=f"pool_{i}")(x)
        x = keras.layers.Dropout(config.dropout, seed=config.seed + 200 + i, name=f"dropout_{i}")(x)
    vector = keras.layers.Flatten(name="vector")(x)
    logits, dense = dense_head(vector, config.dense, config.dropout, classes, config.seed)
    return Network(
        model=keras.Model(inputs, logits, name=NAME),
        taps=("dropout_1",),
        pooling="flatten",
        dense=dense,
        vector="vector",
        novelty=None,
        pretrained=False,
    )
