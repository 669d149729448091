"""A network whose convolutions compute in 8-bit integers.

Each convolution's weights are rounded to 255 levels a channel, and the map that it reads to 256 levels, inside the graph
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).
The distance of two levels is always a power of two (as in Jain et al., "Trained Quantization Thresholds for Accurate and
Efficient Fixed-Point Inference of Deep Neural Networks", MLSys 2020), and biases are multiples of such powers too. float32
then holds every product and every sum exactly, in whatever order they are added up. So it makes no difference whether a
runtime computes in integers or in floats: where only ReLUs, sums and maxima lie between the convolutions, all maps are
the same, bit by bit. One calibration and one threshold serve both.

With other distances integers and floats differ by rounding errors. Those are tiny, but now and then one moves a value to the
next level, and the layers that follow make that larger: 0.7% of the decisions changed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.config import ConfigError

BITS: Final = 8
_LOWEST: Final = -128  # level of a map that has values below 0
_SUFFIX: Final = "_rounded"
_LEAST: Final = 1e-6  # of a spread: a channel that is almost always 0 has none
_FINER: Final = 3  # powers of two that are tried as the distance of levels: each smaller one rounds less and clips more
_EVERY: Final = 31  # of a map's values is measured
_PLACES: Final = 20_000  # of a map are looked at for the weights that read it
_DAMPING: Final = 0.01  # of the mean square of what a weight meets
_MOST: Final = 2.0  # times that a spread is corrected by
_PART: Final = 32  # images that a layer is asked for at once

# A convolution's sums are multiples of this, in units of the distance that two levels of its output would have.
_GRID: Final = 2.0**-11
# In units of the grid, added to every bias: so no sum, even of several convolutions, lies half-way between two levels, where
# TensorFlow rounds up and OpenVINO to the even level. Of float32's 24 bits 8 count the levels, 11 the grid and 3 this; two are
# left for sums that grow.
_OFF_HALFWAY: Final = 1 / 8


@keras.saving.register_keras_serializable("aiderm")
class Rounded(keras.layers.Layer):
    """Rounds a feature map to 256 multiples of a power of two, from 0 up or around 0; what lies outside is clipped."""

    def build(self, input_shape: Any) -> None:
        """Adds the limits, which ``fit`` measures."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer=keras.initializers.Constant(255 / 32), trainable=False, name="high")

    def call(self, inputs: Any) -> Any:
        """``[N, h, w, c]`` -> the same shape."""
        return _tensorflow().quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high, num_bits=BITS)


class _RoundedWeights(keras.layers.Layer):
    """Adds to a convolution the distance of two levels of its weights, for each channel that it gives."""

    def build(self, input_shape: Any) -> None:
        """Adds the distances, which ``fit`` chooses."""
        super().build(input_shape)
        initial = keras.initializers.Constant(2.0**-7)
        self.step = self.add_weight(shape=self.bias.shape, initializer=initial, trainable=False, name="step")

    def rounded(self, weights: Any) -> Any:
        """Weights ``[..., C]`` on their levels."""
        limit = self.step * 127.0
        rounded = _tensorflow().quantization.fake_quant_with_min_max_vars_per_channel
        return rounded(weights, -limit, limit, num_bits=BITS, narrow_range=True)


