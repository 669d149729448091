"""Refits the head of a finished network so that its score no longer tells cameras apart; the layers below stay as they are.

Two things hide the camera. The domain offset (``data.balance``) cancels what a domain's share of malignant lesions gives away.
The alignment requires that lesions of one diagnosis, labelled in one way (biopsied or not), have scores of the same mean and
spread in every domain. These are moments of the conditional distribution of the score (compare Zhang, Schölkopf et al., "Domain
Adaptation under Target and Conditional Shift", ICML 2013). The many naevi that were not biopsied can thus still teach what an
ordinary naevus looks like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from rich.progress import track

from aiderm_core.bundle.manifest import Label
from aiderm_core.prefetch import prefetch
from aiderm_trainer.architectures.network import Network
from aiderm_trainer.architectures.trunk import inference
from aiderm_trainer.data.batches import WORKERS, Batch, TrainingBatches
from aiderm_trainer.data.table import Row
from aiderm_trainer.training.head import HeadData
from aiderm_trainer.training.objective import log_odds, negative_log_likelihood, with_offset

SMALLEST_CELL: Final = 60  # training rows that a cell needs for its scores to be worth aligning
CELL_BATCH: Final = 32  # rows of each cell in a step


@dataclass(frozen=True)
class Cells:
    """Cells, each of rows of one domain, diagnosis and way of labelling, and which cells must have similar scores.

    Attributes:
        of_row: the cell of each row, -1 where it belongs to none: int64 ``[N]``.
        alike: groups of cells of one diagnosis and way of labelling, in several domains.
    """

    of_row: NDArray[np.int64]
    alike: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Number of cells."""
        return sum(map(len, self.alike))


def find_cells(rows: Sequence[Row]) -> Cells:
    """Cells of the rows whose diagnosis, domain and way of labelling are known."""
    keys = [(row.dx, row.biopsied, row.domain) if row.dx and row.domain and row.biopsied is not None else None for row in rows]
    counts = Counter(key for key in keys if key is not None)
    groups: dict[tuple[str, bool | None], list[tuple[str, bool | None, str]]] = {}
    for key in sorted(key for key, count in counts.items() if count >= SMALLEST_CELL):
        groups.setdefault(key[:2], []).append(key)
    numbers: dict[tuple[str, bool | None, str], int] = {}
    alike = []
    for members in groups.values():
        if len(members) > 1:
            alike.append(tuple(numbers.setdefault(key, len(numbers)) for key in members))
    return Cells(np.array([numbers.get(key, -1) if key else -1 for key in keys], np.int64), tuple(alike))


class BlindLoss:
    """Negative log-likelihood of the labels given the domain offset, plus the alignment.

    The columns of a batch's targets are: possible classes ``C``, offset, weight in the likelihood, and one for each cell.

    Args:
        labels: the classes.
        cells: the cells to align.
        strength: weight of the alignment relative to the likelihood.
    """

    def __init__(self, labels: Sequence[Label], cells: Cells, strength: float) -> None:
        self.classes, self.cells, self.strength = len(labels), cells, strength
        self.malignant = np.array([label.malignant for label in labels], np.float32)

    def __call__(self, targets: Any, logits: Any) -> Any:
        """The loss of a batch, a scalar."""
        possible, offset, weight = targets[:, : self.classes], targets[:, self.classes], targets[:, self.classes + 1]
        losses = negative_log_likelihood(with_offset(logits, offset, self.malignant), possible)
        loss = ops.sum(weight * losses) / ops.sum(weight)
        if not self.cells.alike or not self.strength:
            return loss
        score = log_odds(logits, self.malignant)
        member = targets[:, self.classes + 2 :]
        count = ops.maximum(ops.sum(member, axis=0), 1.0)
        mean = ops.sum(member * score[:, None], axis=0) / count
        spread = ops.sqrt(ops.sum(member * (score[:, None] - mean[None]) ** 2, axis=0) / count + 1e-4)
        penalty = 0.0
        for group in self.cells.alike:
            at = np.array(group)
            penalty = penalty + ops.var(ops.take(mean, at)) + 0.5 * ops.var(ops.take(spread, at))
        return loss + self.strength * penalty / len(self.cells.alike)


