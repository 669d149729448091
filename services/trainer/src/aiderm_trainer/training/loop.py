"""Runs Keras' ``fit`` in rounds, each of which ends with a checkpoint that a later call resumes from.

The weights that are assessed and kept are averages over the last steps. Training only needs Keras 3, with any backend.
With TensorFlow, the layers below the first trained one run in OpenVINO.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import Network
from aiderm_trainer.config import TrainConfig
from aiderm_trainer.data.batches import WORKERS, TrainingBatches
from aiderm_trainer.training import checkpoint, run_folder
from aiderm_trainer.training.objective import distilled, inconsistency, misfit, negative_log_likelihood, with_offset

TOLD: Final = 20  # steps between lines of progress
WARMUP: Final = 200  # steps in which the learning rate rises; at most a tenth of all steps

Inference = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # uint8 images [N, S, S, 3] -> logits [N, C] or [N, 1]


class Loss:
    """Negative log-likelihood of the labels given the domain offset, plus terms for teachers and for pairs of views.

    The columns of a batch's targets are: possible classes ``C``, teachers' probabilities ``C`` (0 without teachers), the offset.

    Args:
        labels: the classes.
        consistency: weight of the difference between the scores of an image's two views, and between its score and the teachers'.
        teaching: weight of the teachers' probabilities relative to the labels.
    """

    def __init__(self, labels: Sequence[Label], consistency: float = 0.0, teaching: float = 0.0) -> None:
        self.classes, self.consistency, self.teaching = len(labels), consistency, teaching
        self.malignant = np.array([label.malignant for label in labels], np.float32)

    def of_rows(self, targets: Any, logits: Any) -> Any:
        """The loss of each row, ``[N]``, without the term for pairs of views."""
        possible, taught, offset = targets[:, : self.classes], targets[:, self.classes : -1], targets[:, -1]
        losses = negative_log_likelihood(with_offset(logits, offset, self.malignant), possible)
        if self.teaching:
            losses = distilled(losses, logits, taught, self.teaching)
            if self.consistency:
                losses = losses + self.consistency * misfit(logits, taught, self.malignant)
        return losses

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The loss of a batch, a scalar."""
        loss = keras.ops.mean(self.of_rows(targets, logits))
        return loss + self.consistency * inconsistency(logits, self.malignant) if self.consistency else loss


@dataclass(frozen=True)
class Schedule:
    """How a training is divided into rounds.

    Attributes:
        steps: number of steps per round.
        rounds: largest number of rounds.
        assessed: rounds from one assessment of the weights to the next.
        patience: assessments without improvement after which training ends; None: it does not end early.
    """

    steps: int
    rounds: int
    assessed: int = 1
    patience: int | None = None

    @property
    def total(self) -> int:
        """Total number of steps."""
        return self.steps * self.rounds


class Rounds(keras.utils.PyDataset):
    """The batches of a round; rounds need not coincide with epochs.

    Args:
        batches: of the training rows.
        trunk: uint8 images -> input of the trained part.
        steps: number of steps per round.
        first: 0-based index of the first round.
        pairs: whether each row is shown in two views.
    """

    def __init__(
        self, batches: TrainingBatches, trunk: Callable[[NDArray[np.uint8]], NDArray[Any]], steps: int, first: int, pairs: bool
    ) -> None:
        super().__init__(workers=WORKERS, max_queue_size=2 * WORKERS)
        self.batches, self.trunk, self.steps, self.round, self.pairs = batches, trunk, steps, first, pairs

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, at: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        epoch, step = divmod(self.round * self.steps + at, self.batches.steps)
        batch = self.batches.at(epoch, step, self.pairs)
        return self.trunk(batch.images), np.hstack([batch.possible, batch.taught, batch.offset[:, None]])

    def on_epoch_end(self) -> None:
        """Moves on to the next round."""
        self.round += 1


