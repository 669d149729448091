"""A network whose convolutions compute in 8-bit integers.

Each convolution's weights are rounded to 255 levels a channel, and the map that it reads to 256 levels, inside the graph
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018). A runtime may compute such convolutions in integers or in floats: the answer is the same but for
rounding, so one calibration and one threshold serve both.

The first convolution reads the image and the dense head decides: both stay in floats, and cost little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.config import ConfigError

BITS: Final = 8
_LEAST: Final = 1e-6  # of a range: a channel of zeros has none
_SUFFIX: Final = "_rounded"
_EVERY: Final = 31  # of a map's values is measured
_CLIPPED: Final = 1e-4  # share of a map's values outside its limits, on either side
_MOST: Final = 2.0  # times that a spread is corrected by
_PART: Final = 32  # images that a layer is asked for at once


@keras.saving.register_keras_serializable("aiderm")
class Rounded(keras.layers.Layer):
    """Rounds a feature map to 256 levels between two limits that include 0; what lies outside is clipped.

    Gradients pass where nothing was clipped.
    """

    def build(self, input_shape: Any) -> None:
        """Adds the limits, which ``fit`` measures."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer=keras.initializers.Constant(6.0), trainable=False, name="high")

    def call(self, inputs: Any) -> Any:
        """``[N, h, w, c]`` -> the same shape."""
        return _tensorflow().quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high, num_bits=BITS)


@keras.saving.register_keras_serializable("aiderm")
class RoundedConvolution(keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with weights rounded to 255 levels for each of its filters."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """See ``keras.layers.Conv2D.convolution_op``."""
        return super().convolution_op(inputs, _rounded(kernel))


@keras.saving.register_keras_serializable("aiderm")
class RoundedDepthwise(keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with weights rounded to 255 levels for each channel."""

    def call(self, inputs: Any) -> Any:
        """Feature map ``[N, h, w, c]`` -> ``[N, h', w', c]``."""
        height, width, channels, multiplier = self.kernel.shape
        flat = _rounded(keras.ops.reshape(self.kernel, (height * width, channels * multiplier)))
        kernel = keras.ops.reshape(flat, (height, width, channels, multiplier))
        maps = keras.ops.depthwise_conv(
            inputs, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )
        return self.activation(maps + self.bias if self.use_bias else maps)


def quantised(model: Any, floats: Sequence[str] = ()) -> Any:
    """A copy of a network with rounded convolutions and maps, and the same weights; its ranges are yet to be set.

    Layers keep their names. Maps are rounded before they are padded, so that a runtime still pads inside the convolution.

    Args:
        model: a functional network of images.
        floats: endings of layer names; these convolutions are not rounded.

    Raises:
        ConfigError: another backend than TensorFlow.
    """
    _tensorflow()
    rounded: dict[str, Any] = {}
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    after = {each.name for each in model.layers[model.layers.index(first) + 1 :] if not each.name.endswith(tuple(floats))}

    def copy(layer: Any) -> Any:
        kind = type(layer)
        if layer.name in after and isinstance(layer, keras.layers.DepthwiseConv2D):
            kind = RoundedDepthwise
        elif layer.name in after and isinstance(layer, keras.layers.Conv2D):
            kind = RoundedConvolution
        return kind.from_config(layer.get_config())

    def call(layer: Any, *inputs: Any, **named: Any) -> Any:
        reads = isinstance(layer, RoundedConvolution | RoundedDepthwise)
        if not reads and not (isinstance(layer, keras.layers.ZeroPadding2D) and layer.name in after):
            return layer(*inputs, **named)
        source = inputs[0]._keras_history.operation
        if isinstance(source, keras.layers.ZeroPadding2D):
            return layer(*inputs, **named)
        if source.name not in rounded:
            rounded[source.name] = Rounded(name=source.name + _SUFFIX)(inputs[0])
        return layer(rounded[source.name], *inputs[1:], **named)

    found = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for layer in model.layers:
        twin = found.get_layer(layer.name)
        twin.set_weights(layer.get_weights())
        twin.trainable = layer.trainable
    return found


def fit(model: Any, original: Any, images: NDArray[np.uint8]) -> None:
    """Sets the limits of a network's rounded maps, and gives each batch norm's output its old mean and spread back.

    Rounded weights move the mean of what a convolution gives, and these errors add up from layer to layer; correcting them
    needs no labels (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).

    Args:
        model: of ``quantised``.
        original: the network that it was made from.
        images: uint8 ``[N, S, S, 3]``, of every domain; all maps of one layer are held in memory.
    """
    before, after = _Walk(original, images), _Walk(model, images)
    for layer in model.layers[1:]:
        inputs = after.inputs(layer)
        if isinstance(layer, Rounded):
            low, high = np.quantile(np.ravel(inputs[0])[::_EVERY], (_CLIPPED, 1 - _CLIPPED))
            layer.low.assign(min(low, 0.0))
            layer.high.assign(max(high, _LEAST))
            after.maps[layer.name] = _answer(layer, inputs)
            continue
        twin = original.get_layer(layer.name)
        wanted = before.maps[layer.name] = _answer(twin, before.inputs(twin))
        found = _answer(layer, inputs)
        if isinstance(layer, keras.layers.BatchNormalization):
            _match(layer, found, wanted)
            found = _answer(layer, inputs)
        after.maps[layer.name] = found


class _Walk:
    """What the layers of a network give for some images, as long as another layer has yet to read it."""

    def __init__(self, model: Any, images: NDArray[np.uint8]) -> None:
        self.maps: dict[str, Any] = {_source(model.input).name: images}
        self._readers = Counter(name for layer in model.layers for name in self._read(layer))

    def inputs(self, layer: Any) -> list[Any]:
        """What a layer reads; each layer asks once."""
        found = [self.maps[name] for name in self._read(layer)]
        for name in self._read(layer):
            self._readers[name] -= 1
            if not self._readers[name]:
                del self.maps[name]
        return found

    @staticmethod
    def _read(layer: Any) -> list[str]:
        return [_source(tensor).name for tensor in layer._inbound_nodes[0].input_tensors]


def _match(layer: Any, now: Any, wanted: Any) -> None:
    """Changes a batch norm's scale and shift so that ``now``, its output ``[N, h, w, c]``, gets the moments of ``wanted``."""
    (mean, spread), (aim, aimed) = ((np.mean(each, (0, 1, 2)), np.std(each, (0, 1, 2))) for each in (now, wanted))
    ratio = np.clip((aimed + _LEAST) / (spread + _LEAST), 1 / _MOST, _MOST)  # a channel that is almost always 0 has no spread
    layer.beta.assign((np.asarray(layer.beta) - mean) * ratio + aim)
    layer.gamma.assign(np.asarray(layer.gamma) * ratio)


def _answer(layer: Any, inputs: list[Any]) -> Any:
    """A layer's output for arrays, a part of the images at a time."""
    parts = []
    for at in range(0, len(inputs[0]), _PART):
        given = [each[at : at + _PART] for each in inputs]
        parts.append(np.asarray(layer(given[0] if len(given) == 1 else given, training=False)))
    return np.concatenate(parts)


def _source(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _rounded(weights: Any) -> Any:
    """Weights ``[..., C]``, each channel on a symmetric grid up to its own largest."""
    tf = _tensorflow()
    most = tf.maximum(tf.reduce_max(tf.abs(weights), axis=list(range(len(weights.shape) - 1))), _LEAST)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(weights, -most, most, num_bits=BITS, narrow_range=True)


def _tensorflow() -> Any:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"a quantised network needs TensorFlow as the backend. Received: {keras.backend.backend()}")
    import tensorflow as tf

    return tf
