"""Combines several networks in one graph; layers that they have in common are computed and stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_trainer.architectures import Network

IGNORED = frozenset({"trainable", "seed"})  # settings that do not change what a layer computes in inference


@dataclass(frozen=True)
class Answer:
    """One member's answer: feature maps ``[N, h, w, c]``, the head's input ``[N, F]`` and logits ``[N, C]``."""

    maps: list[Any]
    vector: Any
    logits: Any


@dataclass(frozen=True)
class _Place:
    """The place of a tensor: output ``index`` of part ``part``."""

    part: int
    index: int


class Members:
    """Runs networks side by side on one image.

    Networks with the same input size that begin with the same layers and weights share them. Fine-tuned copies of one
    pretrained backbone share all layers before the first one that was trained.

    Args:
        networks: at least one, with their final weights.

    Attributes:
        parts: models that together hold every layer once.
        size: side of the input, the largest of the networks' own.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.size = max(network.size for network in networks)
        self.parts: list[Any] = []
        self._reads: list[list[_Place] | int] = []  # what a part reads: outputs of earlier parts, or the image at a size
        self._maps = [len(network.taps) for network in networks]
        self._outputs: list[list[_Place]] = [[] for _ in networks]
        graphs = [_graph(network, with_depths=i == 0) for i, network in enumerate(networks)]
        followers: dict[int, dict[int, list[str]]] = {}  # leader -> follower -> layers where the follower takes over
        for i, graph in enumerate(graphs):
            common = {k: _common(graphs[k], graph) for k in followers if networks[k].size == networks[i].size}
            best = max(common, key=lambda k: len(common[k]), default=i)
            if best == i or not common[best]:
                followers[i] = {}
            else:
                followers[best][i] = _boundary(graph, common[best])
        for leader, following in followers.items():
            taken = list(dict.fromkeys(name for names in following.values() for name in names))
            places = self._add(graphs[leader], taken, networks[leader].size)
            self._outputs[leader] = [_Place(len(self.parts) - 1, i) for i in range(len(graphs[leader].outputs))]
            for i, names in following.items():
                self._outputs[i] = self._follow(graphs[i], {name: places[name] for name in names})

    def _add(self, graph: Any, taken: Sequence[str], size: int) -> dict[str, _Place]:
        """Appends a whole graph and returns the places of the outputs of the layers ``taken``."""
        self.parts.append(keras.Model(graph.inputs, [*graph.outputs, *(_output(graph, name) for name in taken)]))
        self._reads.append(size)
        return {name: _Place(len(self.parts) - 1, len(graph.outputs) + i) for i, name in enumerate(taken)}

    def _follow(self, graph: Any, places: dict[str, _Place]) -> list[_Place]:
        """Appends the layers of a graph that follow the shared ones, and returns the places of its outputs."""
        names = [_source(tensor).name for tensor in graph.outputs]
        own = [name for name in names if name not in places]
        if own:
            self.parts.append(keras.Model([_output(graph, name) for name in places], [_output(graph, name) for name in own]))
            self._reads.append(list(places.values()))
        rest = iter(range(len(own)))
        return [places[name] if name in places else _Place(len(self.parts) - 1, next(rest)) for name in names]

    def __call__(self, image: Any) -> tuple[list[Answer], list[Any]]:
        """uint8 ``[N, S, S, 3]`` -> each member's answer, and the first member's maps at several depths, see ``depths``."""
        results: list[list[Any]] = []
        for part, reads in zip(self.parts, self._reads, strict=True):
            given = [shrink(image, reads)] if isinstance(reads, int) else [results[at.part][at.index] for at in reads]
            results.append(part(given, training=False))
        outputs = [[results[at.part][at.index] for at in places] for places in self._outputs]
        answers = [Answer(o[:maps], o[maps], o[maps + 1]) for maps, o in zip(self._maps, outputs, strict=True)]
        return answers, outputs[0][self._maps[0] + 2 :]


