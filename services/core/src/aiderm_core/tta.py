"""Test-time augmentation: assesses an image in its eight orientations and pools the answers.

A lesion has no natural orientation, so all eight symmetries of the square show the same case. Averaging answers over such views
lowers the variance of a classifier (Krizhevsky et al. 2012; for skin lesions Perez et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Label
from aiderm_core.runtime import Hint, Outputs, Runtime

VIEWS = 8
Pool = Literal["probability", "log_odds"]
POOLS: tuple[Pool, ...] = ("probability", "log_odds")
_SMALLEST = 1e-12


class TtaRuntime:
    """A runtime that pools the answers for the eight orientations of each image.

    Args:
        runtime: the graph.
        labels: its classes, in order.
        pool: ``probability``: the mean of the views' probabilities. ``log_odds``: the normalised geometric mean, that is, the
            mean of the log-odds between any two classes (a logarithmic opinion pool, Genest and Zidek 1986); correcting for
            the prior before or after this pooling gives the same result.

    Raises:
        ValueError: ``pool`` is neither of these.
    """

    def __init__(self, runtime: Runtime, labels: Sequence[Label], pool: Pool) -> None:
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}. Received: {pool!r}")
        self.name = runtime.name
        self.precision = runtime.precision
        self._runtime = runtime
        self._malignant = np.array([label.malignant for label in labels])
        self._pool = pool

    def run(self, batch: NDArray[np.uint8], hint: Hint = "latency") -> Outputs:
        """Scores uint8 ``[N, S, S, 3]`` from ``8 N`` views; see ``pooled``."""
        return pooled(self._runtime.run(views(batch), hint), self._malignant, self._pool)


def views(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight orientations of each image.

    Args:
        batch: ``[N, S, S, 3]``.

    Returns:
        ``[8 N, S, S, 3]``: the views of the first image, the image itself first, then those of the second.

    Raises:
        ValueError: the images are not square.
    """
    if batch.ndim != 4 or batch.shape[1] != batch.shape[2]:
        raise ValueError(f"batch must be [N, S, S, 3]. Received: {list(batch.shape)}")
    turned = [_orient(batch, view) for view in range(VIEWS)]
    return np.ascontiguousarray(np.stack(turned, axis=1).reshape(-1, *batch.shape[1:]))


def pooled(outputs: Outputs, malignant: NDArray[np.bool_], pool: Pool) -> Outputs:
    """Pools the answers for the views of each image into one.

    Probabilities and malignancy are pooled. Heatmap and outline are turned back to the original orientation and averaged, and the
    heatmap is scaled to the pooled malignancy. The novelty is that of the original image, so that the same images are rejected
    with and without test-time augmentation.

    Args:
        outputs: for ``8 N`` images in the order of ``views``.
        malignant: ``[C]``, which classes are malignant.
        pool: see ``TtaRuntime``.

    Returns:
        The answers for N images. NaN in the probabilities or maps of any view stays NaN.

    Raises:
        ValueError: the number of answers is not a multiple of eight, or the number of classes is wrong.
    """
    count, classes = outputs.probability.shape
    if count % VIEWS or classes != len(malignant):
        raise ValueError(f"outputs must be of 8 N views and {len(malignant)} classes. Received: {count} and {classes}")
    by_view = outputs.probability.reshape(-1, VIEWS, classes).astype(np.float64)
    seen = outputs.malignancy.reshape(-1, VIEWS).astype(np.float64)
    if pool == "log_odds":
        logs = np.log(np.maximum(by_view, _SMALLEST)).mean(axis=1)
        probability = np.exp(logs - logs.max(axis=1, keepdims=True))
        probability /= probability.sum(axis=1, keepdims=True)
        malignancy = np.minimum(probability[:, malignant].sum(axis=1), 1.0)
    else:
        probability, malignancy = by_view.mean(axis=1), seen.mean(axis=1)
    back = _mean_turned_back(outputs.heatmap)
    scale = malignancy / np.maximum(seen.mean(axis=1), _SMALLEST)
    return Outputs(
        probability=probability.astype(np.float32),
        malignancy=malignancy.astype(np.float32),
        heatmap=np.minimum(back * scale[:, None, None], 1.0).astype(np.float32),
        novelty=outputs.novelty[::VIEWS],
        outline=None if outputs.outline is None else _mean_turned_back(outputs.outline).astype(np.float32),
    )


def _mean_turned_back(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    by_view = maps.reshape(-1, VIEWS, *maps.shape[1:]).astype(np.float64)
    return np.asarray(np.mean([_orient_back(by_view[:, view], view) for view in range(VIEWS)], axis=0), np.float64)


def _orient(pictures: NDArray[np.uint8], view: int) -> NDArray[np.uint8]:
    turned = np.rot90(pictures, view % 4, axes=(1, 2))
    return turned[:, :, ::-1] if view >= 4 else turned


def _orient_back(maps: NDArray[np.float64], view: int) -> NDArray[np.float64]:
    mirrored = maps[:, :, ::-1] if view >= 4 else maps
    return np.rot90(mirrored, -(view % 4), axes=(1, 2))
