"""Transfer learning: an ImageNet backbone, most of its layers frozen, and a dense head on its pooled feature maps."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import keras

from aiderm_trainer.architectures.backbones import BACKBONES, Backbone
from aiderm_trainer.architectures.heads import dense_head
from aiderm_trainer.architectures.network import Network
from aiderm_trainer.architectures.scaling import scale
from aiderm_trainer.config import ConfigError, TrainConfig


def build(config: TrainConfig, classes: int, load: bool = True) -> Network:
    """Builds the backbone with its weights, freezes its first layers, and adds the head.

    Batch norm keeps its pretrained statistics: with MobileNetV2's momentum of 0.999, validation results fluctuate for
    thousands of steps, and new statistics destroy folded weights.

    Raises:
        ConfigError: a layer is unknown, or the weights cannot be loaded.
    """
    spec = BACKBONES[config.arch]
    size = config.size or spec.size
    pretrained = config.weights != "none"
    inputs = keras.Input((size, size, 3), dtype="uint8", name="image")
    backbone, taps = _backbone(spec, inputs, config.taps or spec.taps)
    weights = None
    if pretrained:
        if load:
            weights = _load(spec, config.weights, size, taps)
            _set_weights(backbone, weights)
        _freeze(backbone, config.freeze_until or spec.freeze_until)
    else:
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9

    pooled = [keras.layers.GlobalAveragePooling2D(name=f"pooled_{i}")(backbone.get_layer(n).output) for i, n in enumerate(taps)]
    vector = keras.layers.Concatenate(name="vector")(pooled) if len(pooled) > 1 else pooled[0]
    logits, dense = dense_head(vector, config.dense, config.dropout, classes, config.seed)
    model = keras.Model(inputs, logits, name=config.arch)
    return Network(
        model=model,
        taps=taps,
        pooling="average",
        dense=dense,
        vector="vector" if len(pooled) > 1 else "pooled_0",
        novelty=_novelty(spec, model, weights) if pretrained else None,
        pretrained=pretrained,
    )


def depths(arch: str, text: str) -> tuple[str, ...]:
    """The layers that ``--pool-depths`` selects: a number of a backbone's usual depths, from the deepest up, or layers by name.

    Raises:
        ConfigError: ``arch`` is not a backbone, or ``text`` is empty or asks for more depths than there are.
    """
    if arch not in BACKBONES:
        raise ConfigError(f"--pool-depths is for pretrained backbones. Received: {arch}")
    usual = BACKBONES[arch].depths
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(names) == 1 and names[0].isdigit():
        if not 1 <= int(names[0]) <= len(usual):
            raise ConfigError(f"--pool-depths of {arch} must be 1 to {len(usual)}, or names of layers. Received: {text}")
        return usual[-int(names[0]) :]
    if not names:
        raise ConfigError(f"--pool-depths must be a number or names of layers, such as {','.join(usual)}. Received: {text!r}")
    return names


def _backbone(spec: Backbone, inputs: Any, taps: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Returns the backbone for raw uint8 input, cut after its deepest tap, and the taps from shallow to deep."""
    full = spec.build(include_top=False, weights=None, input_tensor=scale(inputs, spec.scaling))
    _name(full)
    order = {layer.name: i for i, layer in enumerate(full.layers)}
    for name in taps:
        if name not in order or len(getattr(full.get_layer(name).output, "shape", ())) != 4:
            usual = ", ".join(spec.depths)
            raise ConfigError(f"--pool-depths must name feature maps of {full.name}, such as {usual}. Received: {name!r}")
    taps = tuple(sorted(set(taps), key=order.__getitem__))
    # A deeper tap need not depend on the shallower ones, so all taps are outputs.
    backbone = keras.Model(inputs, [full.get_layer(name).output for name in taps])
    return backbone, taps


