"""The names under which data sets file the same diagnoses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from aiderm_trainer.data.rows import DIAGNOSES, MALIGNANT_DX

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
        "lichen planus like keratosis",
        "lplk",
    ),
    "mel": ("melanoma",),
    "bcc": ("basal cell carcinoma",),
    "akiec": (
        "ak",
        "actinic keratosis",
        "actinic keratoses",
        "solar keratosis",
        "intraepithelial carcinoma",
        "actinic keratosis intraepithelial carcinoma",
        "actinic keratoses and intraepithelial carcinoma",
        "bowen disease",
        "bowens disease",
    ),
    "vasc": ("vascular", "vascular lesion", "vascular lesions", "hemangioma", "haemangioma", "angioma"),
    "df": ("dermatofibroma",),
    "scc": ("squamous cell carcinoma",),
}
_BINARY: Final = {
    "benign": False, "0": False, "0.0": False, "false": False, "no": False,
    "malignant": True, "1": True, "1.0": True, "true": True, "yes": True,
}  # fmt: skip
_DX_BY_NAME: Final = {name: dx for dx, names in _ALIASES.items() for name in (dx, *names)}

ALLOWED: Final = "benign, malignant, " + ", ".join(f"{dx} ({name})" for dx, name in DIAGNOSES.items())


@dataclass(frozen=True, slots=True)
class ClassName:
    """What a class name says: the diagnosis (empty when it only says benign or malignant) and whether it is malignant."""

    dx: str
    malignant: bool


def parse_class(name: str) -> ClassName | None:
    """Reads a class name, whatever its case, hyphens or underscores. None: the name is of no known class."""
    key = " ".join(re.sub(r"[^a-z0-9.]+", " ", name.lower().replace("'", "").replace("’", "")).split())
    if key in _BINARY:
        return ClassName("", _BINARY[key])
    dx = _DX_BY_NAME.get(key)
    return None if dx is None else ClassName(dx, dx in MALIGNANT_DX)
