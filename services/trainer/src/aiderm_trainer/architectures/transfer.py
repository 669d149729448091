"""Transfer learning: an ImageNet backbone, most of its layers frozen, and a dense head on its pooled feature maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from aiderm_trainer.architectures.heads import dense_head
from aiderm_trainer.architectures.network import Network
from aiderm_trainer.config import ConfigError, TrainConfig


@dataclass(frozen=True)
class Backbone:
    """How a ``keras.applications`` network is used.

    Attributes:
        build: its constructor.
        scaling: input range it was trained on: ``signed`` is [-1, 1], ``bytes`` 0..255.
        taps: layers whose maps are pooled for the head; the last one ends the network.
        freeze_until: the first layer that is trained.
        novelty: layer whose pretrained map tells how unusual a picture is.
        size: default side of the input.
    """

    build: Callable[..., Any]
    scaling: Literal["signed", "bytes"]
    taps: tuple[str, ...]
    freeze_until: str
    novelty: str
    size: int = 224


BACKBONES = {
    # Pooled maps of several depths probed at AUC 0.895 where the last alone gave 0.862; block_12 tells everyday
    # photographs from lesions at AUROC 0.9997.
    "mobilenet_v2": Backbone(
        keras.applications.MobileNetV2, "signed", ("block_12_add", "block_15_add", "out_relu"), "block_6_expand", "block_12_add"
    ),
    # Ends after its fourth stage: the fifth is three fifths of the parameters and made for 1,000 classes.
    "resnet50_v2": Backbone(
        keras.applications.ResNet50V2, "signed", ("conv5_block1_preact_relu",), "conv4_block1_preact_bn", "conv3_block4_out"
    ),
    "efficientnet_v2_b0": Backbone(
        keras.applications.EfficientNetV2B0, "bytes", ("block5e_add", "top_activation"), "block5a_expand_conv", "block4c_add"
    ),
}


def build(config: TrainConfig, classes: int, load: bool = True) -> Network:
    """Builds the backbone with its weights, freezes its first layers, adds the head.

    Batch norm keeps its pretrained statistics: MobileNetV2's momentum of 0.999 makes validation swing for thousands of
    steps, and folded weights are destroyed by new statistics.

    Raises:
        ConfigError: unknown layer, or weights that cannot be loaded.
    """
    spec = BACKBONES[config.arch]
    size = config.size or spec.size
    pretrained = config.weights != "none"
    inputs = keras.Input((size, size, 3), dtype="uint8", name="image")
    backbone = _backbone(spec, inputs)
    layers = [layer for layer in backbone.layers if layer.weights]
    weights = None
    if pretrained:
        if load:
            weights = _load(spec, config.weights, size)
            for layer in layers:
                layer.set_weights(weights[layer.name])
        _freeze(backbone, config.freeze_until or spec.freeze_until)
    else:
        for layer in layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9

    pooled = [
        keras.layers.GlobalAveragePooling2D(name=f"pooled_{i}")(backbone.get_layer(n).output) for i, n in enumerate(spec.taps)
    ]
    vector = keras.layers.Concatenate(name="vector")(pooled) if len(pooled) > 1 else pooled[0]
    logits, dense = dense_head(vector, config.dense, config.dropout, classes, config.seed)
    model = keras.Model(inputs, logits, name=config.arch)
    return Network(
        model=model,
        taps=spec.taps,
        pooling="average",
        dense=dense,
        vector="vector" if len(pooled) > 1 else "pooled_0",
        novelty=_novelty(spec, model, weights) if pretrained else None,
        pretrained=pretrained,
    )


def _backbone(spec: Backbone, inputs: Any) -> Any:
    """The backbone over raw uint8 input, cut after its last tap."""
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs) if spec.scaling == "signed" else inputs
    full = spec.build(include_top=False, weights=None, input_tensor=scaled)
    return keras.Model(inputs, full.get_layer(spec.taps[-1]).output)


def _load(spec: Backbone, source: str, size: int) -> dict[str, list[Any]]:
    """Weights by layer name, from ImageNet's download or from a file for the whole backbone or the part that is used."""
    shape = (size, size, 3)
    if source == "imagenet":
        try:
            full = spec.build(include_top=False, weights="imagenet", input_shape=shape)
        except Exception as error:  # keras raises a bare Exception when a download fails
            raise ConfigError(
                f"cannot download ImageNet weights: {error}. Give a file: --weights PATH, or --weights none"
            ) from error
        return {layer.name: layer.get_weights() for layer in full.layers}
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"--weights must be imagenet, none, or a file. Received: {source!r}")
    full = spec.build(include_top=False, weights=None, input_shape=shape)
    part = keras.Model(full.input, full.get_layer(spec.taps[-1]).output)
    causes = []
    for candidate in (full, part):
        try:
            with warnings.catch_warnings():
                # keras only warns where a part of the file does not fit, and leaves random weights there
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
    """Images -> the pretrained map that novelty is judged by; layers that training left alone are shared, not copied."""
    names = [layer.name for layer in model.layers]
    until = names.index(spec.novelty)
    trained = [i for i, layer in enumerate(model.layers) if layer.trainable_weights]
    if not trained or until < trained[0]:
        return keras.Model(model.input, model.get_layer(spec.novelty).output, name="novelty_features")
    copy = _backbone(spec, keras.Input(model.input_shape[1:], dtype="uint8"))
    for layer in copy.layers:
        layer.trainable = False
        if weights and layer.weights:
            layer.set_weights(weights[layer.name])
    start = model.layers[trained[0]]
    try:  # only the layers from the first trained one on, if that is a clean cut through the graph
        tail = keras.Model(copy.get_layer(start.name).input, copy.get_layer(spec.novelty).output, name="novelty_tail")
        return keras.Model(model.input, tail(start.input), name="novelty_features")
    except ValueError:
        whole = keras.Model(copy.input, copy.get_layer(spec.novelty).output, name="novelty_whole")
        return keras.Model(model.input, whole(model.input), name="novelty_features")
