"""Variants of reduced precision are evaluated only on validation rows, and not written if they lose too much."""

from __future__ import annotations

import hashlib
import sys

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from aiderm_core.bundle.manifest import MAX_FLIPPED
from aiderm_core.bundle.store import ModelStore, verify
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.metrics import roc_auc
from aiderm_trainer.export import quantisation
from aiderm_trainer.export.precision import INT8_PATH, reduce_precision
from aiderm_trainer.training.objective import within_domain_auc


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    """Plain images whose red sets the steerable graph's malignancy; test rows have no files at all."""
    root = tmp_path_factory.mktemp("lesions")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(160):
        side = ("calibration", "validation", "test")[number % 3]
        malignant = bool(number % 2)
        red = int(np.clip(rng.normal(150 if malignant else 90, 40), 0, 255))
        path = f"{number}.png"
        if side == "test":
            rows.append(Row(f"{number:064x}", path, "a", f"g{number}", side, "", malignant))
            continue
        if not malignant and number % 7 == 0:
            red = 0  # lesions that look harmless were not biopsied
        pixels = np.full((100, 100, 3), (red, 100, 10), np.uint8)
        pixels[0, 0] = (0, number, 0)  # no two files are the same
        cv2.imwrite(str(root / path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        sha256 = hashlib.sha256((root / path).read_bytes()).hexdigest()
        rows.append(Row(sha256, path, "a", f"g{number}", side, "", malignant, f"camera {number % 4 // 2}", red > 0))
    return rows, root


def shifted(by: float):
    """Stands in for a quantiser: the same graph, with a malignancy that is off by a known function of itself."""

    def make(graph, target, images, cost):
        model = ov.Core().read_model(str(graph))
        for result in model.get_results():
            source = result.input_value(0)
            if "malignancy" in source.get_names():
                wave = ops.sin(ops.multiply(source, np.float32(40)))
                moved = ops.add(source, ops.multiply(wave, np.float32(by)))
                limited = ops.clamp(moved, 0.0, 1.0)
                source.set_names({"malignancy_in_full"})
                model.remove_result(result)
                limited.output(0).set_names({"malignancy"})
                model.add_results([ops.result(limited)])
        target.parent.mkdir(parents=True)
        ov.save_model(model, str(target), compress_to_fp16=False)
        make.seen = {row.split for row in images.rows}
        make.cost_of_nonsense = cost(np.linspace(0, 1, len(images)).astype(np.float32))

    return make


def test_a_harmless_form_is_offered_with_a_rule_of_its_own(tmp_path, make_bundle, lesions):
    bundle = make_bundle(tmp_path)
    make = shifted(0.0)
    written, [trial] = reduce_precision(bundle, "2", ModelStore(tmp_path), *lesions, ["int8"], progress=False, make_int8=make)
    assert written == tmp_path / "melanoma" / "2"
    manifest = verify(written)
    variant = manifest.variant("openvino", "int8")
    assert variant == trial.variant
    assert (variant.path, variant.auc_loss) == (INT8_PATH, 0.0)
    assert variant.flipped <= MAX_FLIPPED
    assert variant.decision is not None
    assert len(variant.golden.cases) == len(manifest.golden.cases)
    assert make.seen == {"calibration"}
    rows, root = lesions
    validation = [row for row in rows if row.split == "validation"]
    red = np.array([cv2.imread(str(root / row.path))[50, 50, 2] for row in validation], np.float64)
    malignant = [row.malignant for row in validation]
    assert variant.evaluation["auc inside a domain, f32"] == pytest.approx(within_domain_auc(red, validation))
    assert variant.evaluation["auc inside a domain, f32"] < roc_auc(np.array(malignant), red).item()
    assert make.cost_of_nonsense > 1  # outputs unrelated to the images
    assert load_runtime("openvino", written / variant.path, precision="int8").precision == "int8"


def test_a_harmful_form_is_not_written(tmp_path, make_bundle, lesions):
    bundle = make_bundle(tmp_path)
    written, [trial] = reduce_precision(
        bundle, "2", ModelStore(tmp_path), *lesions, ["int8"], progress=False, make_int8=shifted(0.2)
    )
    assert written is None
    assert trial.variant is None
    assert "of decisions flipped" in trial.reason
    assert ModelStore(tmp_path).versions("melanoma") == ["1"]


def test_what_cannot_be_made_says_why(tmp_path, make_bundle, lesions, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    bundle = make_bundle(tmp_path)
    written, [trial] = reduce_precision(bundle, "2", ModelStore(tmp_path), *lesions, ["int8"], progress=False)
    assert written is None
    assert trial.reason == quantisation.INSTALL


def test_both_sides_need_both_labels(tmp_path, make_bundle, lesions):
    rows, root = lesions
    with pytest.raises(ValueError, match="validation rows"):
        reduce_precision(
            make_bundle(tmp_path), "2", ModelStore(tmp_path), [r for r in rows if r.split != "validation"], root, progress=False
        )
