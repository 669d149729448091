"""Finds the domain of each image: its camera, clinic or collection if known, else a group of images with similar surroundings.

Groups are found from the edge band and the corners of the images alone: colour, shading, sharpness and grain of the skin
there, and the dark border of a dermatoscope. The lesion itself is not used, so no group can stand for a diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from aiderm_trainer.data.table import Row

BAND: Final = 20 / 224  # width of the edge band, as a share of the side
CORNER: Final = 1.25  # radius beyond which a pixel is in a corner, as a share of half the side
DARK: Final = 40  # of 255 in L: a darker corner is the dermatoscope's border
IMAGES_A_GROUP: Final = 80  # a source with n images of unknown domain gets about log2(n / IMAGES_A_GROUP) groups
MOST_GROUPS: Final = 8
GIVEN_AWAY: Final = 0.9  # a domain whose images have one label in at least this share gives the label away
FEWEST: Final = 30  # images that a domain must have for this to be assessed


def border_statistics(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Statistics of a lesion's surroundings.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.

    Returns:
        float32 ``[16]``: median and deviation of L, a, b in the edge band and in the corners; log of the fine and the coarser
        detail in the band and of the fine detail in the corners; share of dark corner pixels.
    """
    side = image.shape[0]
    y, x = np.ogrid[:side, :side]
    radius = np.hypot(y - (side - 1) / 2, x - (side - 1) / 2) / (side / 2)
    edge = np.minimum(np.minimum(y, x), np.minimum(side - 1 - y, side - 1 - x)) < round(BAND * side)
    band, corner = edge & (radius <= 111 / 112), radius > CORNER
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    light = lab[..., 0]
    soft = cv2.GaussianBlur(light, (0, 0), 1.0)
    fine, coarse = np.abs(light - soft), np.abs(soft - cv2.GaussianBlur(light, (0, 0), 3.0))
    colours = [statistic for part in (lab[band], lab[corner]) for statistic in (np.median(part, axis=0), part.std(axis=0))]
    detail = [np.log(plane[part].mean() + 0.1) for plane, part in ((fine, band), (coarse, band), (fine, corner))]
    return np.asarray([*np.concatenate(colours), *detail, (light[corner] < DARK).mean()], np.float32)


def find_groups(statistics: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """Groups of images whose surroundings look alike, by k-means on robustly standardised statistics.

    Args:
        statistics: float32 ``[N, 16]``, ``border_statistics`` of the images of one source.
        seed: of the initial cluster centres; the same images in the same order give the same groups.

    Returns:
        int64 ``[N]``: 0 is the largest group.
    """
    count = min(MOST_GROUPS, max(1, round(np.log2(max(len(statistics), 1) / IMAGES_A_GROUP))))
    if count == 1:
        return np.zeros(len(statistics), np.int64)
    low, middle, high = np.percentile(statistics.astype(np.float64), [16, 50, 84], axis=0)
    scaled = np.clip((statistics - middle) / ((high - low) / 2 + 1e-6), -4, 4)
    found = KMeans(count, n_init=10, random_state=seed).fit_predict(scaled)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.asarray(np.argsort(order)[found], np.int64)


def with_domains(rows: Sequence[Row], images: Iterable[NDArray[np.uint8]], seed: int = 0) -> list[Row]:
    """Assigns a domain to every row without one: a group of similar images within the row's source.

    Args:
        rows: of a split; those with a domain keep it.
        images: uint8 ``[S, S, 3]`` of each row without a domain, in the rows' order.
        seed: see ``find_groups``.

    Returns:
        the rows in their order, all with a domain.
    """
    unknown = [i for i, row in enumerate(rows) if not row.domain]
    statistics = [border_statistics(image) for _, image in zip(unknown, images, strict=True)]
    out = list(rows)
    for source in sorted({rows[i].source for i in unknown}):
        members = [at for at, i in enumerate(unknown) if rows[i].source == source]
        groups = find_groups(np.stack([statistics[at] for at in members]), seed)
        for at, group in zip(members, groups, strict=True):
            name = f"{source}/{int(group) + 1}" if groups.max() else source
            out[unknown[at]] = replace(rows[unknown[at]], domain=name)
    return out


@dataclass(frozen=True, slots=True)
class DomainLabels:
    """The labels of one domain.

    Attributes:
        domain: its name.
        benign: number of images.
        malignant: number of images.
        biopsied: number of images whose label is known to come from a biopsy, or that are malignant.
    """

    domain: str
    benign: int
    malignant: int
    biopsied: int

    @property
    def gives_label_away(self) -> bool:
        """Whether nearly all images of the domain have one label, so that recognising it reveals the label."""
        total = self.benign + self.malignant
        return total >= FEWEST and max(self.benign, self.malignant) >= GIVEN_AWAY * total


def labels_by_domain(rows: Iterable[Row]) -> list[DomainLabels]:
    """Counts the labels of each domain, ordered by name; a row without a domain counts under its source."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        cells = counts.setdefault(row.domain or row.source, [0, 0, 0])
        cells[int(row.malignant)] += 1
        cells[2] += bool(row.malignant or row.biopsied)
    return [DomainLabels(name, *cells) for name, cells in sorted(counts.items())]
