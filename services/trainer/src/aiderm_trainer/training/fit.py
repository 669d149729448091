"""Trains in two stages: the head on features that are computed once, then the upper layers at a lower rate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.architectures.trunk import inference
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Images, TrainingBatches
from aiderm_trainer.data.labels import possible_classes
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import run_folder
from aiderm_trainer.training.distillation import taught
from aiderm_trainer.training.head import HeadData, fit_head
from aiderm_trainer.training.loop import Inference, Schedule, TrainingLoop
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, negative_log_likelihood, within_domain_auc
from aiderm_trainer.training.starting_weights import take_over
from aiderm_trainer.training.training_inputs import parts_of, training_batches

_BATCH = 64  # images per call outside training


def train(config: TrainConfig, rows: Sequence[Row], root: Path, run: Path, *, resume: bool = False) -> dict[str, Any]:
    """Trains a network on the train rows and chooses the epoch on the validation rows; other rows are not used.

    Args:
        config: what to train and how.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        run: folder for config, labels, checkpoints, history and TensorBoard logs.
        resume: continue from the run's checkpoint; the run then ends with the same weights as an uninterrupted one.

    Returns:
        the best epoch's record: epoch, loss, val_auc, val_loss.

    Raises:
        ConfigError: the run exists and ``resume`` is False, it was made with another configuration, or a split is empty.
    """
    parts = parts_of(config, rows)
    stopped = (run / run_folder.CHECKPOINT).exists()
    if stopped and not resume:
        raise ConfigError(f"{run} holds a run already. Resume it with --resume, or choose another --out")
    if resume:
        run_folder.check_same(run, config, rows)
    run_folder.write_inputs(run, config, rows, root, parts.labels)
    keras.utils.set_random_seed(config.seed)
    network = build(config, len(parts.labels))
    if not stopped:
        run_folder.write_pretrained(run, network)
    if config.start:
        run_folder.check_labels(Path(config.start), parts.labels)
        take_over(Path(config.start), network)
    teaching = partial(taught, config, parts.labels, run) if config.teachers else None
    batches = training_batches(config, parts, root, network.size, Augmentation(), teaching)
    if not stopped and network.pretrained and config.head_epochs and not config.start:
        _fit_head(config, network, parts.labels, batches)
    rounds = -(-batches.steps // config.checkpoint_steps)  # per epoch
    schedule = Schedule(-(-batches.steps // rounds), config.epochs * rounds, rounds, config.patience)
    validation = _Validation(Images(parts.validation, root, network.size), parts.labels)
    return TrainingLoop(config, network, parts.labels, batches, run, schedule, validation, lambda found: found["val_auc"]).go()


class _Validation:
    """Computes the ROC AUC within domains and the mean loss on the validation images."""

    def __init__(self, images: Images, labels: Sequence[Label]) -> None:
        self.images, self.labels = images, labels
        self.possible = possible_classes(images.rows, labels)

    def __call__(self, call: Inference) -> dict[str, float]:
        """Metrics of a network."""
        logits = np.concatenate([call(batch) for batch in self.images.batches(_BATCH)])
        losses = keras.ops.convert_to_numpy(negative_log_likelihood(logits, self.possible))
        score = malignant_log_odds(full_logits(logits), self.labels)
        return {"val_auc": within_domain_auc(score, self.images.rows), "val_loss": float(np.mean(losses))}


def _fit_head(config: TrainConfig, network: Network, labels: Sequence[Label], batches: TrainingBatches) -> None:
    """Runs stage one: trains the dense head alone, on features of unaugmented images."""
    call = inference(network.features)
    features: NDArray[np.float32] = np.concatenate([call(batch) for batch in batches.images.batches(_BATCH)])
    weights = np.asarray(batches.weights * len(features), np.float32)
    fit_head(config, network.head, labels, HeadData(features, batches.targets, batches.offsets, weights))
