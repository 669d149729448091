"""Fine-tunes a trained network's upper layers so that artefacts, the camera and the orientation change its answer less.

Each row is shown twice, once clean and once with hair, JPEG loss, borders and the like, in other orientations and sometimes
in another camera's colours. The loss is the likelihood of the labels, given the domain offset (``data.balance``), plus how far
the two views are scored apart (compare Zheng et al., "Improving the Robustness of Deep Neural Networks via Stability
Training", CVPR 2016). A teacher, such as the network to start from, may say what a clean image should be
scored as (``distillation``): that keeps what was learnt before. Batch norm keeps its statistics, and depthwise kernels stay
as they are: they hold few weights, and their gradient takes longer than all others.

Keras 3 alone does the work, whatever its backend. With TensorFlow, the layers below the first trained one run in OpenVINO.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import Network
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.batches import WORKERS, Images, TrainingBatches
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import drawn_artefacts
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.objective import (
    distilled,
    full_logits,
    inconsistency,
    malignant_log_odds,
    misfit,
    negative_log_likelihood,
    with_offset,
    within_domain_auc,
)
from aiderm_trainer.training.run_folder import BEST, CHECKPOINT, write_history

WATCHED: Final = ("hair", "jpeg_loss")  # artefacts whose flips are counted after each round
WATCHED_IMAGES: Final = 300
SENSITIVITY: Final = 0.95  # of the threshold at which flips are counted
TOLD: Final = 20  # steps between lines of progress
EVALUATED: Final = 64  # images a call in validation

Trunk = Callable[[NDArray[np.uint8]], NDArray[Any]]


class PairLoss:
    """Likelihood of the labels given the domain offset, plus the inconsistency of the two views of an image.

    Targets of a batch are, side by side: possible classes ``C``, teachers' probabilities ``C`` (0 without any), the offset.

    Args:
        labels: the classes.
        strength: of the inconsistency against the likelihood, and of what the score is off the teachers'.
        teaching: weight of the teachers' probabilities against the labels.
    """

    def __init__(self, labels: Sequence[Label], strength: float, teaching: float = 0.0) -> None:
        self.classes, self.strength, self.teaching = len(labels), strength, teaching
        self.malignant = np.array([label.malignant for label in labels], np.float32)

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The loss of a batch, a scalar."""
        possible, taught, offset = targets[:, : self.classes], targets[:, self.classes : -1], targets[:, -1]
        losses = negative_log_likelihood(with_offset(logits, offset, self.malignant), possible)
        if self.teaching:
            losses = distilled(losses, logits, taught, self.teaching)
            losses = losses + self.strength * misfit(logits, taught, self.malignant)
        loss = keras.ops.mean(losses)
        return loss + self.strength * inconsistency(logits, self.malignant) if self.strength else loss


class Rounds(keras.utils.PyDataset):
    """Batches of a round of steps; rounds follow one another independently of epochs.

    Args:
        batches: of the training rows.
        trunk: uint8 images -> what the trained part takes.
        steps: of a round.
        first: 0-based index of the first round.
        pairs: whether each row is shown in two views.
    """

    def __init__(self, batches: TrainingBatches, trunk: Trunk, steps: int, first: int, pairs: bool) -> None:
        super().__init__(workers=WORKERS, max_queue_size=2 * WORKERS)
        self.batches, self.trunk, self.steps, self.round, self.pairs = batches, trunk, steps, first, pairs
        self._orders: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, at: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        epoch, step = divmod(self.round * self.steps + at, self.batches.steps)
        order = self._orders.get(epoch)
        if order is None:
            order = self.batches.order(epoch).reshape(self.batches.steps, self.batches.batch)
            self._orders = {epoch: order}
        make = self.batches.make_pairs if self.pairs else self.batches.make
        batch = make(order[step], epoch, step)
        return self.trunk(batch.images), np.hstack([batch.possible, batch.taught, batch.offset[:, None]])

    def on_epoch_end(self) -> None:
        """Goes on to the next round."""
        self.round += 1


