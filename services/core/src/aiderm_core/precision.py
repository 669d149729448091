"""Chooses which variant of a bundle to run. The API, the library and the scorer all use this, so their answers agree."""

from __future__ import annotations

from typing import Literal

from aiderm_core.bundle.manifest import Manifest, Variant
from aiderm_core.runtime import Precision
from aiderm_core.runtime.processor import has_integer_units

PrecisionChoice = Precision | Literal["auto"]


def chosen_variant(manifest: Manifest, precision: str = "auto", runtime: str = "openvino") -> Variant:
    """Returns the variant of a bundle to run on this machine.

    Args:
        manifest: manifest of the bundle.
        precision: of the variant; ``auto`` means int8 if the bundle offers it and the processor has VNNI or AMX, else f32.
        runtime: ``openvino`` or ``tensorflow``.

    Raises:
        ManifestError: the bundle has no such variant.
    """
    if precision == "auto":
        offered = any((form.runtime, form.precision) == (runtime, "int8") for form in manifest.forms)
        precision = "int8" if offered and has_integer_units() else "f32"
    return manifest.variant(runtime, precision)
