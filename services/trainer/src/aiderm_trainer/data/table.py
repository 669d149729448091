"""One labelled image: the row that indexing, splitting, training and evaluation share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "calibration", "test")

# Diagnoses by the short names of HAM10000 (Tschandl et al. 2018, doi:10.1038/sdata.2018.161) and ISIC 2019 (scc).
DIAGNOSES: Final[dict[str, str]] = {
    "nv": "Melanocytic naevus",
    "bkl": "Benign keratosis-like lesion",
    "mel": "Melanoma",
    "bcc": "Basal cell carcinoma",
    "akiec": "Actinic keratosis / intraepithelial carcinoma",
    "vasc": "Vascular lesion",
    "df": "Dermatofibroma",
    "scc": "Squamous cell carcinoma",
}
MALIGNANT_DX: Final = frozenset({"mel", "bcc", "akiec", "scc"})

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DX = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")  # like a manifest's label ids


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a data folder and what is known about it.

    Attributes:
        sha256: checksum of the file's bytes, 64 lowercase hexadecimal digits.
        path: relative to the data folder, with forward slashes.
        source: the collection that the image comes from.
        group: shared by images of one lesion and by near-duplicates; a group is never on two sides of a split.
        split: one of ``SPLITS``, or empty before it is decided.
        dx: a key of ``DIAGNOSES``, one of the user's own classes, or empty if only ``malignant`` is known.
        malignant: whether the lesion is malignant; for the user's own classes, whether the class counts as positive.
        domain: camera, clinic or collection, known or found (see ``domains``); empty if it was not determined. It may give the
            label away, so it is never an input of a model.
        biopsied: whether the label comes from histopathology; None if unknown.

    Raises:
        ValueError: a field is malformed, or ``dx`` contradicts ``malignant``.
    """

    sha256: str
    path: str
    source: str
    group: str
    split: Split | Literal[""]
    dx: str
    malignant: bool
    domain: str = ""
    biopsied: bool | None = None

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 must be 64 lowercase hexadecimal digits. Received: {self.sha256!r}")
        parts = self.path.split("/")
        if not self.path or "\\" in self.path or parts[0] == "" or ".." in parts:
            raise ValueError(f"path must be relative, inside the data folder, with forward slashes. Received: {self.path!r}")
        if not self.source or not self.group:
            raise ValueError(f"source and group must not be empty. Received: {self.source=}, {self.group=}")
        if self.domain != self.domain.strip() or not self.domain.isprintable():
            raise ValueError(f"domain must be one line of text without spaces around it. Received: {self.domain!r}")
        if self.split and self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {self.split!r}")
        if self.dx and not _DX.fullmatch(self.dx):
            raise ValueError(f"dx must be empty or a short name of lower-case letters, digits, _ and -. Received: {self.dx!r}")
        if self.dx in DIAGNOSES and (self.dx in MALIGNANT_DX) != self.malignant:
            raise ValueError(
                f"malignant contradicts dx (malignant are {', '.join(sorted(MALIGNANT_DX))}). "
                f"Received: dx={self.dx!r}, malignant={int(self.malignant)}"
            )


def as_split(name: str) -> Split:
    """Returns ``name`` as a ``Split``.

    Raises:
        ValueError: it is not a split.
    """
    if name not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {name!r}")
    return name
