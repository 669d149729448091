"""Computes a frozen backbone's features once for all folds and seeds, so that a trial trains only the head, in seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_core import files
from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.heads import dense_head
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.batches import Blinding, Images, weigh_rows
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.head import HeadData, fit_head

_BATCH = 64


@dataclass(frozen=True)
class Features:
    """Pooled features of a frozen backbone.

    Attributes:
        sha256: of each image, ``[N]``.
        values: float32 ``[N, F]``.
        size: side of the input in pixels.
        parameters: number of the backbone's parameters.
    """

    sha256: NDArray[np.str_]
    values: NDArray[np.float32]
    size: int
    parameters: int

    def of(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Features of rows, ``[len(rows), F]``.

        Raises:
            KeyError: a row has no features.
        """
        place = {sha256: i for i, sha256 in enumerate(self.sha256.tolist())}
        return self.values[[place[row.sha256] for row in rows]]


def compute_features(config: TrainConfig, rows: Sequence[Row], root: Path, path: Path, threads: int = 2) -> None:
    """Computes and writes the features of each distinct image unless the file exists; a second caller waits for the first.

    Raises:
        ConfigError: the architecture has no pretrained backbone.
    """
    with files.locked(path.with_suffix(".lock")):
        if not path.exists():
            _compute(config, rows, root, path, threads)


def _compute(config: TrainConfig, rows: Sequence[Row], root: Path, path: Path, threads: int) -> None:
    limit_threads(threads)
    keras.backend.clear_session()
    network = build(config, 2)
    if not network.pretrained:
        raise ConfigError(f"{config.arch} has no pretrained backbone whose features could be frozen")
    backbone = keras.Model(network.model.input, network.model.get_layer(network.vector).output)
    once = list({row.sha256: row for row in rows}.values())
    run = Trunk(backbone)
    values = np.concatenate([run(batch) for batch in Images(once, root, network.size, budget=0).batches(_BATCH)])
    shas = np.array([row.sha256 for row in once])
    arrays = {"sha256": shas, "values": values, "size": network.size, "parameters": backbone.count_params()}
    files.write_arrays(path, arrays, compressed=True)


def read_features(path: Path) -> Features:
    """Reads what ``compute_features`` wrote."""
    arrays = files.read_arrays(path)
    return Features(arrays["sha256"], arrays["values"], int(arrays["size"]), int(arrays["parameters"]))


@dataclass(frozen=True)
class HeadFit:
    """The outputs of a trained head.

    Attributes:
        labels: its classes.
        logits: by part of the fold, ``[N, C]`` (``[N, 1]`` for two classes).
        parameters: number of the head's parameters.
        epochs: number of epochs trained.
        best: history record of the epoch whose weights gave the logits.
    """

    labels: tuple[Label, ...]
    logits: dict[str, NDArray[np.float32]]
    parameters: int
    epochs: int
    best: dict[str, Any]


def fit_frozen(
    config: TrainConfig, train: Sequence[Row], validation: Sequence[Row], features: Mapping[str, NDArray[np.float32]]
) -> HeadFit:
    """Trains only the dense head, with the same loss and sampling weights as other training.

    Args:
        config: ``head_epochs``, ``head_learning_rate``, ``weight_decay``, ``dense``, ``dropout``, ``patience``, ``balance``,
            ``domain_offset`` and ``seed``.
        train: rows to learn from.
        validation: rows on which the epoch is chosen, by AUC inside domains.
        features: ``train``, ``validation`` and ``test``: float32 ``[N, F]``.
    """
    if config.head_epochs < 1:
        raise ConfigError(f"a frozen recipe takes head_epochs of at least 1. Received: {config.head_epochs}")
    labels = choose_labels(train, config.task)
    keras.utils.set_random_seed(config.seed)
    vector = keras.Input(features["train"].shape[1:])
    logits, _ = dense_head(vector, config.dense, config.dropout, len(labels), config.seed)
    head = keras.Model(vector, logits)
    share, offsets = weigh_rows(train, Blinding(config.balance, config.domain_offset))
    data = HeadData(features["train"], possible_classes(train, labels), offsets, (share * len(train)).astype(np.float32))
    history = fit_head(config, head, labels, data, (features["validation"], validation))
    best = max(history, key=lambda found: found["val_auc"])
    answers = {name: np.asarray(head.predict_on_batch(values), np.float32) for name, values in features.items()}
    return HeadFit(labels, answers, head.count_params(), len(history), best)


def limit_threads(threads: int) -> None:
    """Sets TensorFlow's number of threads if it has not started yet (as in the study's own processes)."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
