"""A run whose network is a shipped one with a head that no longer tells the cameras apart."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Blinding, Images, TrainingBatches
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.lesion_swaps import Outlines
from aiderm_trainer.data.split import write_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.blind_head import blind
from aiderm_trainer.training.fit import BEST, DATA_FILE, HISTORY, LABELS, PRETRAINED, SPLIT_FILE
from aiderm_trainer.training.from_bundle import take_over
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc


def blind_run(config: TrainConfig, rows: Sequence[Row], root: Path, bundle: Path, run: Path, *, passes: int) -> dict[str, Any]:
    """Writes a run that export takes like any other.

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
    train = [row for row in rows if row.split == "train"]
    labels = choose_labels(train, config.task)
    network = build(config, len(labels))
    run.mkdir(parents=True, exist_ok=True)
    if network.novelty is not None:
        checkpoint.save(run / PRETRAINED, network.novelty.variables, {})
    take_over(bundle, network)
    size = network.size
    batches = TrainingBatches(
        Images(train, root, size), possible_classes(train, labels), config.batch, config.seed, Augmentation(),
        Outlines(train, root / config.outlines, size) if config.outlines else None,
        blinding=Blinding(config.balance, config.domain_offset, config.hidden_offset, config.style_swap),
    )  # fmt: skip
    variables = list(network.model.variables)
    blind(network, labels, batches, strength=config.alignment, passes=passes, epochs=config.head_epochs)
    validation = Images([row for row in rows if row.split == "validation"], root, size)
    trunk = Trunk(network.model)
    logits = np.concatenate([trunk(batch) for batch in validation.batches(64)])
    found = {"epoch": 1, "val_auc": within_domain_auc(malignant_log_odds(full_logits(logits), labels), validation.rows)}
    config.save(run)
    write_split(run / SPLIT_FILE, rows)
    (run / DATA_FILE).write_text(f"{root.resolve()}\n")
    (run / LABELS).write_text(json.dumps([label.model_dump() for label in labels], indent=2) + "\n")
    (run / HISTORY).write_text(json.dumps(found) + "\n")
    (run / "seconds").write_text(f"{time.monotonic() - began:.0f}\n")
    checkpoint.save(run / BEST, variables, found)
    return found
