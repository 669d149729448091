"""Runs the frozen part of a network in OpenVINO while TensorFlow trains the rest.

The layers before the first trained one compute the same function in every step, so they need no gradient and no
TensorFlow: the first blocks of MobileNetV2 took 0.10 s per batch in OpenVINO, and 0.22 to 0.55 s in TensorFlow.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray


class Trunk:
    """Compiled frozen layers: uint8 ``[N, S, S, 3]`` -> float32 feature map; several threads may call it."""

    def __init__(self, model: Any) -> None:
        import openvino  # a machine that trains with another backend may not have it

        self._alone = threading.Lock()
        with tempfile.TemporaryDirectory() as folder:
            model.export(Path(folder) / "trunk", verbose=False)
            core = openvino.Core()
            # f32: the features must equal those that the exported graph computes later.
            self._compiled = core.compile_model(
                core.read_model(Path(folder) / "trunk"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
        # With more than ten outputs, the compiled model lists output_10 before output_2.
        self._outputs = sorted(self._compiled.outputs, key=lambda port: int(port.get_any_name().removeprefix("output_")))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of a batch."""
        return self.maps(images)[0]

    def maps(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All outputs of the layers, in the model's order."""
        with self._alone:  # a compiled model has one built-in request, which rejects a second caller
            found = self._compiled([images])
            return [np.array(found[port], np.float32) for port in self._outputs]


class Inference(Protocol):
    """Uint8 images ``[N, S, S, 3]`` -> a network's output, float32."""

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Output for a batch."""
        ...


def inference(model: Any) -> Inference:
    """Returns the fastest way to run a network that is no longer trained: OpenVINO with TensorFlow, else the backend itself."""
    if keras.backend.backend() == "tensorflow":
        return Trunk(model)
    return lambda images: np.asarray(model.predict_on_batch(images), np.float32)


def cut(model: Any) -> tuple[Any, Any] | None:
    """Splits a network before its first trained layer.

    Args:
        model: uint8 images -> logits, with ``trainable`` set on its layers.

    Returns:
        (frozen part, trained part), two models that share the network's layers and whose composition is the network;
        None if there is no frozen part that is worth running separately.
    """
    layers = model.layers
    trained = next((i for i, layer in enumerate(layers) if layer.trainable_weights), len(layers))
    # Not every layer is a valid cut: a shortcut may bypass it. Walk back to the last one that all paths go through.
    for layer in reversed(layers[1:trained]):
        try:
            tail = keras.Model(layer.output, model.output, name="trained_part")
        except ValueError:
            continue
        frozen = keras.Model(model.input, layer.output, name="frozen_part")
        return (frozen, tail) if frozen.weights and tail.trainable_weights else None
    return None