class _Batches(keras.utils.PyDataset):
    """Rows drawn by weight, plus some rows of each cell, which count for the alignment alone."""

    def __init__(
        self,
        features: NDArray[np.float32],
        targets: NDArray[np.float32],
        weights: NDArray[np.float64],
        cell: NDArray[np.int64],
        cells: Cells,
        batch: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__(workers=1)
        self.features, self.targets, self.cells, self.batch, self.steps = features, targets, cells, batch, steps
        self.cell, self.seed = cell, seed
        self.draws = np.random.default_rng(seed).choice(len(features), steps * batch, p=weights / weights.sum())
        self.members = [np.flatnonzero(cell == number) for number in range(cells.count)]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng([self.seed, step])
        drawn = self.draws[step * self.batch : (step + 1) * self.batch]
        aligned = [rng.choice(found, CELL_BATCH) for found in self.members if len(found)]
        rows = np.concatenate([drawn, *aligned])
        weight = np.arange(len(rows)) < len(drawn)
        member = (self.cell[rows][:, None] == np.arange(self.cells.count)[None]) & ~weight[:, None]
        return self.features[rows], np.hstack([self.targets[rows], weight[:, None], member]).astype(np.float32)


class _Cosine(keras.callbacks.Callback):
    """Lowers the learning rate along half a cosine."""

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self.rate, self.steps = rate, steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate of a step."""
        self.model.optimizer.learning_rate.assign(self.rate * 0.5 * (1 + np.cos(np.pi * batch / self.steps)))


def refit_head(
    head: Any,
    labels: Sequence[Label],
    rows: Sequence[Row],
    row_of: NDArray[np.int64],
    data: HeadData,
    *,
    strength: float = 0.3,
    epochs: int = 4,
    batch: int = 128,
    learning_rate: float = 5e-4,
    seed: int = 0,
) -> None:
    """Trains the head in place; it ends with the average of its weights over the last steps.

    Args:
        head: features ``[N, F]`` -> logits ``[N, C]``.
        labels: the classes.
        rows: the training rows.
        row_of: the row that each feature vector shows, int64 ``[M]``.
        data: of augmented views; the weights say how often each is drawn.
        strength: weight of the alignment.
        epochs: number of passes, each of which draws as many views as there are.
        batch: views drawn per step.
        learning_rate: at the start.
        seed: fixes all draws.
    """
    cells = find_cells(rows)
    keras.utils.set_random_seed(seed)
    steps = max(1, epochs * len(data.features) // batch)
    targets = np.hstack([data.possible, data.offsets[:, None]])
    batches = _Batches(data.features, targets, data.weights.astype(np.float64), cells.of_row[row_of], cells, batch, steps, seed)
    optimizer = keras.optimizers.AdamW(
        learning_rate, weight_decay=1e-3, use_ema=True, ema_momentum=min(0.99, 1 - 10 / (steps + 10))
    )
    head.compile(optimizer, loss=BlindLoss(labels, cells, strength), jit_compile=False)
    # One long epoch: at its end, Keras puts the averaged weights in place.
    head.fit(batches, epochs=1, shuffle=False, verbose=2, callbacks=[_Cosine(learning_rate, steps)])


def views(
    batches: TrainingBatches, trunk: Callable[[NDArray[np.uint8]], NDArray[Any]], passes: int
) -> tuple[NDArray[np.int64], HeadData]:
    """Computes features of augmented training images, each row once per pass.

    Args:
        batches: of the training rows.
        trunk: uint8 ``[N, S, S, 3]`` -> features ``[N, F]``.
        passes: views of each row.

    Returns:
        the row that each view shows, int64 ``[M]``, and what a head learns from the views.
    """
    count, parts = len(batches.images), []
    for number in range(passes):
        order = np.random.default_rng([batches.seed, 3, number]).permutation(count)
        chunks = [order[start : start + batches.batch] for start in range(0, count, batches.batch)]

        def make(step: int, chunks: list[NDArray[np.int64]] = chunks, number: int = number) -> Batch:
            return batches.make(chunks[step], number, step)

        made = prefetch(make, range(len(chunks)), workers=WORKERS, ahead=2 * WORKERS)
        for chunk, batch in zip(chunks, track(made, f"views {number + 1}/{passes}", total=len(chunks)), strict=True):
            parts.append((chunk, trunk(batch.images), batch.possible, batch.offset))
    rows, features, possible, offsets = (np.concatenate(column) for column in zip(*parts, strict=True))
    weights = np.asarray(batches.weights[rows], np.float32)
    return rows, HeadData(np.asarray(features, np.float32), possible, offsets, weights)


def blind(
    network: Network, labels: Sequence[Label], batches: TrainingBatches, *, strength: float, passes: int, epochs: int
) -> None:
    """Refits the head of a network in place, as the module's docstring describes.

    Args:
        network: trained; only its head changes.
        labels: the classes.
        batches: of the training rows, with the blinding that sets offsets and styles.
        strength: weight of the alignment.
        passes: augmented views of each row.
        epochs: passes over all views.
    """
    row_of, data = views(batches, inference(network.features), passes)
    refit_head(network.head, labels, batches.images.rows, row_of, data, strength=strength, epochs=epochs, seed=batches.seed)
