"""Builds a network whose convolutions compute in 8-bit integers.

Each convolution's weights are rounded to 255 levels per channel, and the map that it reads to 256 levels, inside the graph
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).
The distance between two levels is always a power of two (as in Jain et al., "Trained Quantization Thresholds for Accurate and
Efficient Fixed-Point Inference of Deep Neural Networks", MLSys 2020), and biases are multiples of such powers too. float32
then holds every product and every sum exactly, in whatever order they are added up. So it makes no difference whether a
runtime computes in integers or in floats: if only ReLUs, sums and maxima lie between the convolutions, all maps are
the same, bit for bit. One calibration and one threshold serve both.

With other distances, integers and floats differ by rounding errors. Such an error is tiny, but sometimes it moves a value to the
next level, and the layers that follow enlarge the difference: 0.7% of the decisions changed.
"""

from __future__ import annotations

from typing import Any, Final

import keras

from aiderm_trainer.config import ConfigError

BITS: Final = 8
_SUFFIX: Final = "_rounded"


@keras.saving.register_keras_serializable("aiderm")
class Rounded(keras.layers.Layer):
    """Rounds a feature map to 256 multiples of a power of two, from 0 up or around 0; values outside are clipped."""

    def build(self, input_shape: Any) -> None:
        """Adds the limits, which ``quantised_fit.fit`` measures."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer=keras.initializers.Constant(255 / 32), trainable=False, name="high")

    def call(self, inputs: Any) -> Any:
        """``[N, h, w, c]`` -> the same shape."""
        return _tensorflow().quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high, num_bits=BITS)


class RoundedWeights(keras.layers.Layer):
    """A base class of convolutions: for each output channel it holds the distance between two levels of the weights."""

    def build(self, input_shape: Any) -> None:
        """Adds the distances, which ``quantised_fit.fit`` chooses."""
        super().build(input_shape)
        initial = keras.initializers.Constant(2.0**-7)
        self.step = self.add_weight(shape=self.bias.shape, initializer=initial, trainable=False, name="step")

    def rounded(self, weights: Any) -> Any:
        """Rounds weights ``[..., C]`` to their levels."""
        limit = self.step * 127.0
        rounded = _tensorflow().quantization.fake_quant_with_min_max_vars_per_channel
        return rounded(weights, -limit, limit, num_bits=BITS, narrow_range=True)


@keras.saving.register_keras_serializable("aiderm")
class RoundedConvolution(RoundedWeights, keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with weights rounded to 255 levels for each of its filters."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """See ``keras.layers.Conv2D.convolution_op``."""
        return super().convolution_op(inputs, self.rounded(kernel))


@keras.saving.register_keras_serializable("aiderm")
class RoundedDepthwise(RoundedWeights, keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with weights rounded to 255 levels for each channel."""

    def call(self, inputs: Any) -> Any:
        """Feature map ``[N, h, w, c]`` -> ``[N, h', w', c]``."""
        kernel = keras.ops.reshape(self.rounded(flat(self.kernel)), self.kernel.shape)
        maps = keras.ops.depthwise_conv(
            inputs, kernel, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate
        )
        return self.activation(maps + self.bias)


def quantised(model: Any) -> Any:
    """A copy of a network with rounded convolutions and maps, whose weights and levels ``quantised_fit.fit`` sets.

    Layers keep their names. A batch norm after a convolution becomes part of it, and leaves an identity layer behind. Maps are
    rounded before they are padded, so that a runtime still pads inside the convolution.

    Args:
        model: a functional network of images.

    Raises:
        ConfigError: the backend is not TensorFlow.
    """
    _tensorflow()
    rounded: dict[str, Any] = {}

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return RoundedDepthwise.from_config(config | {"use_bias": True})
        if isinstance(layer, keras.layers.Conv2D):
            return RoundedConvolution.from_config(config | {"use_bias": True})
        if folded(layer):
            return keras.layers.Identity(name=layer.name)
        return type(layer).from_config(config)

    def call(layer: Any, *inputs: Any, **named: Any) -> Any:
        if isinstance(layer, keras.layers.Identity):
            return layer(inputs[0])  # it does not take a batch norm's other arguments
        if not isinstance(layer, RoundedWeights | keras.layers.ZeroPadding2D):
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


def folded(layer: Any) -> bool:
    """Whether this is a batch norm that can become part of the convolution before it."""
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    source = layer.input._keras_history.operation
    convolution = isinstance(source, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    return convolution and source.activation is keras.activations.linear and readers(source) == [layer]


def readers(layer: Any) -> list[Any]:
    """The layers that read a layer's output."""
    return list(dict.fromkeys(node.operation for node in layer._outbound_nodes))


def flat(kernel: Any) -> Any:
    """A depthwise kernel ``[h, w, c, m]`` -> ``[h, w, c m]``."""
    height, width, channels, multiplier = kernel.shape
    return keras.ops.reshape(kernel, (height, width, channels * multiplier))


def _tensorflow() -> Any:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"a quantised network needs TensorFlow as the backend. Received: {keras.backend.backend()}")
    import tensorflow as tf

    return tf
