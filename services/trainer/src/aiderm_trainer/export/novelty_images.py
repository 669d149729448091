"""Selects the images that the novelty model is fitted to and tested on: dermoscopic and out-of-distribution images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Input
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.augment import augment
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.close_ups import EVALUATION, FITTING, CloseUp, close_up
from aiderm_trainer.data.sources.folders import IMAGE_SUFFIXES
from aiderm_trainer.data.table import Row
from aiderm_trainer.export import novelty
from aiderm_trainer.export.saved_model import Assessor

LESIONS: Final = 1500
CLOSE_UPS: Final = 1000
EVALUATED: Final = 300
BATCH: Final = 32

Image = NDArray[np.uint8]
Half = Literal["fitting", "evaluation"]


def fit_novelty(assessor: Assessor, train: Sequence[Row], root: Path, not_lesions: Path | None) -> novelty.NoveltyModel:
    """Fits the novelty model to fixed samples of training images.

    Each training image is used as it is and augmented as in training, so that hair or a ruler makes no lesion unusual. The
    counterexamples are simulated close-ups of other training images and, if a folder is given, everyday photographs.

    Args:
        assessor: computes the features; its own novelty model is not used.
        train: training rows.
        root: folder that their paths are relative to.
        not_lesions: folder of images that show no lesion; only the half for fitting is used.

    Raises:
        ConfigError: the folder holds no images.
    """
    features = tf.function(assessor.features, reduce_retracing=True)
    order = np.random.default_rng(0).permutation(len(train))
    chosen = [train[i] for i in order[:LESIONS]]
    rng = np.random.default_rng(2)
    plain = list(Images(chosen, root, assessor.size, budget=0).batches(BATCH))
    lesions: list[Sequence[Image]] = [list(batch) for batch in plain]
    lesions += [[augment(image, rng) for image in batch] for batch in plain]
    others: list[Image] = list(simulated([train[i] for i in order[::-1][:CLOSE_UPS]], root, assessor.size, FITTING, seed=3))
    if not_lesions is not None:
        others += photographs(not_lesions, Input(size=assessor.size), "fitting")
    return novelty.fit(_all(features, lesions), _all(features, [others[i : i + BATCH] for i in range(0, len(others), BATCH)]))


def simulated(rows: Sequence[Row], root: Path, size: int, how: CloseUp, seed: int) -> Iterator[Image]:
    """Yields one simulated close-up of each row: uint8 ``[size, size, 3]``."""
    rng = np.random.default_rng(seed)
    for batch in Images(rows, root, size, budget=0).batches(BATCH):
        yield from (close_up(image, rng, how) for image in batch)


def evaluated_close_ups(test: Sequence[Row], root: Path, size: int) -> list[Image]:
    """Close-ups of a fixed sample of test images, with other skin and other light than the close-ups used for fitting."""
    order = np.random.default_rng(4).permutation(len(test))[:EVALUATED]
    return list(simulated([test[i] for i in order], root, size, EVALUATION, seed=5))


def photographs(folder: Path, spec: Input, half: Half) -> list[Image]:
    """One half of the images of a folder; the file's name decides which half an image belongs to.

    Raises:
        ConfigError: the folder holds no images.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ConfigError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    wanted = [path for path in files if (zlib.crc32(path.name.encode()) % 2 == 0) == (half == "fitting")]
    return [to_model_input(decode_image(path.read_bytes(), size=spec.size).pixels, spec.size, spec.geometry) for path in wanted]


def _all(features: Callable[[Any], Any], batches: Iterable[Sequence[Image]]) -> NDArray[np.float32]:
    return np.concatenate([features(np.stack(list(batch))).numpy() for batch in batches])
