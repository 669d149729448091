"""A manifest that is incomplete or inconsistent is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aiderm_core.bundle.manifest import MANIFEST_FILE, Manifest, ManifestError, QualityLimit


def broken(manifest: Manifest, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    fields = json.loads(manifest.dump())
    change(fields)
    return fields


def test_dump_and_load_give_the_same_manifest(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text(manifest.dump(), "utf-8")
    assert Manifest.load(tmp_path) == manifest
    assert manifest.dump().endswith("}\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(schema_version=2), "schema_version"),
        (lambda m: m.update(name="../melanoma"), "name"),
        (lambda m: m.update(name="Melanoma"), "name"),
        (lambda m: m.update(version=".hidden"), "version"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("decision"), "decision"),
        (lambda m: m["input"].update(size=0), "input.size"),
        (lambda m: m["input"].update(geometry="stretch"), "input.geometry"),
        (lambda m: m["decision"].update(threshold=1.5), "decision.threshold"),
        (lambda m: m["decision"].update(uncertain=[0.6, 0.7]), "the uncertain band must hold the threshold"),
        (lambda m: m["decision"].update(uncertain=[0.7, 0.3]), "the uncertain band must hold the threshold"),
        (lambda m: m["calibration"].update(temperature=0), "calibration.temperature"),
        (lambda m: m["calibration"].update(prevalence=1.0), "calibration.prevalence"),
        (lambda m: m["reference"]["score"].update(counts=[1]), "1 counts need 2 edges"),
        (lambda m: m["labels"].append(m["labels"][0]), "label ids must differ"),
        (lambda m: [label.update(malignant=False) for label in m["labels"]], "at least one malignant"),
        (lambda m: [label.update(malignant=True) for label in m["labels"]], "and one other"),
        (lambda m: m["golden"]["cases"][0].update(probability=[0.5, 0.5]), "2 probabilities for 7 labels"),
        (lambda m: m["golden"].update(cases=[]), "golden.cases"),
        (lambda m: m["forms"].append({"runtime": "openvino", "precision": "int8", "auc_loss": 0.0031}), "may lose 0.003"),
        (lambda m: m["forms"].append({"runtime": "openvino", "precision": "bf16", "flipped": 0.006}), "and flip 0.5%"),
        (
            lambda m: m["forms"][0].update(golden={"cases": [m["golden"]["cases"][0] | {"probability": [1]}]}),
            "1 probabilities for 7 labels",
        ),
        (lambda m: m["golden"]["cases"][0].update(path="../x.png"), "golden.cases"),
        (lambda m: m.update(class_map={"scc": "nowhere"}), "nowhere"),
        (lambda m: m.update(class_prior={"mel": 0.5, "nv": 0.5}), "class_prior must name each label once"),
        (lambda m: m.update(class_prior=dict.fromkeys([label["id"] for label in m["labels"]], 0.5)), "class_prior must sum to 1"),
        (lambda m: m.update(class_prior=dict.fromkeys([label["id"] for label in m["labels"]], 0.0)), "class_prior"),
        (lambda m: m.update(orientations=4), "orientations"),
        (
            lambda m: m.update(orientations=8, thorough={"decision": m["decision"], "gain": {}}),
            "no test-time augmentation besides",
        ),
        (
            lambda m: m.update(orientations=1, upright=True, thorough={"decision": m["decision"], "gain": {}}),
            "no test-time augmentation besides",
        ),
        (lambda m: m.update(forms=[]), "forms"),
        (lambda m: m["forms"][0].update(runtime="onnx"), "forms.0.runtime"),
        (lambda m: m["forms"][0].update(path="../elsewhere"), "forms.0.path"),
        (lambda m: m["files"].update({"../../etc/passwd": "0" * 64}), "files"),
        (lambda m: m["files"].update({"/etc/passwd": "0" * 64}), "files"),
        (lambda m: m["files"].update({"a\nb": "0" * 64}), "files"),
        (lambda m: m["files"].update({"a": "0" * 63}), "files"),
        (lambda m: m["data"].update(fingerprint="unknown"), "data.fingerprint"),
        (lambda m: m.update(intended_use=""), "intended_use"),
    ],
)
def test_broken_manifest_is_refused_with_its_reason(
    manifest: Manifest, tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(broken(manifest, change)), "utf-8")
    with pytest.raises(ManifestError) as caught:
        Manifest.load(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"novelty": NaN}', "\x00\xff"])
def test_other_text_is_a_manifest_error(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestError, match=MANIFEST_FILE):
        Manifest.load(tmp_path)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read"):
        Manifest.load(tmp_path)


def test_numbers_must_be_finite(manifest: Manifest) -> None:
    fields = broken(manifest, lambda m: m["novelty"].update(limit=float("inf")))
    with pytest.raises(ValidationError, match="finite"):
        Manifest.model_validate(fields)


def test_manifest_cannot_be_changed_in_place(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = "2"


def test_forms(manifest: Manifest) -> None:
    assert manifest.variant("openvino", "f32").path == "."
    with pytest.raises(ManifestError, match="it offers: openvino/f32, tensorflow/f32"):
        manifest.variant("openvino", "int8")


@pytest.mark.parametrize(
    ("worse", "value", "beyond"),
    [
        ("low", 0.9, True),
        ("low", 1.0, False),
        ("low", 1.1, False),
        ("high", 1.1, True),
        ("high", 1.0, False),
        ("high", 0.9, False),
    ],
)
def test_limit_has_a_side(worse: Any, value: float, beyond: bool) -> None:
    assert QualityLimit(worse=worse).beyond(value, 1.0) is beyond
    assert QualityLimit(worse=worse).beyond(value, None) is False


def test_a_limit_without_doubt_means_warn_and_an_explicit_null_means_never() -> None:
    assert QualityLimit.model_validate({"worse": "low", "warn": 10.0, "reject": 2.0}).doubt == 10.0
    assert QualityLimit.model_validate({"worse": "low", "warn": 10.0, "doubt": None}).doubt is None
    assert QualityLimit.model_validate({"worse": "low", "warn": 10.0, "doubt": 4.0}).doubt == 4.0


@pytest.mark.parametrize(("worse", "warn", "doubt"), [("low", 10.0, 11.0), ("high", 0.2, 0.1), ("high", None, 0.1)])
def test_doubt_without_a_warning_is_refused(worse: str, warn: float | None, doubt: float) -> None:
    with pytest.raises(ValidationError, match="doubt must lie at warn or beyond it"):
        QualityLimit.model_validate({"worse": worse, "warn": warn, "doubt": doubt})
