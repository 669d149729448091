"""Turns rows into batches: images are decoded as everywhere else and augmented in threads, in an order that a seed fixes.

Every batch is a pure function of (seed, epoch, step), so a run that was killed resumes as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.prefetch import prefetch
from aiderm_trainer.data.augment import Augmentation, augment, clean_view
from aiderm_trainer.data.balance import balanced_weights, domain_offsets
from aiderm_trainer.data.domains import FEWEST
from aiderm_trainer.data.lesion_swaps import Outlines, Swaps, paint_over, transplant
from aiderm_trainer.data.style import restyle, skin_style
from aiderm_trainer.data.table import Row

WORKERS = 2


class Images:
    """Model inputs of a list of rows, kept in memory up to a budget and decoded again beyond it.

    Args:
        rows: what to read.
        root: folder that the rows' paths are relative to.
        size: side of the model's input.
        budget: bytes to keep.
    """

    def __init__(self, rows: Sequence[Row], root: Path, size: int, budget: int = 6 << 30) -> None:
        self.rows = list(rows)
        self.root = root
        self.size = size
        kept = min(len(self.rows), budget // (size * size * 3))
        self._pixels = np.empty((kept, size, size, 3), np.uint8)
        self._filled = np.zeros(kept, bool)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, size: int) -> Images:
        """The same rows at another size, at which no images are kept in memory."""
        return self if size == self.size else Images(self.rows, self.root, size, budget=0)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """The input of row ``index``: uint8 ``[size, size, 3]``.

        Raises:
            aiderm_core.imaging.errors.ImageError: the file cannot be decoded.
            OSError: the file cannot be read.
        """
        if index < len(self._filled) and self._filled[index]:
            return self._pixels[index]
        image = to_model_input(decode_image((self.root / self.rows[index].path).read_bytes(), size=self.size).pixels, self.size)
        if index < len(self._filled):
            self._pixels[index] = image
            self._filled[index] = True
        return image

    def batches(self, batch: int) -> Iterator[NDArray[np.uint8]]:
        """All images once, in order, unaugmented: uint8 ``[<=batch, size, size, 3]``."""

        def load(start: int) -> NDArray[np.uint8]:
            return np.stack([self[i] for i in range(start, min(start + batch, len(self)))])

        yield from prefetch(load, range(0, len(self), batch), workers=WORKERS, ahead=WORKERS)


def sampling_weights(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The probability of drawing each row: benign and malignant are equally likely inside each source.

    A source is weighted by the square root of its size, and so is a class among the benign (malignant) rows of a source: small
    ones are drawn more often than they occur, without being repeated endlessly.

    Returns:
        float64 ``[N]`` that sums to 1.
    """
    sources: dict[tuple[object, ...], int] = {}
    keys: list[tuple[tuple[object, ...], ...]] = [
        ((row.source,), (row.source, row.malignant), (row.source, row.malignant, row.dx)) for row in rows
    ]
    for chain in keys:
        for key in chain:
            sources[key] = sources.get(key, 0) + 1
    classes: dict[tuple[object, ...], float] = {}  # sum of sqrt(class size) inside a source's side
    for key, count in sources.items():
        if len(key) == 3:
            classes[key[:2]] = classes.get(key[:2], 0.0) + count**0.5
    weights = np.array(
        [sources[source] ** 0.5 * 0.5 * (sources[dx] ** 0.5 / classes[side]) / sources[dx] for source, side, dx in keys]
    )
    return np.asarray(weights / weights.sum(), np.float64)


@dataclass(frozen=True)
class Blinding:
    """How the camera is hidden from the network: see ``balance`` and ``style``.

    Attributes:
        balance: whether labels are balanced inside each domain or each source.
        offset: share of the domain's log-odds of malignancy that is added to the logits.
        hidden: factor on the offset of an image that shows another camera's colours or skin.
        style: probability that an image is shown in another domain's colours.
    """

    balance: Literal["domain", "source"] = "source"
    offset: float = 0.0
    hidden: float = 0.4
    style: float = 0.0


