"""The choice of the variant that serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiderm_core.bundle.manifest import Manifest, ManifestError
from aiderm_core.precision import chosen_variant

F32, INT8 = ({"runtime": "openvino", "precision": each} for each in ("f32", "int8"))
TENSORFLOW = {"runtime": "tensorflow", "precision": "f32"}


@pytest.mark.parametrize(
    ("forms", "units", "runtime", "expected"),
    [
        ([F32, INT8], True, "openvino", "int8"),
        ([F32, INT8], False, "openvino", "f32"),
        ([F32], True, "openvino", "f32"),
        ([F32, INT8, TENSORFLOW], True, "tensorflow", "f32"),
    ],
)
def test_auto_is_int8_where_bundle_and_processor_have_it(
    make_bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forms: list, units: bool, runtime: str, expected: str
) -> None:
    monkeypatch.setattr("aiderm_core.precision.has_integer_units", lambda: units)
    manifest = Manifest.load(make_bundle(tmp_path, forms=forms))
    variant = chosen_variant(manifest, "auto", runtime)
    assert (variant.runtime, variant.precision) == (runtime, expected)


def test_a_precision_that_is_asked_for_is_given_or_refused(make_bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiderm_core.precision.has_integer_units", lambda: True)
    both, one = (
        Manifest.load(make_bundle(tmp_path, name=name, forms=forms)) for name, forms in (("a", [F32, INT8]), ("b", [F32]))
    )
    assert chosen_variant(both, "f32").precision == "f32"
    with pytest.raises(ManifestError, match="has no variant openvino/int8; it offers: openvino/f32"):
        chosen_variant(one, "int8")
