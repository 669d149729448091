"""Makes a run from another run's or a shipped network, with a head that no longer tells cameras apart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aiderm_trainer.architectures import build
from aiderm_trainer.architectures.trunk import Trunk
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import ARTEFACT_HEAVY
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.blind_head import blind
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc
from aiderm_trainer.training.starting_weights import take_over
from aiderm_trainer.training.training_inputs import parts_of, training_batches


def blind_run(config: TrainConfig, rows: Sequence[Row], root: Path, start: Path, run: Path, *, passes: int) -> dict[str, Any]:
    """Writes a run that ``export`` accepts like any other.

    Args:
        config: ``alignment`` and ``head_epochs`` control the refit; ``weights`` are those that ``start`` was trained from.
        rows: of SPLIT.csv, all splits; trained on the train rows, measured on the validation rows.
        root: folder that the rows' paths are relative to.
        start: run or bundle whose network is taken over.
        run: folder to write.
        passes: augmented views of each training image.

    Returns:
        the record of the validation: val_auc.

    Raises:
        ConfigError: the run exists, or ``start`` holds another network.
    """
    if (run / run_folder.BEST).exists():
        raise ConfigError(f"{run} holds a run already. Choose another --out")
    began = time.monotonic()
    parts = parts_of(config, rows)
    network = build(config, len(parts.labels))
    run.mkdir(parents=True, exist_ok=True)
    run_folder.write_pretrained(run, network)
    take_over(start, network)
    batches = training_batches(config, parts, root, network.size, ARTEFACT_HEAVY)
    variables = list(network.model.variables)
    blind(network, parts.labels, batches, strength=config.alignment, passes=passes, epochs=config.head_epochs)
    trunk = Trunk(network.model)
    logits = np.concatenate([trunk(batch) for batch in Images(parts.validation, root, network.size).batches(64)])
    score = malignant_log_odds(full_logits(logits), parts.labels)
    found = {"epoch": 1, "val_auc": within_domain_auc(score, parts.validation)}
    run_folder.write_inputs(run, config, rows, root, parts.labels)
    run_folder.write_history(run, [found], time.monotonic() - began)
    checkpoint.save(run / run_folder.BEST, variables, found)
    return found
