"""Runs the frozen part of a network in OpenVINO while TensorFlow trains the rest.

The layers before the first trained one compute the same function in every step, so they need no gradient and no TensorFlow:
on two cores, the first blocks of MobileNetV2 took 0.05 s per batch of 32 in OpenVINO, and 0.22 to 0.55 s in TensorFlow.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.runtime.cores import usable_cores


class Trunk:
    """Compiled frozen layers: uint8 ``[N, S, S, 3]`` -> float32 feature map; several threads may call it.

    Each core computes one image at a time, because the feature maps of one image fit into its cache and those of a batch do not.
    For the first blocks of MobileNetV2, this takes 0.6 of the processor time that a batch on all cores takes.
    """

    def __init__(self, model: Any) -> None:
        import openvino  # a machine that trains with another backend may not have it

        from aiderm_core.runtime.openvino import fix_shape

        cores = usable_cores()
        self._alone = threading.Lock()
        with tempfile.TemporaryDirectory() as folder:
            model.export(Path(folder) / "trunk", verbose=False)
            core = openvino.Core()
            frozen = core.read_model(Path(folder) / "trunk")
            fix_shape(frozen)
            # f32: the features must equal those that the exported graph computes later. TensorFlow's threads share the cores.
            settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
            compiled = core.compile_model(frozen, "CPU", settings | {"ENABLE_CPU_PINNING": False})
        # With more than ten outputs, the compiled model lists output_10 before output_2.
        names = [int(port.get_any_name().removeprefix("output_")) for port in compiled.outputs]
        order = sorted(range(len(names)), key=names.__getitem__)
        self._shapes = [tuple(compiled.outputs[place].get_shape())[1:] for place in order]

        def keep(request: Any, task: tuple[int, list[NDArray[np.float32]]]) -> None:
            # Copies the outputs for one image: the request's next call overwrites them.
            index, found = task
            for place, output in zip(order, found, strict=True):
                output[index] = request.get_output_tensor(place).data[0]

        self._queue = openvino.AsyncInferQueue(compiled, cores)
        self._queue.set_callback(keep)  # not a method: the queue would then keep this object, and its graph, for good

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of a batch."""
        return self.maps(images)[0]

    def maps(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All outputs of the layers, in the model's order."""
        found = [np.empty((len(images), *shape), np.float32) for shape in self._shapes]
        with self._alone:  # waiting for all requests would also wait for those of another caller
            for index in range(len(images)):
                self._queue.start_async([images[index : index + 1]], (index, found))
            self._queue.wait_all()
        return found


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
