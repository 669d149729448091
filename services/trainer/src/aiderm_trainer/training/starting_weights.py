"""Loads the weights to start from: those of a run, or of a shipped SavedModel if its run no longer exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiderm_trainer.architectures.network import Network
from aiderm_trainer.config import ConfigError
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.run_folder import OUTLINE

DECODER_LAYERS: Final = ("conv2d", "batch_normalization", "separable_conv2d")  # named automatically by Keras


def take_over(start: Path, network: Network) -> None:
    """Assigns the weights of a run or a bundle to a network of the same architecture.

    A SavedModel also holds the pretrained layers that novelty is assessed by, under the same names. Of two such variables, the
    one that differs from the network's pretrained layers is used. Reading a SavedModel needs TensorFlow; reading a run does not.

    Args:
        start: folder of a run, or of a bundle such as ``models/melanoma/10``.
        network: built with the pretrained weights that the run or bundle was trained from.

    Raises:
        ConfigError: the weights cannot be read, or belong to another network.
    """
    if (start / run_folder.BEST).exists():
        checkpoint.restore(start / run_folder.BEST, list(network.model.variables))
        return
    found = _variables(start)
    frozen = [] if network.novelty is None else network.novelty.variables
    pretrained = {variable.path: np.asarray(variable) for variable in frozen}
    for variable in network.model.weights:
        fitting = [value for value in found.get(variable.path, []) if value.shape == tuple(variable.shape)]
        if not fitting:
            raise ConfigError(f"{start} holds no {variable.path} of shape {tuple(variable.shape)}: it is another network")
        fixed = pretrained.get(variable.path)
        trained = [value for value in fitting if fixed is None or not np.array_equal(value, fixed)]
        variable.assign((trained or fitting)[0])


def take_over_decoder(start: Path, decoder: Any) -> bool:
    """Assigns the weights of the outline decoder of a run or a bundle; returns whether there is one.

    Raises:
        ConfigError: the weights cannot be read, or belong to another decoder.
    """
    if (start / run_folder.BEST).exists():
        if not (start / OUTLINE).exists():
            return False
        checkpoint.restore(start / OUTLINE, decoder.variables)
        return True
    # Keras numbered the bundle's layers from an arbitrary start, so layers are matched by their order within each kind.
    found = {(_kind(name), _number(name), name): values for name, values in _variables(start).items() if _kind(name) != name}
    wanted = [(_kind(variable.path), _number(variable.path), variable) for variable in decoder.variables]
    for kind in {kind for kind, _, _ in wanted}:
        values = [found[key][0] for key in sorted(found) if key[0] == kind]
        variables = [variable for each, _, variable in sorted(wanted, key=lambda one: one[1]) if each == kind]
        if not values:
            return False
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise ConfigError(f"{start} holds another outline decoder: {kind} of {[value.shape for value in values]}")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return True


def _kind(path: str) -> str:
    """The path of a decoder's variable without its layer's number; other paths are returned unchanged."""
    return re.sub(rf"^({'|'.join(DECODER_LAYERS)})(_\d+)?/", r"\1#/", path)


def _number(path: str) -> int:
    found = re.search(r"_(\d+)/", path)
    return int(found[1]) if found else 0


def _variables(bundle: Path) -> dict[str, list[NDArray[Any]]]:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((bundle / "saved_model.pb").read_bytes())
        reader = tf.train.load_checkpoint(str(bundle / "variables" / "variables"))
        nodes = saved.meta_graphs[0].object_graph_def.nodes
        root = {child.local_name: child.node_id for child in nodes[0].children}
        values: dict[str, list[NDArray[Any]]] = {}
        for child in nodes[root["_all_variables"]].children:
            key = f"_all_variables/{child.local_name}/.ATTRIBUTES/VARIABLE_VALUE"
            values.setdefault(nodes[child.node_id].variable.name, []).append(reader.get_tensor(key))
    except (OSError, KeyError, IndexError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"cannot read the weights of {bundle}: {error}") from error
    return values
