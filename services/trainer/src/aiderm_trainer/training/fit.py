"""Training in two stages: the head on cached features, then the upper layers at a lower rate; resumable at any checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.architectures import Network, build
from aiderm_trainer.architectures.trunk import Trunk, cut
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.augment import Augmentation
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.labels import choose_labels, possible_classes
from aiderm_trainer.data.split import read_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.training import checkpoint
from aiderm_trainer.training.distillation import teach
from aiderm_trainer.training.objective import (
    distilled,
    full_logits,
    malignant_log_odds,
    negative_log_likelihood,
    with_offset,
    within_domain_auc,
)
from aiderm_trainer.training.run_folder import (
    BEST,
    CHECKPOINT,
    PRETRAINED,
    SPLIT,
    read_labels,
    sides,
    training_batches,
    write_history,
    write_inputs,
)


def train(config: TrainConfig, rows: Sequence[Row], root: Path, run: Path, *, resume: bool = False) -> dict[str, Any]:
    """Trains a network on the train rows, chooses the epoch on the validation rows; never looks at the others.

    Args:
        config: what to train and how.
        rows: of SPLIT.csv, all splits.
        root: folder that the rows' paths are relative to.
        run: where config, labels, checkpoints, history and TensorBoard logs go.
        resume: go on from the run's checkpoint; the run then ends with the weights of an unbroken one.

    Returns:
        the best epoch's record: epoch, loss, val_auc, val_loss.

    Raises:
        ConfigError: the run exists and ``resume`` is False, it was made with another configuration, or a split is empty.
    """
    train_rows, validation_rows = sides(rows)
    if (run / CHECKPOINT).exists() and not resume:
        raise ConfigError(f"{run} holds a run already. Go on with --resume, or choose another --out")
    if resume and (run / "config.json").exists() and TrainConfig.load(run) != config:
        raise ConfigError(f"{run} was trained with another configuration; --resume takes the same one")
    if resume and (run / SPLIT).exists() and read_split(run / SPLIT) != sorted(rows, key=lambda row: row.path):
        raise ConfigError(f"{run} was trained on another split; --resume takes the same one")
    labels = choose_labels(train_rows, config.task)
    write_inputs(run, config, rows, root, labels)
    keras.utils.set_random_seed(config.seed)
    return _Fit(config, labels, train_rows, validation_rows, root, run).go(resume)


class _Fit:
    """The state of one training."""

    def __init__(
        self, config: TrainConfig, labels: Sequence[Label], train: list[Row], validation: list[Row], root: Path, run: Path
    ) -> None:
        self.config, self.labels, self.run = config, labels, run
        self.network = build(config, len(labels))
        self.model = self.network.model
        size = self.network.size
        self.validation = Images(validation, root, size)
        self.validation_targets = possible_classes(validation, labels)
        images, possible = Images(train, root, size), possible_classes(train, labels)
        taught = teach(_teachers(config.teachers, labels), images, possible) if config.teachers else None
        self.batches = training_batches(config, images, possible, Augmentation() if config.augment else None, taught)
        self.malignant = tf.constant([label.malignant for label in labels], tf.float32)
        if config.start:
            _take_over(Path(config.start), labels, self.network)
        parts = cut(self.model)
        # The trained part is all that a step runs in TensorFlow; without one the trunk hands the images through.
        self.trunk: Callable[[NDArray[np.uint8]], NDArray[Any]] = Trunk(parts[0]) if parts else lambda images: images
        self.trained = parts[1] if parts else self.model
        self.between = parts[0].output if parts else self.model.input
        total = config.epochs * self.batches.steps
        warmup = min(200, total // 10)
        self.optimizer = keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.0, total - warmup, alpha=0.01, warmup_target=config.learning_rate, warmup_steps=max(1, warmup)
            ),
            weight_decay=config.weight_decay,
            global_clipnorm=1.0,
        )
        self.trainable = self.trained.trainable_variables
        self.optimizer.build(self.trainable)
        self.averaged = [tf.Variable(variable, trainable=False) for variable in self.trainable]
        self.state = [*self.model.variables, *self.optimizer.variables, *self.averaged]
        self.history: list[dict[str, Any]] = []
        self.step = tf.function(self._step, reduce_retracing=True)
        self.forward = tf.function(lambda features: self.trained(features, training=False), reduce_retracing=True)

    def _step(self, features: Any, possible: Any, taught: Any, offset: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = self.trained(features, training=True)
            losses = negative_log_likelihood(with_offset(logits, offset, self.malignant), possible)
            if self.config.teachers:
                losses = distilled(losses, logits, taught, self.config.teaching)
            loss = tf.reduce_mean(losses)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable), self.trainable, strict=True))
        # Early on the average follows quickly, or it would still hold the first weights (Adam's bias correction in spirit).
        count = tf.cast(self.optimizer.iterations, tf.float32)
        momentum = tf.minimum(self.config.average, (1.0 + count) / (10.0 + count))
        for average, variable in zip(self.averaged, self.trainable, strict=True):
            average.assign(momentum * average + (1.0 - momentum) * variable)
        return loss

    def go(self, resume: bool) -> dict[str, Any]:
        epoch, start, loss_sum, best, spent = 0, 0, 0.0, None, 0.0
        if resume and (self.run / CHECKPOINT).exists():
            progress = checkpoint.restore(self.run / CHECKPOINT, self.state)
            epoch, start, loss_sum, best, spent = (progress[k] for k in ("epoch", "step", "loss_sum", "best", "seconds"))
            self.history = progress["history"]
        else:
            if self.network.novelty is not None:
                checkpoint.save(self.run / PRETRAINED, self.network.novelty.variables, {})
            if self.network.pretrained and self.config.head_epochs and not self.config.start:
                self._fit_head()
            self._average_from_start()
        writer = tf.summary.create_file_writer(str(self.run / "tensorboard"))
        began = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        steps = self.batches.steps

        def record(epoch: int, step: int, loss_sum: float) -> None:
            progress = {"epoch": epoch, "step": step, "loss_sum": loss_sum, "best": best, "history": self.history}
            checkpoint.save(self.run / CHECKPOINT, self.state, {**progress, "seconds": spent + time.monotonic() - began})

        with Progress(*columns) as bar, writer.as_default():
            while epoch < self.config.epochs and not self._stale(best):
                task = bar.add_task(f"epoch {epoch + 1}/{self.config.epochs}", total=steps, completed=start)
                for step, batch in enumerate(self.batches.epoch(epoch, start), start=start):
                    loss_sum += float(self.step(self.trunk(batch.images), batch.possible, batch.taught, batch.offset))
                    bar.update(task, completed=step + 1, description=f"epoch {epoch + 1} loss {loss_sum / (step + 1):.4f}")
                    if (step + 1) % self.config.checkpoint_steps == 0 and step + 1 < steps:
                        record(epoch, step + 1, loss_sum)
                result = {"epoch": epoch + 1, "loss": loss_sum / steps, **self._validate()}
                self.history.append(result)
                for key, value in result.items():
                    tf.summary.scalar(key, value, step=epoch + 1)
                writer.flush()
                bar.update(task, description=f"epoch {epoch + 1} loss {result['loss']:.4f} val_auc {result['val_auc']:.4f}")
                if best is None or result["val_auc"] > best["val_auc"]:
                    best = result
                    with self._averaged_weights():
                        checkpoint.save(self.run / BEST, self.model.variables, result)
                epoch, start, loss_sum = epoch + 1, 0, 0.0
                record(epoch, 0, 0.0)
                write_history(self.run, self.history, spent + time.monotonic() - began)
        if best is None:
            raise ConfigError("no epoch was trained")
        return dict(best)

    def _stale(self, best: dict[str, Any] | None) -> bool:
        return best is not None and len(self.history) - best["epoch"] >= self.config.patience

    def _average_from_start(self) -> None:
        for average, variable in zip(self.averaged, self.trainable, strict=True):
            average.assign(variable)

    def _averaged_weights(self) -> _Swapped:
        return _Swapped(self.trainable, self.averaged if self.config.average else self.trainable)

    def _validate(self) -> dict[str, float]:
        with self._averaged_weights():
            raw = np.concatenate([self.forward(self.trunk(batch)).numpy() for batch in self.validation.batches(64)])
        loss = float(np.mean(negative_log_likelihood(tf.constant(raw), tf.constant(self.validation_targets))))
        score = malignant_log_odds(full_logits(raw), self.labels)
        return {"val_auc": within_domain_auc(score, self.validation.rows), "val_loss": loss}

    def _fit_head(self) -> None:
        """Stage one: the dense head alone, on features of unaugmented images that are computed once."""
        features = self._features()
        vector = keras.Input(features.shape[1:])
        out = vector
        first = self.model.layers.index(self.model.get_layer(self.network.vector)) + 1
        head_layers = self.model.layers[first:]
        for layer in head_layers:
            out = layer(out)
        head = keras.Model(vector, out)
        classes = len(self.labels)

        def loss(targets: Any, logits: Any) -> Any:
            return negative_log_likelihood(with_offset(logits, targets[:, classes], self.malignant), targets[:, :classes])

        head.compile(keras.optimizers.AdamW(self.config.head_learning_rate, weight_decay=self.config.weight_decay), loss=loss)
        weights = self.batches.weights * len(features)
        targets = np.hstack([self.batches.targets, self.batches.offsets[:, None]])
        head.fit(features, targets, sample_weight=weights, batch_size=64, epochs=self.config.head_epochs, verbose=2)

    def _features(self) -> NDArray[np.float32]:
        # From the trunk's own output: the trained part's input is a copy, which the network's layers do not hang on.
        vector = keras.Model(self.between, self.model.get_layer(self.network.vector).output)
        call = tf.function(lambda features: vector(features, training=False), reduce_retracing=True)
        batches = self.batches.images.batches(64)
        total = -(-len(self.batches.images) // 64)
        with Progress() as bar:
            return np.concatenate(
                [call(self.trunk(batch)).numpy() for batch in bar.track(batches, total, description="features")]
            )


def _take_over(run: Path, labels: Sequence[Label], network: Network) -> None:
    """Starts from another run's best weights."""
    _same_labels(run, labels)
    checkpoint.restore(run / BEST, network.model.variables)


