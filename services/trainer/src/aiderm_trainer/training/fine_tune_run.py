"""A run that starts from the weights of a bundle or of another run: see ``fine_tune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_core.files import write_arrays
from aiderm_trainer.architectures import build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import ARTEFACT_HEAVY
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.fine_tune import FineTuning, Probe
from aiderm_trainer.training.run_folder import BEST, CHECKPOINT, PRETRAINED, sides, training_batches, write_inputs

TAUGHT = "taught.npz"
TURNS = ((0, False), (1, True))  # orientations that a teacher is averaged over


def fine_tune(config: TrainConfig, rows: Sequence[Row], root: Path, run: Path, *, base: Path | None = None) -> dict[str, Any]:
    """Trains on the train rows and chooses the round on the validation rows; an interrupted run is resumed.

    Args:
        config: ``start`` is a bundle or a run; ``weights`` the pretrained ones that it was trained from.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        run: folder to write; export takes it like any other.
        base: folder that ``config.start`` and ``config.weights`` are relative to.

    Returns:
        the best round's record: epoch, loss, val_auc, flips.

    Raises:
        ConfigError: the run was made with another configuration, a split is empty, or ``start`` holds another network.
    """
    train_rows, validation_rows = sides(rows)
    if config.start is None:
        raise ConfigError("fine-tuning starts from a bundle or a run. Received: no start")
    going_on = (run / CHECKPOINT).exists()
    # Another time limit is no other training: a run may be given more time.
    if going_on and TrainConfig.load(run).model_copy(update={"minutes": config.minutes}) != config:
        raise ConfigError(f"{run} was trained with another configuration. Give the same one, or choose another --out")
    labels = choose_labels(train_rows, config.task)
    keras.utils.set_random_seed(config.seed)
    base = base or Path()
    file = config.weights not in ("imagenet", "none")
    network = build(config.model_copy(update={"weights": str(base / config.weights)}) if file else config, len(labels))
    run.mkdir(parents=True, exist_ok=True)
    if not going_on:
        if network.novelty is not None:
            checkpoint.save(run / PRETRAINED, network.novelty.variables, {})
        take_over(base / config.start, network.model.variables, network)
    write_inputs(run, config, rows, root, labels)
    images, possible = Images(train_rows, root, network.size), possible_classes(train_rows, labels)
    taught = _taught(config, base, labels, images, possible, run / TAUGHT) if config.teachers else None
    batches = training_batches(config, images, possible, ARTEFACT_HEAVY if config.augment else None, taught)
    probe = Probe(validation_rows, root, network.size, labels)
    return FineTuning(config, network, labels, batches, probe, run).go()


def _taught(
    config: TrainConfig, base: Path, labels: Sequence[Label], images: Images, possible: NDArray[np.float32], file: Path
) -> NDArray[np.float32]:
    """The teachers' probabilities for the training images, computed once per run."""
    from aiderm_trainer.training.distillation import teach

    if not file.exists():
        networks = []
        for teacher in config.teachers:
            network = build(config, len(labels))
            take_over(base / teacher, network.model.variables, network)
            networks.append(network)
        write_arrays(file, {"taught": teach(networks, images, possible, turns=TURNS, trust=0.0)})
    with np.load(file) as arrays:
        return np.asarray(arrays["taught"], np.float32)


def take_over(start: Path, variables: Sequence[Any], network: Any) -> None:
    """Assigns the weights of a run, or else of a bundle."""
    if (start / BEST).exists():
        checkpoint.restore(start / BEST, variables)
        return
    from aiderm_trainer.training import from_bundle

    from_bundle.take_over(start, network)
