"""Trains the dense head alone, on features that are computed once: the first stage, or all of it for a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.loop import Loss, fetch_values
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc

BATCH: Final = 64


@dataclass(frozen=True)
class HeadData:
    """What a head learns from.

    Attributes:
        features: float32 ``[N, F]``.
        possible: possible classes, float32 ``[N, C]``.
        offsets: log-odds of malignancy that the domain gives away, float32 ``[N]``.
        weights: how much each row counts, float32 ``[N]``.
    """

    features: NDArray[np.float32]
    possible: NDArray[np.float32]
    offsets: NDArray[np.float32]
    weights: NDArray[np.float32]


def fit_head(
    config: TrainConfig,
    head: Any,
    labels: Sequence[Label],
    data: HeadData,
    validation: tuple[NDArray[np.float32], Sequence[Row]] | None = None,
) -> list[dict[str, float]]:
    """Trains a head in place, with the same loss as the rest of the training.

    Args:
        config: ``head_epochs``, ``head_learning_rate``, ``weight_decay`` and ``patience`` are read.
        head: features ``[N, F]`` -> logits.
        labels: the classes.
        data: see ``HeadData``.
        validation: features ``[M, F]`` and their rows. With them, the head gets the weights of the epoch with the best AUC
            within domains, and training ends early if that no longer improves; without them, it keeps the last epoch's.

    Returns:
        a record of each epoch: epoch, val_auc; empty without validation.
    """
    optimizer = keras.optimizers.AdamW(config.head_learning_rate, weight_decay=config.weight_decay, global_clipnorm=1.0)
    head.compile(optimizer, loss=Loss(labels).of_rows, jit_compile=keras.backend.backend() == "jax")
    targets = np.hstack([data.possible, np.zeros_like(data.possible), data.offsets[:, None]])
    choice = _Choice(*validation, labels, config.patience) if validation else None
    head.fit(
        data.features, targets, sample_weight=data.weights, batch_size=BATCH, epochs=config.head_epochs, verbose=0,
        callbacks=[choice] if choice else None,
    )  # fmt: skip
    return choice.history if choice else []


class _Choice(keras.callbacks.Callback):
    """Keeps the best epoch's weights."""

    def __init__(self, features: NDArray[np.float32], rows: Sequence[Row], labels: Sequence[Label], patience: int) -> None:
        super().__init__()
        self.features, self.rows, self.labels, self.patience = features, rows, labels, patience
        self.history: list[dict[str, float]] = []
        self.best, self.weights = {"epoch": 0, "val_auc": -1.0}, list[Any]()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Assesses an epoch."""
        fetch_values(self.model)
        score = malignant_log_odds(full_logits(np.asarray(self.model.predict_on_batch(self.features))), self.labels)
        found = {"epoch": epoch + 1, "val_auc": within_domain_auc(score, self.rows)}
        self.history.append(found)
        if found["val_auc"] > self.best["val_auc"]:
            self.best, self.weights = found, self.model.get_weights()
        elif found["epoch"] - self.best["epoch"] >= self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Puts the chosen weights in place."""
        if self.weights:  # empty if no epoch was trained
            self.model.set_weights(self.weights)