def weigh_rows(rows: Sequence[Row], blinding: Blinding) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Returns the probability of drawing each row, float64 ``[N]``, and its domain offset, float32 ``[N]``."""
    domains, malignant = [row.domain or row.source for row in rows], np.array([bool(row.malignant) for row in rows])
    if blinding.balance == "domain":
        weights = balanced_weights(domains, malignant, [row.dx for row in rows])
    else:
        weights = sampling_weights(rows)
    return weights, np.asarray(blinding.offset * domain_offsets(domains, malignant, weights), np.float32)


class Batch(NamedTuple):
    """The batch of one step.

    Attributes:
        images: uint8 ``[B, S, S, 3]``.
        possible: possible classes, float32 ``[B, C]``.
        taught: teachers' probabilities, 0 where there are none, float32 ``[B, C]``.
        offset: log-odds of malignancy that the domain gives away, float32 ``[B]``.
    """

    images: NDArray[np.uint8]
    possible: NDArray[np.float32]
    taught: NDArray[np.float32]
    offset: NDArray[np.float32]


class TrainingBatches:
    """Augmented, balanced batches of an epoch.

    Args:
        images: the training images.
        targets: float32 ``[N, C]``, see ``labels.possible_classes``.
        batch: images per step.
        seed: fixes order and augmentation.
        how: augmentation; None leaves the images as they are.
        outlines: of lesions; if given, some of these lesions are painted over or transplanted.
        taught: float32 ``[N, C]``, teachers' probabilities, see ``distillation``.
        blinding: how the camera is hidden.
    """

    def __init__(
        self,
        images: Images,
        targets: NDArray[np.float32],
        batch: int,
        seed: int,
        how: Augmentation | None = Augmentation(),  # noqa: B008
        outlines: Outlines | None = None,
        taught: NDArray[np.float32] | None = None,
        blinding: Blinding = Blinding(),
    ) -> None:
        self.images = images
        self.targets = targets
        self.batch = batch
        self.seed = seed
        self.how = how
        self.outlines = outlines
        self.taught = np.zeros_like(targets) if taught is None else taught
        malignant = np.array([bool(row.malignant) for row in images.rows])
        # Nothing is known about a painted-over lesion: its label is drawn at random from these two.
        self._sides = [targets[malignant == side].max(axis=0, initial=0.0) for side in (False, True)]
        domains = [row.domain or row.source for row in images.rows]
        self.blinding = blinding
        self.weights, self.offsets = weigh_rows(images.rows, blinding)
        members: dict[str, list[int]] = {}
        for index, domain in enumerate(domains):
            members.setdefault(domain, []).append(index)
        self._styles: dict[int, NDArray[np.float32] | None] = {}
        self._orders: dict[int, NDArray[np.int64]] = {}  # of the epoch being read
        self._members = [np.array(found) for _, found in sorted(members.items()) if len(found) >= FEWEST]

    @property
    def steps(self) -> int:
        """Steps per epoch, in which about as many images are drawn as there are rows."""
        return max(1, len(self.images) // self.batch)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Row indices of an epoch, int64 ``[steps * batch]``, from systematic sampling: each row occurs as its weight says."""
        rng = np.random.default_rng([self.seed, epoch])
        count = self.steps * self.batch
        shuffled = rng.permutation(len(self.weights))
        edges = np.cumsum(self.weights[shuffled])
        picks = shuffled[np.minimum(np.searchsorted(edges, (np.arange(count) + rng.random()) / count), len(edges) - 1)]
        return rng.permutation(picks)

    def at(self, epoch: int, step: int, pairs: bool = False) -> Batch:
        """The batch of a step of an epoch, with one view of each row or with two: see ``make`` and ``make_pairs``."""
        order = self._orders.get(epoch)
        if order is None:
            order = self.order(epoch).reshape(self.steps, self.batch)
            self._orders = {epoch: order}
        return (self.make_pairs if pairs else self.make)(order[step], epoch, step)

    def make(self, indices: NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Makes the batch of one step, independently of earlier batches.

        Args:
            indices: rows, int64 ``[B]``.
            epoch: with ``step`` and the seed, source of all randomness.
            step: see ``epoch``.
        """
        rng = np.random.default_rng([self.seed, epoch, step])
        images, batch = self._prepare(indices, rng)
        if self.how is not None:
            images = [augment(image, rng, self.how) for image in images]
        return batch._replace(images=np.stack(images))

    def make_pairs(self, indices: NDArray[np.int64], epoch: int, step: int) -> Batch:
        """Makes two views of each row: a clean one, and one with artefacts, each in its own orientation.

        Args:
            indices: rows, int64 ``[B]``.
            epoch: with ``step`` and the seed, source of all randomness.
            step: see ``epoch``.

        Returns:
            a batch of ``2 B`` images, with the two views of a row next to each other.
        """
        rng = np.random.default_rng([self.seed, epoch, step, 2])
        images, batch = self._prepare(indices, rng)
        how = self.how or Augmentation()
        both = [view for image in images for view in (clean_view(image, rng, how), augment(image, rng, how))]
        return Batch(np.stack(both), *(np.repeat(part, 2, axis=0) for part in batch[1:]))

    def _prepare(self, indices: NDArray[np.int64], rng: np.random.Generator) -> tuple[list[NDArray[np.uint8]], Batch]:
        """Returns images that are restyled and swapped but not augmented yet, and their targets in a batch without images."""
        targets, taught, offsets = self.targets[indices], self.taught[indices], self.offsets[indices]
        images = []
        for at, index in enumerate(indices):
            image, hidden = self._restyle(int(index), rng)
            if self.outlines is not None:
                before = image
                image, targets[at], known = self._swap(int(index), before, targets[at], rng)
                taught[at] *= known
                offsets[at] *= known
                hidden = hidden or image is not before
            images.append(image)
            offsets[at] *= self.blinding.hidden if hidden else 1.0
        return images, Batch(np.empty((0,), np.uint8), targets, taught, offsets)

    def _style(self, index: int) -> NDArray[np.float32] | None:
        """The ``skin_style`` of a row; measuring it takes longer than augmenting the image, so it is kept."""
        if index not in self._styles:
            self._styles[index] = skin_style(self.images[index])
        return self._styles[index]

    def _restyle(self, index: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], bool]:
        """Sometimes gives a row's image the colours of one from a random domain; returns it, and whether it was changed."""
        image = self.images[index]
        if not self.blinding.style or len(self._members) < 2 or rng.random() >= self.blinding.style:
            return image, False
        domain = self._members[int(rng.integers(len(self._members)))]
        own, other = self._style(index), self._style(int(rng.choice(domain)))
        if own is None or other is None:
            return image, False
        return restyle(image, own, other, rng.uniform(0.5, 1.0)), True

    def _swap(
        self, index: int, image: NDArray[np.uint8], target: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], bool]:
        """May paint a lesion over or transplant it; returns the image, its target, and whether it still shows the lesion."""
        outlines, swaps = self.outlines, Swaps()
        draw = rng.random()
        if outlines is None or index not in outlines or draw >= swaps.painted + swaps.transplanted:
            return image, target, True
        if draw < swaps.painted:
            painted = paint_over(image, outlines[index], rng)
            return (image, target, True) if painted is None else (painted, self._sides[int(rng.integers(2))], False)
        other = int(rng.choice(outlines.rows))
        ground = paint_over(self.images[other], outlines[other], rng)
        return (image if ground is None else transplant(image, outlines[index], ground, rng)), target, True
