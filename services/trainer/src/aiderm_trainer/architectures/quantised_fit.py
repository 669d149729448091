"""Sets the weights of a quantised network, and the levels of its maps, from the original network.

All of a convolution's sums are multiples of a small power of two, its grid, so that a float32 holds them exactly. Of its 24 bits,
eight count the levels of the next map, eleven the grid steps within a level, and three keep sums away from the middle between
two levels. Two are left for larger sums.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_trainer.architectures.quantised import Rounded, RoundedDepthwise, RoundedWeights, flat, folded, readers

_LOWEST: Final = -128  # lowest level of a map that has values below 0
_FINER: Final = 3  # number of powers of two tried as the distance between levels: smaller ones round less and clip more
_EVERY: Final = 31  # one in this many values of a map is used to find its levels
_PLACES: Final = 20_000  # about this many positions of a map are used to round weights
_DAMPING: Final = 0.01  # share of the mean square of the inputs that is added to the diagonal of their moments
_LEAST: Final = 1e-6  # added to spreads and diagonals: those of a channel that is almost always 0 are almost 0
_MOST: Final = 2.0  # largest factor by which a spread is corrected
_PART: Final = 32  # images per call of a layer
_GRID: Final = 2.0**-11  # share of the distance that two levels of a convolution's output would have
# Share of the grid, added to every bias. Otherwise a sum, even of several convolutions, could lie in the middle between two
# levels, where TensorFlow rounds up and OpenVINO rounds to the even level.
_OFF_HALFWAY: Final = 1 / 8


def fit(model: Any, original: Any, images: NDArray[np.uint8]) -> None:
    """Sets the weights of a quantised network to the rounded weights of the original, and sets the levels of its maps.

    Rounding changes the mean and the spread of a convolution's output, and these errors add up from layer to layer. So each
    convolution is corrected to the original's mean and spread, which needs no labels (Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", ICCV 2019).

    Args:
        model: from ``quantised``.
        original: the network that it was made from.
        images: uint8 ``[N, S, S, 3]``, of every domain; all maps of one layer are held in memory.
    """
    before, after = _Walk(original, images), _Walk(model, images)
    steps: dict[str, float] = {}
    for layer in model.layers[1:]:
        inputs = after.inputs(layer)
        source = after.names(layer)[0]
        if isinstance(layer, Rounded):
            lowest = 0 if np.min(inputs[0]) >= 0 else _LOWEST
            steps[layer.name] = step = _best_step(inputs[0], lowest)
            layer.low.assign(lowest * step)
            layer.high.assign((lowest + 255) * step)
            after.maps[layer.name] = _answer(layer, inputs)
            continue
        twin = original.get_layer(layer.name)
        given = before.inputs(twin)
        before.maps[layer.name] = _answer(twin, given)
        if type(twin) is type(layer):
            layer.set_weights(twin.get_weights())
        if isinstance(layer, keras.layers.ZeroPadding2D):
            steps[layer.name] = steps[source]
        if isinstance(layer, RoundedWeights):
            norm = next((each for each in readers(twin) if folded(each)), None)
            wanted = _answer(norm, [before.maps[layer.name]]) if norm else _before_activation(twin, given)
            _fit_convolution(layer, _folded_weights(twin, norm), inputs, wanted, steps[source])
        after.maps[layer.name] = _answer(layer, inputs)


def _fit_convolution(layer: Any, kernel: Any, inputs: list[Any], wanted: Any, step: float) -> None:
    """Sets a convolution's weights to ``kernel``, rounded, and corrects the mean and spread of its output to those of ``wanted``.

    Args:
        layer: the convolution.
        kernel: ``[..., C]``, the weights of the original with batch norm folded in.
        inputs: the rounded map that the layer reads.
        wanted: the original's output before its activation.
        step: distance between two levels of the map that the layer reads.
    """
    layer.bias.assign(np.zeros(layer.bias.shape))
    grid = _GRID * _best_step(wanted, _LOWEST)
    seen, (aim, aimed) = _second_moments(layer, inputs[0]), _moments(wanted)
    for _ in range(2):
        steps = np.maximum(_best_steps(kernel.reshape(-1, kernel.shape[-1]), -127, 127), grid / step)
        layer.step.assign(steps)
        layer.kernel.assign(_on_levels(kernel, steps, seen).reshape(layer.kernel.shape))
        mean, spread = _moments(_before_activation(layer, inputs))
        kernel = kernel * np.clip((aimed + _LEAST) / (spread + _LEAST), 1 / _MOST, _MOST)
    unit = step * steps
    layer.bias.assign(np.round((aim - mean) / unit) * unit + grid * _OFF_HALFWAY)


def _on_levels(kernel: NDArray[Any], steps: NDArray[Any], seen: NDArray[Any]) -> NDArray[Any]:
    """Rounds a kernel to its levels, one weight after the other; the weights that follow compensate for each error.

    Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023.

    Args:
        kernel: ``[..., C]``.
        steps: ``[C]``, distances between levels.
        seen: from ``_second_moments``.
    """
    groups, count = seen.shape[:2]
    weights = kernel.reshape(count, groups, -1).transpose(1, 0, 2).copy()  # [G, K, C / G]
    units = steps.reshape(groups, 1, -1)
    rounded = np.empty_like(weights)
    damped = seen + (_DAMPING * np.trace(seen, axis1=1, axis2=2) / count + _LEAST)[:, None, None] * np.eye(count)
    spread = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)  # upper triangles
    for at in range(count):
        now = weights[:, at : at + 1]
        rounded[:, at : at + 1] = np.clip(np.round(now / units), -127, 127) * units
        error = (now - rounded[:, at : at + 1]) / spread[:, at, at, None, None]
        weights[:, at + 1 :] -= spread[:, at, at + 1 :, None] * error
    return rounded.transpose(1, 0, 2).reshape(kernel.shape)


def _second_moments(layer: Any, maps: Any) -> NDArray[np.float64]:
    """Mean products of all pairs of a kernel's K inputs: ``[1, K, K]``; for a depthwise convolution ``[C, K, K]``."""
    (height, width), stride = layer.kernel_size, layer.strides[0]
    cells, strides, padding = (1, height, width, 1), (1, stride, stride, 1), layer.padding.upper()
    every = max(1, len(maps) * (maps.shape[1] // stride) * (maps.shape[2] // stride) // _PLACES)
    found: Any = 0
    count = 0
    for at in range(0, len(maps), _PART):
        part = np.asarray(tf.image.extract_patches(maps[at : at + _PART], cells, strides, (1, 1, 1, 1), padding))
        places = part.reshape(-1, part.shape[-1])[::every].astype(np.float64)
        if isinstance(layer, RoundedDepthwise):
            places = places.reshape(len(places), height * width, -1).transpose(2, 0, 1)
        else:
            places = places[None]
        found = found + places.transpose(0, 2, 1) @ places
        count += places.shape[1]
    return np.asarray(found / count)


def _best_step(maps: Any, lowest: int) -> float:
    """The power of two whose 256 multiples, from ``lowest`` on, are closest to the values of a map."""
    return float(_best_steps(np.reshape(maps, (-1, 1))[::_EVERY], lowest, lowest + 255)[0])


def _best_steps(values: NDArray[Any], lowest: int, highest: int) -> NDArray[np.float64]:
    """For each column of ``[N, C]``, the power of two whose multiples, ``lowest`` to ``highest``, have the least error."""
    need = np.maximum(values.max(0) / highest, values.min(0) / lowest if lowest else 0)
    largest = 2.0 ** np.ceil(np.log2(np.maximum(need, 2.0**-40)))
    tried = largest / 2.0 ** np.arange(_FINER)[:, None]
    errors = [np.mean((np.clip(np.round(values / steps), lowest, highest) * steps - values) ** 2, axis=0) for steps in tried]
    return tried[np.argmin(errors, axis=0), np.arange(values.shape[1])]


def _folded_weights(convolution: Any, norm: Any) -> Any:
    """Kernel ``[..., C]`` of a convolution, with the batch norm after it folded in."""
    kernel = np.asarray(convolution.kernel, np.float64)
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        kernel = np.asarray(flat(convolution.kernel), np.float64)
    if norm is None:
        return kernel
    scale = np.asarray(norm.gamma, np.float64) / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    return kernel * scale


def _moments(maps: Any) -> tuple[Any, Any]:
    return np.mean(maps, (0, 1, 2), dtype=np.float64), np.std(maps, (0, 1, 2), dtype=np.float64)


class _Walk:
    """The outputs of a network's layers for some images, each kept until the last layer has read it."""

    def __init__(self, model: Any, images: NDArray[np.uint8]) -> None:
        self.maps: dict[str, Any] = {model.input._keras_history.operation.name: images}
        self._readers = Counter(name for layer in model.layers for name in self.names(layer))

    def inputs(self, layer: Any) -> list[Any]:
        """The inputs of a layer; to be called once per layer."""
        found = [self.maps[name] for name in self.names(layer)]
        for name in self.names(layer):
            self._readers[name] -= 1
            if not self._readers[name]:
                del self.maps[name]
        return found

    @staticmethod
    def names(layer: Any) -> list[str]:
        """The names of the layers that a layer reads."""
        return [tensor._keras_history.operation.name for tensor in layer._inbound_nodes[0].input_tensors]


def _answer(layer: Any, inputs: list[Any]) -> Any:
    """A layer's output for arrays, a part of the images at a time."""
    parts = []
    for at in range(0, len(inputs[0]), _PART):
        given = [each[at : at + _PART] for each in inputs]
        parts.append(np.asarray(layer(given[0] if len(given) == 1 else given, training=False)))
    return np.concatenate(parts)


def _before_activation(convolution: Any, inputs: list[Any]) -> Any:
    activation, convolution.activation = convolution.activation, keras.activations.linear
    try:
        return _answer(convolution, inputs)
    finally:
        convolution.activation = activation
