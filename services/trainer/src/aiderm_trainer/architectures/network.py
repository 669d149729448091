"""Describes a network for training and export, whatever its architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Network:
    """A network and the names of the parts that the heatmap and the novelty are computed from.

    Attributes:
        model: uint8 ``[N, S, S, 3]`` -> logits ``[N, C]``, or ``[N, 1]`` for two classes.
        taps: layers whose feature maps enter the head.
        pooling: how maps become the head's vector: each averaged and all concatenated, or the only one flattened.
        dense: the head's Dense layers, in order; all but the last have a ReLU.
        vector: the layer that gives the head's input.
        novelty: uint8 images -> feature map ``[N, h, w, c]`` of fixed, pretrained layers; None if there are none.
        pretrained: whether training starts with the head alone.
    """

    model: Any
    taps: tuple[str, ...]
    pooling: Literal["average", "flatten"]
    dense: tuple[str, ...]
    vector: str
    novelty: Any | None
    pretrained: bool

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return int(self.model.input_shape[1])

    @property
    def detailed(self) -> Any:
        """The same layers with ``[*maps, vector, logits]`` as outputs."""
        outputs = [self.model.get_layer(name).output for name in (*self.taps, self.vector)]
        return keras.Model(self.model.input, [*outputs, self.model.output])

    @property
    def features(self) -> Any:
        """The same layers up to the head's input: uint8 ``[N, S, S, 3]`` -> ``[N, F]``."""
        return keras.Model(self.model.input, self.model.get_layer(self.vector).output)

    @property
    def head(self) -> Any:
        """The same layers from the head's input on: ``[N, F]`` -> logits."""
        vector = self.model.get_layer(self.vector)
        out = entry = keras.Input(vector.output.shape[1:])
        for layer in self.model.layers[self.model.layers.index(vector) + 1 :]:
            out = layer(out)
        return keras.Model(entry, out)
