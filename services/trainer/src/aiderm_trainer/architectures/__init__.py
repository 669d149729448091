"""Builds networks by name. Each maps uint8 images to logits and names the maps and layers that its heatmap is made of."""

from __future__ import annotations

from dataclasses import replace

from aiderm_trainer.architectures import custom_cnn, transfer
from aiderm_trainer.architectures.backbones import BACKBONES
from aiderm_trainer.architectures.network import Network
from aiderm_trainer.architectures.quantised import quantised
from aiderm_trainer.config import ConfigError, TrainConfig

__all__ = ["NAMES", "Network", "build"]

NAMES = (custom_cnn.NAME, *BACKBONES)


def build(config: TrainConfig, classes: int, load: bool = True) -> Network:
    """Builds the network that a configuration describes, with its initial weights.

    Args:
        config: what to build; ``config.seed`` fixes random initial weights.
        classes: number of labels; two give one sigmoid unit, more a softmax.
        load: False skips the pretrained weights, for a caller that restores the weights of a run.

    Raises:
        ConfigError: an unknown architecture, layer or weights file.
    """
    if config.arch == custom_cnn.NAME:
        network = custom_cnn.build(config, classes)
    elif config.arch in BACKBONES:
        network = transfer.build(config, classes, load)
    else:
        raise ConfigError(f"unknown architecture. Received: {config.arch!r}; there are: {', '.join(NAMES)}")
    # Only a network that is trained has pretrained layers for novelty; a quantised network is made after training.
    return replace(network, model=quantised(network.model), novelty=None) if config.quantised else network
