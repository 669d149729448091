"""Maps the class names that data sets use to diagnoses, and supports the user's own classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiderm_core.bundle.manifest import Label
from aiderm_trainer.data.table import DIAGNOSES, MALIGNANT_DX

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "nv": ("nevus", "naevus", "nevi", "melanocytic nevus", "melanocytic naevus", "melanocytic nevi", "mole"),
    "bkl": (
        "benign keratosis",
        "benign keratosis like lesion",
        "benign keratosis like lesions",
        "pigmented benign keratosis",
        "seborrheic keratosis",
        "seborrhoeic keratosis",
        "sk",
        "solar lentigo",
        "lentigo",
        "lentigo nos",
        "lichen planus like keratosis",
        "lichenoid keratosis",
        "lplk",
    ),
    "mel": (
        "melanoma",
        "melanoma in situ",
        "melanoma invasive",
        "melanoma nos",
        "melanoma metastasis",
        "malignant melanocytic proliferations melanoma",
    ),
    "bcc": ("basal cell carcinoma",),
    "akiec": (
        "ak",
        "actinic keratosis",
        "actinic keratoses",
        "solar keratosis",
        "solar or actinic keratosis",
        "squamous cell carcinoma in situ",
        "intraepithelial carcinoma",
        "actinic keratosis intraepithelial carcinoma",
        "actinic keratoses and intraepithelial carcinoma",
        "bowen disease",
        "bowens disease",
    ),
    "vasc": (
        "vascular",
        "vascular lesion",
        "vascular lesions",
        "hemangioma",
        "haemangioma",
        "angioma",
        "angiokeratoma",
        "pyogenic granuloma",
        "benign soft tissue proliferations vascular",
    ),
    "df": ("dermatofibroma",),
    "scc": ("squamous cell carcinoma", "squamous cell carcinoma invasive", "squamous cell carcinoma nos"),
}
_BINARY: Final = {
    "benign": False, "0": False, "0.0": False, "false": False, "no": False,
    "malignant": True, "1": True, "1.0": True, "true": True, "yes": True,
}  # fmt: skip
# What data sets write when there is no diagnosis.
_UNDIAGNOSED: Final = frozenset(
    {"unknown", "unk", "indeterminate", "other", "none", "na", "n a", "nan", "atypical melanocytic proliferation"}
    | {"indeterminate melanocytic proliferations", "indeterminate epidermal proliferations"}
)
ARCHIVE_LEVELS: Final = ("diagnosis_5", "diagnosis_4", "diagnosis_3", "diagnosis_2", "diagnosis")  # the most exact first
_DX_BY_NAME: Final = {name: dx for dx, names in _ALIASES.items() for name in (dx, *names)}

LONGEST: Final = 32  # characters in a label's id at most
ALLOWED: Final = "benign, malignant, " + ", ".join(f"{dx} ({name})" for dx, name in DIAGNOSES.items())


@dataclass(frozen=True, slots=True)
class ClassName:
    """The meaning of a class name: the diagnosis (empty if it only says benign or malignant) and whether it is malignant."""

    dx: str
    malignant: bool


Classify = Callable[[str], ClassName | None]


def parse_class(name: str) -> ClassName | None:
    """Parses a class name, ignoring case, hyphens and underscores. Returns None for an unknown class."""
    key = _key(name)
    if key in _BINARY:
        return ClassName("", _BINARY[key])
    dx = _DX_BY_NAME.get(key)
    return None if dx is None else ClassName(dx, dx in MALIGNANT_DX)


def is_undiagnosed(name: str) -> bool:
    """Whether a class name means that there is no diagnosis, such as ISIC's ``unknown``, ``UNK`` and ``Indeterminate``."""
    return _key(name) in _UNDIAGNOSED


def parse_archive_diagnosis(cells: Mapping[str, str]) -> ClassName | str:
    """Reads the ISIC Archive's columns ``diagnosis_1`` to ``diagnosis_5``, ``diagnosis`` and ``benign_malignant``.

    Actinic keratoses and squamous cell carcinomas in situ count as malignant, as in HAM10000's akiec.

    Args:
        cells: the record's texts by column; columns may be missing.

    Returns:
        The class of the most exact diagnosis that is known here, else one that is only benign or malignant; or a text that says
        why there is no class.
    """
    side = parse_class(cells.get("diagnosis_1") or cells.get("benign_malignant") or "-")
    exact = next((name for level in ARCHIVE_LEVELS if (name := parse_class(cells.get(level) or "-")) and name.dx), None)
    if exact is None:
        return side if side is not None else "no diagnosis of benign or malignant"
    if side is not None and side.malignant != exact.malignant and exact.dx != "akiec":
        return "contradictory diagnosis"
    return exact


def own_class(name: str) -> str:
    """Turns an unknown class name into a label id: ``Atopic eczema`` -> ``atopic_eczema``.

    Raises:
        ValueError: no letter or digit is left, or too many are.
    """
    dx = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not 0 < len(dx) <= LONGEST:
        raise ValueError(f"a class name must have 1 to {LONGEST} letters or digits. Received: {name!r}")
    return dx


def with_positive(names: Sequence[str]) -> Classify:
    """Returns a classifier that accepts any class name: the classes ``names`` count as malignant, all others as benign.

    Raises:
        ValueError: there are no names, or one of them is invalid (see ``own_class``).
    """
    positive = {class_id(name) for name in names}
    if not positive:
        raise ValueError("at least one class must count as malignant. Received: none")
    return lambda name: ClassName(class_id(name), class_id(name) in positive)


def of_labels(labels: Sequence[Label]) -> Classify:
    """Returns a classifier of known diagnoses and of the labels of a model, by id or by name."""
    own = {key: label for label in labels for key in (_key(label.id), _key(label.name))}

    def classify(name: str) -> ClassName | None:
        label = own.get(_key(name))
        return parse_class(name) or (ClassName(label.id, label.malignant) if label else None)

    return classify


def class_id(name: str) -> str:
    """Returns the label id of any class name: the short name of a known diagnosis, or the name itself.

    Raises:
        ValueError: see ``own_class``.
    """
    known = parse_class(name)
    return known.dx if known and known.dx else own_class(name)


def _key(name: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9.]+", " ", name.lower().replace("'", "").replace("’", "")).split())
