"""Fine-tunes a trained network's upper layers so that artefacts, the camera and the orientation change its output less.

Each row is shown twice, once clean and once with hair, JPEG loss, borders and the like, in other orientations and sometimes
in another camera's colours. The loss is the negative log-likelihood of the labels, given the domain offset (``data.balance``),
plus the difference between the scores of the two views (compare Zheng et al., "Improving the Robustness of Deep Neural Networks
via Stability Training", CVPR 2016). A teacher, such as the initial network, may provide the score that a clean image should get
(``distillation``), which preserves what was learnt before. Batch norm keeps its statistics, and depthwise kernels stay as they
are: they hold few weights, and their gradient takes longer than all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import build
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import ARTEFACT_HEAVY
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import drawn_artefacts
from aiderm_trainer.training import run_folder
from aiderm_trainer.training.distillation import taught
from aiderm_trainer.training.loop import Inference, Schedule, TrainingLoop
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc
from aiderm_trainer.training.starting_weights import take_over
from aiderm_trainer.training.training_inputs import parts_of, training_batches

WATCHED: Final = ("hair", "jpeg_loss")  # artefacts whose flips are counted after each round
WATCHED_IMAGES: Final = 300
SENSITIVITY: Final = 0.95  # of the threshold at which flips are counted
EVALUATED: Final = 64  # images per call in validation
# Teachers are averaged over all orientations: the student, which sees one, then learns to predict as if it had seen them all.
TURNS: Final = tuple((quarter, mirrored) for mirrored in (False, True) for quarter in range(4))


def fine_tune(config: TrainConfig, rows: Sequence[Row], root: Path, run: Path, *, base: Path | None = None) -> dict[str, Any]:
    """Trains on the train rows and chooses the round on the validation rows; an interrupted run is resumed.

    Args:
        config: ``start`` is a bundle or a run; ``weights`` the pretrained ones that it was trained from.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        run: folder to write; ``export`` accepts it like any other run.
        base: folder that ``config.start``, ``config.teachers`` and ``config.weights`` are relative to.

    Returns:
        the best round's record: epoch, loss, val_auc, flips_NAME.

    Raises:
        ConfigError: the run was made with another configuration, a split is empty, or ``start`` holds another network.
    """
    parts, base = parts_of(config, rows), base or Path()
    if config.start is None:
        raise ConfigError("fine-tuning starts from a bundle or a run. Received: no start")
    stopped = (run / run_folder.CHECKPOINT).exists()
    if stopped:
        run_folder.check_same(run, config, rows)
    keras.utils.set_random_seed(config.seed)
    file = config.weights not in ("imagenet", "none")
    found = config.model_copy(update={"weights": str(base / config.weights)}) if file else config
    network = build(found, len(parts.labels))
    run_folder.write_inputs(run, config, rows, root, parts.labels)
    if not stopped:
        run_folder.write_pretrained(run, network)
        take_over(base / config.start, network)
    size = network.size
    # The teachers may contradict the labels, so that what they know about hard cases is kept.
    teaching = partial(taught, found, parts.labels, run, base=base, turns=TURNS, trust=0.0) if config.teachers else None
    batches = training_batches(config, parts, root, size, ARTEFACT_HEAVY, teaching)
    freeze_depthwise(network.model)
    total = config.epochs * batches.steps
    steps = min(config.checkpoint_steps, total)
    schedule = Schedule(steps, max(1, total // steps))
    probe = Probe(parts.validation, root, size, parts.labels)
    return TrainingLoop(config, network, parts.labels, batches, run, schedule, probe, _worth).go(assess_start=True)


class Probe:
    """Measures the selection metric on validation images, and how many of them cross the threshold under an artefact."""

    def __init__(self, rows: Sequence[Row], root: Path, size: int, labels: Sequence[Label]) -> None:
        self.images, self.labels = Images(rows, root, size), labels
        self.malignant = np.array([bool(row.malignant) for row in rows])
        self.watched = np.random.default_rng(0).permutation(len(rows))[:WATCHED_IMAGES]

    def __call__(self, call: Inference) -> dict[str, float]:
        """Metrics of a network ``images -> logits``: val_auc, and flips_NAME as shares."""
        rows = self.images.rows
        score = self._scores(call, [self.images[i] for i in range(len(rows))])
        found = {"val_auc": within_domain_auc(score, rows)}
        if not self.malignant.any():
            return found
        threshold = np.quantile(score[self.malignant], 1 - SENSITIVITY)
        before = score[self.watched] >= threshold
        for name in WATCHED:
            changed = [drawn_artefacts.apply(name, self.images[int(i)], rows[int(i)].sha256) for i in self.watched]
            found[f"flips_{name}"] = float(((self._scores(call, changed) >= threshold) != before).mean())
        return found

    def _scores(self, call: Inference, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        logits = [call(np.stack(images[at : at + EVALUATED])) for at in range(0, len(images), EVALUATED)]
        return malignant_log_odds(full_logits(np.concatenate(logits)), self.labels)


def freeze_depthwise(model: Any) -> None:
    """Freezes depthwise convolutions and batch norms."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.BatchNormalization):
            layer.trainable = False


def _worth(found: dict[str, Any]) -> float:
    """The value that rounds are chosen by: the AUC minus the cost of flips; flips in 10% of the images cost 0.01 of AUC."""
    return float(found["val_auc"]) - 0.1 * float(np.mean([found.get(f"flips_{name}", 0.0) for name in WATCHED]))