class Probe:
    """Validation images: the selection figure, and how many change sides of the threshold under an artefact."""

    def __init__(self, rows: Sequence[Row], root: Path, size: int, labels: Sequence[Label]) -> None:
        self.images, self.labels = Images(rows, root, size), labels
        self.malignant = np.array([bool(row.malignant) for row in rows])
        self.watched = np.random.default_rng(0).permutation(len(rows))[:WATCHED_IMAGES]

    def __call__(self, call: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> dict[str, float]:
        """Figures of a network ``images -> logits``: val_auc, and flips_NAME as shares."""
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

    def _scores(
        self, call: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.float64]:
        logits = [call(np.stack(images[at : at + EVALUATED])) for at in range(0, len(images), EVALUATED)]
        return malignant_log_odds(full_logits(np.concatenate(logits)), self.labels)


class _Progress(keras.callbacks.Callback):
    """Sets the learning rate, ends in time, and writes figures and checkpoints after each round.

    The rate follows a half cosine over the steps or the time limit, whichever is further.
    """

    def __init__(self, fit: FineTuning) -> None:
        super().__init__()
        self.fit = fit

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate of a step."""
        fit = self.fit
        self._fetch_values()
        step = fit.round * fit.steps + batch
        rise = min(1.0, (step + 1) / max(1, min(50, fit.total // 10)))
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fit.progress(step)))
        fit.optimizer.learning_rate.assign(fit.config.learning_rate * rise * fall)

    def _fetch_values(self) -> None:
        if keras.backend.backend() == "jax":  # while Keras trains in JAX, the values are not in the variables
            self.model.jax_state_sync()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes a line of progress every few steps."""
        if (batch + 1) % TOLD == 0:
            loss, done = float((logs or {}).get("loss", math.nan)), self.fit.round * self.fit.steps + batch + 1
            _tell(f"step {done}/{self.fit.total}, loss {loss:.4f}, {self.fit.seconds:.0f} s")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the round."""
        self._fetch_values()
        self.fit.end_round(float((logs or {}).get("loss", math.nan)))
        if self.fit.progress(self.fit.round * self.fit.steps) >= 1:
            self.model.stop_training = True


class FineTuning:
    """The state of one fine-tuning.

    Args:
        config: ``learning_rate``, ``consistency``, ``teaching``, ``epochs``, ``minutes``, ``average`` and
            ``checkpoint_steps`` are read.
        network: with the weights to start from, and ``trainable`` set.
        labels: the classes.
        batches: of the training rows.
        probe: of the validation rows.
        run: folder of checkpoints and history.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: Network,
        labels: Sequence[Label],
        batches: TrainingBatches,
        probe: Probe,
        run: Path,
    ) -> None:
        self.config, self.batches, self.probe, self.run = config, batches, probe, run
        freeze_depthwise(network.model)
        # Before it is compiled: then a model's variables hold those of its metrics too.
        self.variables = list(network.model.variables)
        self.trunk, self.trained = _parts(network.model)
        self.total = config.epochs * batches.steps
        self.steps = min(config.checkpoint_steps, self.total)
        self.optimizer = keras.optimizers.AdamW(
            config.learning_rate,
            weight_decay=config.weight_decay,
            global_clipnorm=1.0,
            use_ema=True,
            # The average spans at most a tenth of the training: else a short one would end with its first weights.
            ema_momentum=min(config.average, 1 - 10 / max(self.total, 11)),
        )
        self.optimizer.build(self.trained.trainable_variables)
        for average, variable in zip(self._averages, self.trained.trainable_variables, strict=True):
            average.assign(_copy(variable))
        self.trained.compile(
            self.optimizer,
            loss=PairLoss(labels, config.consistency, config.teaching if config.teachers else 0.0),
            jit_compile=_jit(),
        )
        self.round, self.history, self.best, self.spent = 0, list[dict[str, Any]](), dict[str, Any](), 0.0
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start, without pauses between a stop and a resumption."""
        return self.spent + time.monotonic() - self.began

    def progress(self, step: int) -> float:
        """Share of the training that is done before a step: of its steps or of its time, whichever is further."""
        timed = self.seconds / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(1.0, max(step / self.total, timed))

    def go(self) -> dict[str, Any]:
        """Trains, or resumes from the run's checkpoint; returns the best round's record."""
        if (self.run / CHECKPOINT).exists():
            saved = checkpoint.restore(self.run / CHECKPOINT, self._state)
            self.round, self.history, self.best, self.spent = (saved[key] for key in ("round", "history", "best", "seconds"))
        else:
            self._assess({"epoch": 0, "loss": math.nan})
        rounds = max(1, self.total // self.steps)
        if self.round < rounds and self.progress(self.round * self.steps) < 1:
            data = Rounds(self.batches, self.trunk, self.steps, self.round, self.config.consistency > 0)
            self.trained.fit(data, initial_epoch=self.round, epochs=rounds, shuffle=False, verbose=0, callbacks=[_Progress(self)])
        return dict(self.best)

    def end_round(self, loss: float) -> None:
        """Assesses the averaged weights, keeps them where they are the best, and writes the checkpoint."""
        self.round += 1
        trained = [_copy(variable) for variable in self.trained.trainable_variables]
        _assign(self.trained.trainable_variables, [_copy(average) for average in self._averages])
        self._assess({"epoch": self.round, "loss": loss})
        _assign(self.trained.trainable_variables, trained)
        progress = {"round": self.round, "history": self.history, "best": self.best, "seconds": self.seconds}
        checkpoint.save(self.run / CHECKPOINT, self._state, progress)

    def _assess(self, record: dict[str, Any]) -> None:
        found = record | {"seconds": round(self.seconds), **self.probe(self._logits)}
        self.history.append({key: value for key, value in found.items() if value == value})
        _tell(json.dumps(found))
        write_history(self.run, self.history, self.seconds)
        if not self.best or found["val_auc"] - _unstable(found) > self.best["val_auc"] - _unstable(self.best):
            self.best = self.history[-1]
            checkpoint.save(self.run / BEST, self.variables, self.best)

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self.trained.predict_on_batch(self.trunk(images)), np.float32)

    @property
    def _averages(self) -> list[Any]:
        return list(self.optimizer._model_variables_moving_average)

    @property
    def _state(self) -> list[Any]:
        return [*self.variables, *self.optimizer.variables]


def freeze_depthwise(model: Any) -> None:
    """Leaves depthwise kernels and batch norms as they are."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.BatchNormalization):
            layer.trainable = False


def _unstable(found: dict[str, Any]) -> float:
    """The cost of flips when a round is chosen: flips of 10% of the images cost as much as 0.01 of the AUC."""
    return 0.1 * float(np.mean([found.get(f"flips_{name}", 0.0) for name in WATCHED]))


def _parts(model: Any) -> tuple[Trunk, Any]:
    if keras.backend.backend() == "tensorflow":
        from aiderm_trainer.architectures import trunk

        parts = trunk.cut(model)
        if parts:
            return trunk.Trunk(parts[0]), parts[1]
    return (lambda images: images), model


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _jit() -> bool:
    return bool(keras.backend.backend() == "jax")  # XLA on a CPU is slow in TensorFlow


def _copy(variable: Any) -> NDArray[Any]:
    """Values in memory of their own: JAX would let two variables share it, and frees it once the first is used."""
    return np.array(keras.ops.convert_to_numpy(variable), copy=True)


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