class TrainingLoop:
    """The state of one training.

    Args:
        config: ``learning_rate``, ``weight_decay``, ``consistency``, ``teachers``, ``teaching``, ``minutes`` and ``average``
            are read.
        network: with the weights to start from, and ``trainable`` set.
        labels: the classes.
        batches: of the training rows.
        run: folder of checkpoints, history and TensorBoard logs.
        schedule: see ``Schedule``.
        assess: network -> metrics on the validation rows.
        worth: metrics -> a value that is larger for better weights; the best weights are kept.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: Network,
        labels: Sequence[Label],
        batches: TrainingBatches,
        run: Path,
        schedule: Schedule,
        assess: Callable[[Inference], dict[str, float]],
        worth: Callable[[dict[str, Any]], float],
    ) -> None:
        self.config, self.batches, self.run, self.schedule = config, batches, run, schedule
        self.assess, self.worth = assess, worth
        # Listed before compilation, after which a model's variables include those of its metrics.
        self.variables = list(network.model.variables)
        self.trunk, self.trained = _parts(network.model)
        # The average spans at most a tenth of the training: else a short training would end close to its initial weights.
        momentum = min(config.average, 1 - 10 / max(schedule.total, 11))
        self.optimizer = keras.optimizers.AdamW(
            config.learning_rate, weight_decay=config.weight_decay, global_clipnorm=1.0,
            use_ema=config.average > 0, ema_momentum=momentum,
        )  # fmt: skip
        self.optimizer.build(self.trained.trainable_variables)
        for average, variable in zip(self._averages, self.trained.trainable_variables, strict=True):
            average.assign(_copy(variable))
        loss = Loss(labels, config.consistency, config.teaching if config.teachers else 0.0)
        self.trained.compile(self.optimizer, loss=loss, jit_compile=keras.backend.backend() == "jax")  # XLA is slow in TensorFlow
        self.round, self.spent, self.began = 0, 0.0, time.monotonic()
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.losses: list[float] = []  # of the rounds since the last assessment

    @property
    def seconds(self) -> float:
        """Seconds since the start, without pauses between a stop and a resumption."""
        return self.spent + time.monotonic() - self.began

    def progress(self, step: int) -> float:
        """Share of the training that is done before a step: the share of its steps or of its time, whichever is larger."""
        timed = self.seconds / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(1.0, max(step / self.schedule.total, timed))

    @property
    def over(self) -> bool:
        """Whether all steps or the time are used up, or patience has run out."""
        patience = self.schedule.patience
        if patience is not None and self.best and self.history.index(self.best) + patience < len(self.history):
            return True
        return self.round >= self.schedule.rounds or self.progress(self.round * self.schedule.steps) >= 1

    def go(self, *, assess_start: bool = False) -> dict[str, Any]:
        """Trains, or resumes from the run's checkpoint; returns the best assessment's record.

        Args:
            assess_start: whether the initial weights can be chosen as the best ones.
        """
        if (self.run / run_folder.CHECKPOINT).exists():
            saved = checkpoint.restore(self.run / run_folder.CHECKPOINT, self._state)
            self.round, self.history, self.losses = saved["round"], saved["history"], saved["losses"]
            self.best, self.spent = saved["best"], saved["seconds"]
        elif assess_start:
            self._assess({"epoch": 0})
        if not self.over:
            schedule = self.schedule
            rounds = Rounds(self.batches, self.trunk, schedule.steps, self.round, self.config.consistency > 0)
            self.trained.fit(
                rounds, initial_epoch=self.round, epochs=schedule.rounds, shuffle=False,
                verbose=1 if sys.stdout.isatty() else 0, callbacks=_callbacks(self),
            )  # fmt: skip
        return dict(self.best)

    def end_round(self, loss: float) -> dict[str, Any]:
        """Assesses the averaged weights if this is due, keeps them if they are the best, and writes the checkpoint.

        Returns:
            the record of the assessment; empty if there was none.
        """
        self.round += 1
        self.losses.append(loss)
        assessed = self.round % self.schedule.assessed == 0
        if assessed:
            record = {"epoch": self.round // self.schedule.assessed, "loss": float(np.mean(self.losses))}
            trained = [_copy(variable) for variable in self.trained.trainable_variables]
            _assign(self.trained.trainable_variables, [_copy(average) for average in self._averages] or trained)
            self._assess(record)
            _assign(self.trained.trainable_variables, trained)
            self.losses = []
        saved = {"round": self.round, "history": self.history, "losses": self.losses, "best": self.best, "seconds": self.seconds}
        checkpoint.save(self.run / run_folder.CHECKPOINT, self._state, saved)
        return self.history[-1] if assessed else {}

    def _assess(self, record: dict[str, Any]) -> None:
        found = record | self.assess(self._logits)
        self.history.append(found)
        tell(json.dumps(found))
        run_folder.write_history(self.run, self.history, self.seconds)
        if not self.best or self.worth(found) > self.worth(self.best):
            self.best = found
            checkpoint.save(self.run / run_folder.BEST, self.variables, found)

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self.trained.predict_on_batch(self.trunk(images)), np.float32)

    @property
    def _averages(self) -> list[Any]:
        return list(self.optimizer._model_variables_moving_average) if self.optimizer.use_ema else []

    @property
    def _state(self) -> list[Any]:
        return [*self.variables, *self.optimizer.variables]


class _Steps(keras.callbacks.Callback):
    """Sets the learning rate, writes lines of progress, and ends rounds.

    The rate follows a half cosine over the steps or the time limit, whichever is closer to its end.
    """

    def __init__(self, training: TrainingLoop) -> None:
        super().__init__()
        self.training = training

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate of a step."""
        training, total = self.training, self.training.schedule.total
        fetch_values(self.model)
        step = training.round * training.schedule.steps + batch
        rise = min(1.0, (step + 1) / max(1, min(WARMUP, total // 10)))
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * training.progress(step)))
        training.optimizer.learning_rate.assign(training.config.learning_rate * rise * fall)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes a line of progress every few steps, if no bar shows it."""
        training = self.training
        if (batch + 1) % TOLD == 0 and not sys.stdout.isatty():
            loss, done = float((logs or {}).get("loss", math.nan)), training.round * training.schedule.steps + batch + 1
            tell(f"step {done}/{training.schedule.total}, loss {loss:.4f}, {training.seconds:.0f} s")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends a round, and adds its metrics to the logs for the callbacks that follow."""
        fetch_values(self.model)
        found = self.training.end_round(float((logs or {}).get("loss", math.nan)))
        if logs is not None:
            logs.update({name: value for name, value in found.items() if name.startswith("val_")})
        if self.training.over:
            self.model.stop_training = True


def _callbacks(training: TrainingLoop) -> list[Any]:
    found: list[Any] = [_Steps(training)]
    if keras.backend.backend() == "tensorflow":
        found.append(keras.callbacks.TensorBoard(str(training.run / "tensorboard"), write_graph=False))
    return found


def _parts(model: Any) -> tuple[Callable[[NDArray[np.uint8]], NDArray[Any]], Any]:
    """Returns what runs before the trained part, and the trained part; this is the whole model if it is not cut."""
    if keras.backend.backend() == "tensorflow":
        from aiderm_trainer.architectures import trunk

        parts = trunk.cut(model)
        if parts:
            return trunk.Trunk(parts[0]), parts[1]
    return (lambda images: images), model


def fetch_values(model: Any) -> None:
    """Copies the current values of a model in training into its variables: with JAX, Keras keeps them elsewhere meanwhile."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def tell(text: str) -> None:
    """Writes a line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _copy(variable: Any) -> NDArray[Any]:
    """Copies a variable's values: JAX would let two variables share memory, and frees it once the first is used."""
    return np.array(keras.ops.convert_to_numpy(variable), copy=True)


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
