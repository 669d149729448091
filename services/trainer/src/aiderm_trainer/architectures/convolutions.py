"""Convolution layers that are as fast with PyTorch as PyTorch's own.

Keras adds the bias in a separate step, so PyTorch keeps one more copy of every feature map: a training step of
EfficientNet-Lite0 took 1.4 times as long. With any other backend these are the plain layers.
"""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("aiderm")
class Convolution(keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with "same" padding and bias in one step."""

    def call(self, inputs: Any) -> Any:
        """Feature map ``[N, h, w, c]`` -> ``[N, h', w', filters]``."""
        if keras.backend.backend() != "torch" or not hasattr(inputs, "permute"):
            return super().call(inputs)
        return _torch(inputs, self.kernel.value.permute(3, 2, 0, 1), self.bias.value, self.strides[0], 1)


@keras.saving.register_keras_serializable("aiderm")
class Depthwise(keras.layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with "same" padding and bias in one step."""

    def call(self, inputs: Any) -> Any:
        """Feature map ``[N, h, w, c]`` -> ``[N, h', w', c]``."""
        if keras.backend.backend() != "torch" or not hasattr(inputs, "permute"):
            return super().call(inputs)
        return _torch(inputs, self.kernel.value.permute(2, 3, 0, 1), self.bias.value, self.strides[0], inputs.shape[-1])


def _torch(inputs: Any, kernel: Any, bias: Any, stride: int, groups: int) -> Any:
    from torch.nn import functional  # not a dependency of the trainer: it is installed if it is the backend

    size, side = int(kernel.shape[-1]), inputs.shape[1:3]
    if inputs.device.type == "meta":
        kernel, bias = kernel.to("meta"), bias.to("meta")
    maps = inputs.permute(0, 3, 1, 2)
    # TensorFlow's "same": the output has ceil(side / stride) cells, and an odd pixel of padding goes to the end.
    total = [max((-(-s // stride) - 1) * stride + size - s, 0) for s in side]
    padding: Any = tuple(t // 2 for t in total)
    if any(t % 2 for t in total):
        (top, left), padding = padding, 0
        maps = functional.pad(maps, (left, total[1] - left, top, total[0] - top))
    return functional.conv2d(maps, kernel, bias, stride, padding, 1, groups).permute(0, 2, 3, 1)
