"""Frozen backbones: features are computed once for all folds and seeds, so that a trial trains only the head, in seconds."""

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
from aiderm_trainer.data.balance import balanced_weights, domain_offsets
from aiderm_trainer.data.batches import Images, sampling_weights
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.objective import (
    full_logits,
    malignant_log_odds,
    negative_log_likelihood,
    with_offset,
    within_domain_auc,
)

_BATCH = 64


@dataclass(frozen=True)
class Features:
    """Pooled features of a frozen backbone.

    Attributes:
        sha256: of each image, ``[N]``.
        values: float32 ``[N, F]``.
        size: side of the input in pixels.
        parameters: of the backbone.
    """

    sha256: NDArray[np.str_]
    values: NDArray[np.float32]
    size: int
    parameters: int

    def of(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Features of rows, ``[len(rows), F]``.

        Raises:
            KeyError: a row has none.
        """
        place = {sha256: i for i, sha256 in enumerate(self.sha256.tolist())}
        return self.values[[place[row.sha256] for row in rows]]


def compute_features(config: TrainConfig, rows: Sequence[Row], root: Path, path: Path, threads: int = 2) -> None:
    """Computes the features of each distinct image and writes them, unless they are there; a second caller waits for the first.

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
    """A trained head's answers.

    Attributes:
        labels: its classes.
        logits: by part of the fold, ``[N, C]`` (``[N, 1]`` for two classes).
        parameters: of the head.
        epochs: that were trained.
        best: record of the epoch whose weights gave the logits.
    """

    labels: tuple[Label, ...]
    logits: dict[str, NDArray[np.float32]]
    parameters: int
    epochs: int
    best: dict[str, Any]


def fit_head(
    config: TrainConfig, train: Sequence[Row], validation: Sequence[Row], features: Mapping[str, NDArray[np.float32]]
) -> HeadFit:
    """Trains the dense head alone, with the loss and the sampling weights of every training.

    Args:
        config: ``head_epochs``, ``head_learning_rate``, ``weight_decay``, ``dense``, ``dropout``, ``patience``, ``balance``,
            ``domain_offset`` and ``seed``.
        train: rows to learn from.
        validation: rows that choose the epoch, by AUC inside domains.
        features: ``train``, ``validation`` and ``test``: float32 ``[N, F]``.
    """
    labels = choose_labels(train, config.task)
    keras.utils.set_random_seed(config.seed)
    vector = keras.Input(features["train"].shape[1:])
    logits, _ = dense_head(vector, config.dense, config.dropout, len(labels), config.seed)
    head = keras.Model(vector, logits)
    optimizer = keras.optimizers.AdamW(config.head_learning_rate, weight_decay=config.weight_decay, global_clipnorm=1.0)
    variables = head.trainable_variables
    optimizer.build(variables)

    width = features["train"].shape[1]
    signature = [tf.TensorSpec(shape, tf.float32) for shape in ([None, width], [None, len(labels)], [None], [None])]
    sick = tf.constant([label.malignant for label in labels], tf.float32)

    @tf.function(input_signature=signature)
    def step(inputs: Any, possible: Any, weights: Any, offset: Any) -> None:
        with tf.GradientTape() as tape:
            logits = with_offset(head(inputs, training=True), offset, sick)
            loss = tf.reduce_mean(weights * negative_log_likelihood(logits, possible))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    targets = possible_classes(train, labels)
    share, offsets = _balance(config, train)
    weights = (share * len(train)).astype(np.float32)
    rng = np.random.default_rng(config.seed)
    best: dict[str, Any] = {}
    kept: list[Any] = []
    epoch = 0
    for epoch in range(1, config.head_epochs + 1):
        order = rng.permutation(len(train))
        for start in range(0, len(train), _BATCH):
            batch = order[start : start + _BATCH]
            step(
                tf.constant(features["train"][batch]),
                tf.constant(targets[batch]),
                tf.constant(weights[batch]),
                tf.constant(offsets[batch]),
            )
        score = malignant_log_odds(full_logits(head(features["validation"], training=False).numpy()), labels)
        auc = within_domain_auc(score, validation)
        if not best or auc > best["val_auc"]:
            best, kept = {"epoch": epoch, "val_auc": auc}, head.get_weights()
        elif epoch - best["epoch"] >= config.patience:
            break
    if not best:
        raise ConfigError(f"a frozen recipe takes head_epochs of at least 1. Received: {config.head_epochs}")
    head.set_weights(kept)
    answers = {name: head(values, training=False).numpy() for name, values in features.items()}
    return HeadFit(labels, answers, head.count_params(), epoch, best)


def _balance(config: TrainConfig, rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """How much each row counts, and the log-odds that its domain gives away: see ``data.balance``."""
    domains, malignant = [row.domain or row.source for row in rows], np.array([bool(row.malignant) for row in rows])
    if config.balance == "domain":
        share = balanced_weights(domains, malignant, [row.dx for row in rows])
    else:
        share = sampling_weights(rows)
    return share, np.asarray(config.domain_offset * domain_offsets(domains, malignant, share), np.float32)


def limit_threads(threads: int) -> None:
    """Tells TensorFlow its number of threads, where it has not started yet (as in the study's own processes)."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