@keras.saving.register_keras_serializable("aiderm")
class RoundedConvolution(_RoundedWeights, keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with weights rounded to 255 levels for each of its filters."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """See ``keras.layers.Conv2D.convolution_op``."""
        return super().convolution_op(inputs, self.rounded(kernel))


@keras.saving.register_keras_serializable("aiderm")
class RoundedDepthwise(_RoundedWeights, keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with weights rounded to 255 levels for each channel."""

    def call(self, inputs: Any) -> Any:
        """Feature map ``[N, h, w, c]`` -> ``[N, h', w', c]``."""
        kernel = keras.ops.reshape(self.rounded(_flat(self.kernel)), self.kernel.shape)
        maps = keras.ops.depthwise_conv(
            inputs, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )
        return self.activation(maps + self.bias)


def quantised(model: Any) -> Any:
    """A copy of a network with rounded convolutions and maps, whose weights and levels ``fit`` sets.

    Layers keep their names. A batch norm behind a convolution becomes part of it, and its layer gives what it reads. Maps are
    rounded before they are padded, so that a runtime still pads inside the convolution.

    Args:
        model: a functional network of images.

    Raises:
        ConfigError: another backend than TensorFlow.
    """
    _tensorflow()
    rounded: dict[str, Any] = {}

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return RoundedDepthwise.from_config(config | {"use_bias": True})
        if isinstance(layer, keras.layers.Conv2D):
            return RoundedConvolution.from_config(config | {"use_bias": True})
        if _folded(layer):
            return keras.layers.Identity(name=layer.name)
        return type(layer).from_config(config)

    def call(layer: Any, *inputs: Any, **named: Any) -> Any:
        if isinstance(layer, keras.layers.Identity):
            return layer(inputs[0])  # what a batch norm is told besides is of no use to it
        if not isinstance(layer, _RoundedWeights | keras.layers.ZeroPadding2D):
            return layer(*inputs, **named)
        source = inputs[0]._keras_history.operation
        if isinstance(source, keras.layers.ZeroPadding2D):
            return layer(*inputs, **named)
        if source.name not in rounded:
            rounded[source.name] = Rounded(name=source.name + _SUFFIX)(inputs[0])
        return layer(rounded[source.name], *inputs[1:], **named)

    found = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for layer in model.layers:
        found.get_layer(layer.name).trainable = layer.trainable
    return found


def fit(model: Any, original: Any, images: NDArray[np.uint8]) -> None:
    """Sets the weights of a quantised network to those of the original, rounded, and the levels of its maps.

    Rounding moves the mean and the spread of what a convolution gives, and these errors add up from layer to layer; each
    convolution gets those of the original back, which needs no labels (Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", ICCV 2019).

    Args:
        model: of ``quantised``.
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
        if isinstance(layer, _RoundedWeights):
            norm = next((each for each in _readers(twin) if _folded(each)), None)
            wanted = _answer(norm, [before.maps[layer.name]]) if norm else _before_activation(twin, given)
            _fit_convolution(layer, _folded_weights(twin, norm), inputs, wanted, steps[source])
        after.maps[layer.name] = _answer(layer, inputs)


def _fit_convolution(layer: Any, kernel: Any, inputs: list[Any], wanted: Any, step: float) -> None:
    """Sets a convolution's weights to ``kernel`` ``[..., C]``, rounded, and corrected so that it gives the moments of ``wanted``.

    Args:
        layer: whose weights are set.
        kernel: those of the original, a batch norm included.
        inputs: the rounded map that it reads.
        wanted: what the original gives before its activation.
        step: distance of two levels of the map that it reads.
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
    """A kernel on its levels, one weight after the other; those still to come make up for the error.

    Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023.

    Args:
        kernel: ``[..., C]``.
        steps: ``[C]``.
        seen: of ``_second_moments``.
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
    """Mean products of the values that a kernel's weights meet: ``[1, K, K]``; ``[C, K, K]`` where each channel has its own."""
    (height, width), stride = layer.kernel_size, layer.strides[0]
    every = max(1, len(maps) * (maps.shape[1] // stride) * (maps.shape[2] // stride) // _PLACES)
    found: Any = 0
    count = 0
    for at in range(0, len(maps), _PART):
        part = maps[at : at + _PART]
        if (height, width) != (1, 1) or stride > 1:
            cells, strides = (1, height, width, 1), (1, stride, stride, 1)
            part = np.asarray(_tensorflow().image.extract_patches(part, cells, strides, (1, 1, 1, 1), layer.padding.upper()))
        places = part.reshape(-1, part.shape[-1])[::every].astype(np.float64)
        own = isinstance(layer, RoundedDepthwise)
        places = places.reshape(len(places), height * width, -1).transpose(2, 0, 1) if own else places[None]
        found = found + places.transpose(0, 2, 1) @ places
        count += places.shape[1]
    return np.asarray(found / count)


def _best_step(maps: Any, lowest: int) -> float:
    """The power of two whose multiples, 256 from ``lowest`` on, are closest to the values of a map."""
    return float(_best_steps(np.reshape(maps, (-1, 1))[::_EVERY], lowest, lowest + 255)[0])


def _best_steps(values: NDArray[Any], lowest: int, highest: int) -> NDArray[np.float64]:
    """Of each column of values ``[N, C]`` the power of two whose multiples, ``lowest`` to ``highest``, are closest in square."""
    need = np.maximum(values.max(0) / highest, values.min(0) / lowest if lowest else 0)
    largest = 2.0 ** np.ceil(np.log2(np.maximum(need, 2.0**-40)))
    tried = largest / 2.0 ** np.arange(_FINER)[:, None]
    errors = [np.mean((np.clip(np.round(values / steps), lowest, highest) * steps - values) ** 2, axis=0) for steps in tried]
    return tried[np.argmin(errors, axis=0), np.arange(values.shape[1])]


def _folded_weights(convolution: Any, norm: Any) -> Any:
    """Kernel ``[..., C]`` of a convolution and the batch norm behind it as one."""
    kernel = np.asarray(convolution.kernel, np.float64)
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        kernel = np.asarray(_flat(convolution.kernel), np.float64)
    if norm is None:
        return kernel
    scale = np.asarray(norm.gamma, np.float64) / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    return kernel * scale


def _folded(layer: Any) -> bool:
    """Whether this is a batch norm that only belongs to a convolution without activation."""
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    source = _source(layer.input)
    convolution = isinstance(source, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    return convolution and source.activation is keras.activations.linear and _readers(source) == [layer]


def _readers(layer: Any) -> list[Any]:
    return list(dict.fromkeys(node.operation for node in layer._outbound_nodes))


def _flat(kernel: Any) -> Any:
    """A depthwise kernel ``[h, w, c, m]`` -> ``[h, w, c m]``."""
    height, width, channels, multiplier = kernel.shape
    return keras.ops.reshape(kernel, (height, width, channels * multiplier))


def _moments(maps: Any) -> tuple[Any, Any]:
    return np.mean(maps, (0, 1, 2), dtype=np.float64), np.std(maps, (0, 1, 2), dtype=np.float64)


class _Walk:
    """What the layers of a network give for some images, as long as another layer has yet to read it."""

    def __init__(self, model: Any, images: NDArray[np.uint8]) -> None:
        self.maps: dict[str, Any] = {_source(model.input).name: images}
        self._readers = Counter(name for layer in model.layers for name in self.names(layer))

    def inputs(self, layer: Any) -> list[Any]:
        """What a layer reads; each layer asks once."""
        found = [self.maps[name] for name in self.names(layer)]
        for name in self.names(layer):
            self._readers[name] -= 1
            if not self._readers[name]:
                del self.maps[name]
        return found

    @staticmethod
    def names(layer: Any) -> list[str]:
        """What a layer reads."""
        return [_source(tensor).name for tensor in layer._inbound_nodes[0].input_tensors]


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


def _source(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _tensorflow() -> Any:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"a quantised network needs TensorFlow as the backend. Received: {keras.backend.backend()}")
    import tensorflow as tf

    return tf