def shrink(image: Any, side: int) -> Any:
    """Shrinks by area averaging, as ``INTER_AREA`` does: uint8 ``[N, S, S, 3]`` -> uint8 ``[N, side, side, 3]``.

    It uses two products with a matrix of overlaps, which all runtimes compute alike, unlike antialiased resizing.
    """
    size = int(image.shape[1])
    if side == size:
        return image
    weights = tf.constant(overlaps(size, side))
    rows = tf.einsum("sh,nhwc->nswc", weights, tf.cast(image, tf.float32))
    return tf.cast(tf.clip_by_value(tf.round(tf.einsum("tw,nswc->nstc", weights, rows)), 0.0, 255.0), tf.uint8)


def overlaps(size: int, side: int) -> NDArray[np.float32]:
    """Share of each of ``size`` pixels in each of ``side`` larger ones: float32 ``[side, size]``, rows sum to 1."""
    step = size / side
    low, high = np.arange(side)[:, None] * step, np.arange(1, side + 1)[:, None] * step
    pixel = np.arange(size)[None]
    return np.asarray(np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0.0, 1.0) / step, np.float32)


def depths(network: Network) -> list[str]:
    """Selects layers at several depths: for each size of feature maps, the last layer with the fewest channels.

    In networks of inverted residuals, these are the ends of the stages.
    """
    narrowest: dict[int, tuple[int, str]] = {}
    for layer in network.model.layers:
        shape: Any = getattr(getattr(layer, "output", None), "shape", ())
        if len(shape) != 4 or not 1 < shape[1] < network.size or isinstance(layer, keras.layers.ZeroPadding2D):
            continue
        side, width = int(shape[1]), int(shape[3])
        if side not in narrowest or width <= narrowest[side][0]:
            narrowest[side] = width, layer.name
    return [name for _, name in narrowest.values()]


def _graph(network: Network, with_depths: bool) -> Any:
    """A model with a network's maps, vector and logits and, with ``with_depths``, its maps at several depths."""
    outputs = list(network.detailed.outputs)
    if with_depths:
        outputs += [network.model.get_layer(name).output for name in depths(network)]
    return keras.Model(network.model.input, outputs)


def _source(tensor: Any) -> Any:
    """The layer or operation that outputs ``tensor``."""
    return tensor._keras_history.operation


def _output(graph: Any, name: str) -> Any:
    """A layer's output inside its network; ``layer.output`` of a nested model is a tensor inside that model."""
    return next(each for each in graph.operations if each.name == name)._inbound_nodes[0].output_tensors[0]


def _parents(operation: Any) -> list[str]:
    return [_source(tensor).name for tensor in operation._inbound_nodes[0].input_tensors]


def _common(leader: Any, graph: Any) -> set[str]:
    """Names of the layers that compute the same in both graphs; empty where none of them has weights."""
    there = {operation.name: operation for operation in leader.operations}
    found: set[str] = set()
    for each in graph.operations:  # inputs first
        twin = there.get(each.name)
        if twin is None or type(each) is not type(twin) or _parents(each) != _parents(twin):
            continue
        if found.issuperset(_parents(each)) and _settings(each) == _settings(twin) and _same_weights(each, twin):
            found.add(each.name)
    return found if any(_weights(there[name]) for name in found) else set()


def _settings(operation: Any) -> Any:
    if isinstance(operation, keras.Sequential):  # its own settings name an input that differs between networks
        return [(type(layer), _settings(layer)) for layer in operation.layers]
    return {key: value for key, value in operation.get_config().items() if key not in IGNORED}


def _weights(operation: Any) -> list[Any]:
    """The weights of a layer; an empty list for other operations."""
    return getattr(operation, "weights", [])


def _same_weights(one: Any, other: Any) -> bool:
    pairs = (_weights(one), _weights(other))
    return len(pairs[0]) == len(pairs[1]) and all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(*pairs, strict=True))


def _boundary(graph: Any, common: set[str]) -> list[str]:
    """The common layers whose outputs are read by other layers or are outputs of the graph."""
    read = [name for each in graph.operations if each.name not in common for name in _parents(each)]
    read += [_source(tensor).name for tensor in graph.outputs]
    return list(dict.fromkeys(name for name in read if name in common))
