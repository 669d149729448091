"""Builds a small decoder that outlines the lesion from the maps that a frozen network computes anyway.

A feature pyramid (Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017) with depthwise separable
convolutions: from the deepest map up, each map is enlarged and added to the next finer one. It takes about 4% of
MobileNetV2's multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import keras

STRIDE: Final = 4  # image pixels per outline pixel
WIDTHS: Final = (64, 64, 32, 24)  # channels at strides 32, 16, 8 and 4


def readable(maps: Sequence[Any], size: int) -> list[Any]:
    """The maps that the decoder reads: all that are no finer than the outline.

    Args:
        maps: a network's maps ``[N, h, w, c]`` of several depths, from fine to coarse.
        size: side of the image.
    """
    return [tensor for tensor in maps if tensor.shape[1] * STRIDE <= size]


def build_decoder(shapes: Sequence[tuple[int, int, int]]) -> Any:
    """Builds the decoder for maps of these shapes.

    Args:
        shapes: ``(h, w, channels)`` of each map, from fine to coarse.

    Returns:
        a keras model: the maps ``[N, h, w, c]`` -> logits ``[N, h, w, 1]`` of the finest map's size, above 0 inside the lesion.
    """
    maps = [keras.Input(shape, name=f"map_{i}") for i, shape in enumerate(shapes)]
    widths = WIDTHS[-len(maps) :] if len(maps) <= len(WIDTHS) else (WIDTHS[0],) * (len(maps) - len(WIDTHS)) + WIDTHS
    merged = None
    for tensor, width in zip(reversed(maps), widths, strict=True):
        own = keras.layers.Conv2D(width, 1, use_bias=False)(tensor)
        own = keras.layers.BatchNormalization(momentum=0.9)(own)
        if merged is not None:
            coarse = keras.layers.Conv2D(width, 1, use_bias=False)(merged)
            own = own + keras.layers.Resizing(*tensor.shape[1:3], interpolation="bilinear")(coarse)
        own = keras.layers.Activation("relu")(own)
        own = keras.layers.SeparableConv2D(width, 5 if tensor.shape[1] < 32 else 3, padding="same", use_bias=False)(own)
        merged = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(own))
    return keras.Model(maps, keras.layers.Conv2D(1, 1)(merged), name="outline_decoder")
