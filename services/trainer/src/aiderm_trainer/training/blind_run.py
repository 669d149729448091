"""A run whose network is a shipped one with a head that no longer tells the cameras apart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.blind_head import blind
from aiderm_trainer.training.from_bundle import take_over
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc
from aiderm_trainer.training.run_folder import BEST, PRETRAINED, sides, training_batches, write_history, write_inputs


def blind_run(config: TrainConfig, rows: Sequence[Row], root: Path, bundle: Path, run: Path, *, passes: int) -> dict[str, Any]:
    """Writes a run that ``export`` accepts like any other.

    Args:
        config: ``alignment`` and ``head_epochs`` are the schedule; ``weights`` those that the bundle was trained from.
        rows: of SPLIT.csv, all splits; trained on the train rows, measured on the validation rows.
        root: folder that the rows' paths are relative to.
        bundle: whose network is taken over.
        run: folder to write.
        passes: augmented views of each training image.

    Returns:
        the record of the validation: val_auc.

    Raises:
        ConfigError: the run exists, or the bundle holds another network.
    """
    if (run / BEST).exists():
        raise ConfigError(f"{run} holds a run already. Choose another --out")
    began = time.monotonic()
    train, validation = sides(rows)
    labels = choose_labels(train, config.task)
    network = build(config, len(labels))
    run.mkdir(parents=True, exist_ok=True)
    if network.novelty is not None:
        checkpoint.save(run / PRETRAINED, network.novelty.variables, {})
    take_over(bundle, network)
    batches = training_batches(config, Images(train, root, network.size), possible_classes(train, labels), Augmentation())
    variables = list(network.model.variables)
    blind(network, labels, batches, strength=config.alignment, passes=passes, epochs=config.head_epochs)
    trunk = Trunk(network.model)
    logits = np.concatenate([trunk(batch) for batch in Images(validation, root, network.size).batches(64)])
    found = {"epoch": 1, "val_auc": within_domain_auc(malignant_log_odds(full_logits(logits), labels), validation)}
    write_inputs(run, config, rows, root, labels)
    write_history(run, [found], time.monotonic() - began)
    checkpoint.save(run / BEST, variables, found)
    return found