def _same_labels(run: Path, labels: Sequence[Label]) -> None:
    known = read_labels(run)
    if known != tuple(labels):
        raise ConfigError(f"{run} has other classes: {[k.id for k in known]}, not {[label.id for label in labels]}")


def _teachers(runs: Sequence[str], labels: Sequence[Label]) -> list[Network]:
    for run in map(Path, runs):
        _same_labels(run, labels)
    return [load_run(run)[2] for run in map(Path, runs)]


class _Swapped:
    """Replaces the values of some variables while the block runs."""

    def __init__(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        self.variables, self.values = variables, values

    def __enter__(self) -> None:
        self.kept = [variable.numpy() for variable in self.variables]
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value)

    def __exit__(self, *_: object) -> None:
        for variable, value in zip(self.variables, self.kept, strict=True):
            variable.assign(value)


def load_run(run: Path) -> tuple[TrainConfig, tuple[Label, ...], Network]:
    """The network of a run with its best epoch's weights.

    Raises:
        ConfigError: no run, or one that has not finished an epoch.
    """
    config = TrainConfig.load(run)
    labels = read_labels(run)
    network = build(config, len(labels), load=False)
    if network.novelty is not None:
        checkpoint.restore(run / PRETRAINED, network.novelty.variables)
    checkpoint.restore(run / BEST, network.model.variables)
    return config, labels, network