def _name(network: Any) -> None:
    """Renames automatically named layers as in a fresh process: else Keras' numbering goes on from network to network."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for operation in network.operations:
        base = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)  # Conv2D: conv2d, as keras does
        base = re.sub("([a-z])([A-Z])", r"\1_\2", base).lower()
        if match := re.fullmatch(f"{base}(?:_(\\d+))?", operation.name):
            found.setdefault(base, []).append((int(match[1] or 0), operation))
    for base, operations in found.items():
        for i, (_, operation) in enumerate(sorted(operations, key=lambda pair: pair[0])):
            operation.name = f"{base}_{i}" if i else base


def _set_weights(backbone: Any, weights: dict[str, list[Any]]) -> None:
    for layer in backbone.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):  # scaling is our own, see scaling.py
            layer.set_weights(weights[layer.name])


def _load(spec: Backbone, source: str, size: int, taps: tuple[str, ...]) -> dict[str, list[Any]]:
    """Weights by layer name, from ImageNet's download or from a file for the whole backbone or the part that is used."""
    shape = (size, size, 3)
    if source == "imagenet":
        try:
            full = spec.build(include_top=False, weights="imagenet", input_shape=shape)
        except ConfigError:  # its message already says what is missing
            raise
        except Exception as error:  # keras raises a bare Exception when a download fails
            raise ConfigError(
                f"cannot download ImageNet weights: {error}. Give a file: --weights PATH, or --weights none"
            ) from error
        _name(full)
        return {layer.name: layer.get_weights() for layer in full.layers}
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"--weights must be imagenet, none, or a file. Received: {source!r}")
    full = spec.build(include_top=False, weights=None, input_shape=shape)
    _name(full)
    part = keras.Model(full.input, full.get_layer(taps[-1]).output)
    causes = []
    for candidate in (full, part):
        try:
            with warnings.catch_warnings():
                # keras only warns if a part of the file does not fit, and leaves random weights there
                warnings.simplefilter("error", UserWarning)
                candidate.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            causes.append(str(error).splitlines()[0])
        else:
            return {layer.name: layer.get_weights() for layer in candidate.layers}
    raise ConfigError(f"{path} does not hold weights of {full.name}, whole or cut: {'; '.join(causes)}")


def _freeze(backbone: Any, until: str) -> None:
    """Freezes all layers before ``until`` (a layer's name, or a fraction of the layers) and every batch norm."""
    names = [layer.name for layer in backbone.layers]
    if until in names:
        first = names.index(until)
    else:
        try:
            first = round(float(until) * len(names))
        except ValueError:
            first = -1
        if not 0 <= first <= len(names):
            raise ConfigError(f"--freeze-until must be a layer of {backbone.name} or a fraction 0..1. Received: {until!r}")
    for i, layer in enumerate(backbone.layers):
        layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)


def _novelty(spec: Backbone, model: Any, weights: dict[str, list[Any]] | None) -> Any:
    """A model: images -> the pretrained map that novelty is assessed by. Layers that are not trained are shared, not copied."""
    names = [layer.name for layer in model.layers]
    trained = [i for i, layer in enumerate(model.layers) if layer.trainable_weights]
    if spec.novelty in names[: trained[0]]:
        return keras.Model(model.input, model.get_layer(spec.novelty).output, name="novelty_features")
    copy, _ = _backbone(spec, keras.Input(model.input_shape[1:], dtype="uint8"), (spec.novelty,))
    copy.trainable = False
    if weights:
        _set_weights(copy, weights)
    start = model.layers[trained[0]]
    try:  # only the layers from the first trained one on, if that is a clean cut through the graph
        tail = keras.Model(copy.get_layer(start.name).input, copy.get_layer(spec.novelty).output, name="novelty_tail")
        return keras.Model(model.input, tail(start.input), name="novelty_features")
    except ValueError:
        whole = keras.Model(copy.input, copy.get_layer(spec.novelty).output, name="novelty_whole")
        return keras.Model(model.input, whole(model.input), name="novelty_features")
