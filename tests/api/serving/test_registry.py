"""Promotion without a restart, and everything that can be wrong with a bundle."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from aiderm_api.serving.exceptions import ModelUnavailableError, UnknownModelError
from aiderm_api.serving.registry import ModelRegistry
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal


def registry_of(root) -> ModelRegistry:
    registry = ModelRegistry(ModelStore(root), "melanoma", "openvino", 1)
    registry.refresh()
    return registry


def damage(bundle):
    graph = bundle / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")


def reseal(bundle, **changes):
    """Replaces a bundle by another one of the same version, as anyone with write access could, and promotes it."""
    manifest = Manifest.load(bundle)
    seal(bundle, Manifest.model_validate(manifest.model_dump() | changes))
    bundle.with_name(f"{bundle.name}.sha256").unlink()
    ModelStore(bundle.parent.parent).pin(bundle.parent.name, bundle.name)


def type_a_threshold(bundle, threshold):
    """Edits the manifest as text, without sealing the bundle again."""
    path = bundle / "manifest.json"
    text = path.read_text()
    assert '"threshold": 0.5' in text
    path.write_text(text.replace('"threshold": 0.5', f'"threshold": {threshold}').replace("0.6", "1.0"))
    assert Manifest.load(bundle).decision.threshold == threshold  # the manifest is still valid


def test_serves_what_is_promoted(tmp_path, make_bundle):
    make_bundle(tmp_path)
    make_bundle(tmp_path, version="2", promote=False)
    make_bundle(tmp_path, name="draft", promote=False)
    registry = registry_of(tmp_path)
    assert registry.get().manifest.version == "1"
    assert set(registry.serving()) == {"melanoma"}
    health = registry.health()
    assert health.status == "ok"
    assert health.models["melanoma"].precision == "f32"
    with pytest.raises(UnknownModelError, match="melanoma"):
        registry.get("draft")


@pytest.mark.parametrize("units", [True, False])
def test_auto_serves_int8_where_the_bundle_offers_it_and_the_processor_has_the_units(tmp_path, make_bundle, monkeypatch, units):
    monkeypatch.setattr("aiderm_core.precision.has_integer_units", lambda: units)
    make_bundle(tmp_path, forms=[{"runtime": "openvino", "precision": each} for each in ("f32", "int8")])
    make_bundle(tmp_path, name="other")
    registry = ModelRegistry(ModelStore(tmp_path), "melanoma", "openvino", 1, "auto")
    registry.refresh()
    models = registry.health().models
    assert (models["melanoma"].precision, models["other"].precision) == ("int8" if units else "f32", "f32")


def test_promotion_and_rollback_need_no_restart(tmp_path, make_bundle):
    make_bundle(tmp_path)
    registry = registry_of(tmp_path)
    make_bundle(tmp_path, version="2")
    registry.refresh()
    assert registry.get().manifest.version == "2"
    ModelStore(tmp_path).rollback("melanoma")
    registry.refresh()
    assert registry.get().manifest.version == "1"


def test_nothing_is_loaded_twice(tmp_path, make_bundle):
    make_bundle(tmp_path)
    registry = registry_of(tmp_path)
    before = registry.get()
    registry.refresh()
    assert registry.get() is before


@pytest.mark.parametrize("fault", ["checksum", "golden", "labels", "graph", "manifest", "missing", "unlisted"])
def test_a_broken_promotion_leaves_the_old_version_serving(tmp_path, make_bundle, fault):
    make_bundle(tmp_path)
    registry = registry_of(tmp_path)
    bundle = make_bundle(tmp_path, version="2")
    if fault == "checksum":
        damage(bundle)
    elif fault == "golden":
        cv2.imwrite(str(bundle / "golden/0.png"), np.full((112, 112, 3), 255, np.uint8))
        reseal(bundle)
    elif fault == "labels":
        manifest = Manifest.load(bundle).model_dump()
        cases = [case | {"probability": case["probability"][:-1]} for case in manifest["golden"]["cases"]]
        reseal(bundle, labels=manifest["labels"][:-1], golden=manifest["golden"] | {"cases": cases})
    elif fault == "graph":
        (bundle / "saved_model.pb").write_bytes(b"not a graph")
        reseal(bundle)
    elif fault == "manifest":
        (bundle / "manifest.json").write_text("{}")
    elif fault == "missing":
        shutil.rmtree(bundle)
    elif fault == "unlisted":
        (bundle / "extra.bin").write_bytes(b"x")
    registry.refresh()
    assert registry.get().manifest.version == "1"
    health = registry.health()
    assert health.status == "degraded"
    assert health.models["melanoma"].state == "serving"
    assert health.models["melanoma"].reason
    assert str(tmp_path) not in health.models["melanoma"].reason
    ModelStore(tmp_path).promote("melanoma", "1")
    registry.refresh()
    assert registry.health().status == "ok"


def test_a_failing_default_model_is_unavailable_and_recovers(tmp_path, make_bundle):
    bundle = make_bundle(tmp_path)
    whole = (bundle / "saved_model.pb").read_bytes()
    damage(bundle)
    registry = registry_of(tmp_path)
    assert registry.health().status == "unavailable"
    assert registry.health().models["melanoma"].state == "failed"
    with pytest.raises(ModelUnavailableError) as caught:
        registry.get()
    assert caught.value.retry_after
    (bundle / "saved_model.pb").write_bytes(whole)
    make_bundle(tmp_path, version="2")
    registry.refresh()
    assert registry.get().manifest.version == "2"


def test_another_failing_model_only_degrades(tmp_path, make_bundle):
    make_bundle(tmp_path)
    damage(make_bundle(tmp_path, name="binary", classes=2))
    registry = registry_of(tmp_path)
    assert registry.health().status == "degraded"
    assert registry.get().manifest.name == "melanoma"
    with pytest.raises(ModelUnavailableError):
        registry.get("binary")


def test_an_empty_or_missing_store_is_unavailable(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        health = registry_of(root).health()
        assert health.status == "unavailable"
        assert "promoted" in health.models["melanoma"].reason


def test_a_model_goes_on_serving_when_its_folder_disappears(tmp_path, make_bundle):
    make_bundle(tmp_path)
    registry = registry_of(tmp_path)
    shutil.rmtree(tmp_path / "melanoma")
    registry.refresh()
    assert registry.get().manifest.version == "1"
    assert registry.health().status == "degraded"


def test_a_version_under_another_name_is_refused(tmp_path, make_bundle):
    bundle = make_bundle(tmp_path)
    other = tmp_path / "other" / "1"
    shutil.copytree(bundle, other)
    for file in ("SERVING", "1.sha256"):
        shutil.copy(tmp_path / "melanoma" / file, tmp_path / "other" / file)
    registry = registry_of(tmp_path)
    assert "must be of other 1. Received: melanoma 1" in registry.health().models["other"].reason


def test_a_manifest_that_was_edited_is_refused(tmp_path, make_bundle):
    bundle = make_bundle(tmp_path)
    registry = registry_of(tmp_path)
    type_a_threshold(bundle, 0.99)
    registry.refresh()
    assert registry.get().rule.threshold == 0.5  # the model that was loaded before
    assert "manifest.json is not the one that was promoted" in registry.health().models["melanoma"].reason
    assert registry_of(tmp_path).health().status == "unavailable"


def test_a_version_whose_digest_is_gone_is_refused_until_it_is_promoted(tmp_path, make_bundle):
    make_bundle(tmp_path)
    (tmp_path / "melanoma" / "1.sha256").unlink()
    registry = registry_of(tmp_path)
    assert registry.health().status == "unavailable"
    assert "promote it again: aiderm-train promote melanoma 1" in registry.health().models["melanoma"].reason
    ModelStore(tmp_path).promote("melanoma", "1")
    registry.refresh()
    assert registry.health().status == "ok"


@pytest.mark.parametrize("change", ["threshold", "weights"])
def test_a_sleeping_model_is_verified_again_when_it_wakes(serve, tmp_path, make_bundle, forms, change):
    make_bundle(tmp_path)
    bundle = make_bundle(tmp_path, name="binary", classes=2)
    service = serve(models_dir=tmp_path, poll_seconds=3600)
    if change == "threshold":
        type_a_threshold(bundle, 0.99)
    else:
        damage(bundle)
    answer = service.client.post("/predict?model=binary", files={"file": forms.png_of(200, 255)})
    assert (answer.status_code, answer.json()["code"]) == (503, "no_model")
    said = "is not the one that was promoted" if change == "threshold" else "is not what the manifest lists"
    assert said in service.client.get("/health").json()["models"]["binary"]["reason"]


def test_the_rule_of_the_form_that_runs_is_used(tmp_path, make_bundle):
    rule = {"threshold": 0.9, "target_sensitivity": 0.95, "uncertain": [0.88, 0.92]}
    make_bundle(tmp_path, forms=[{"runtime": "openvino", "precision": "f32", "decision": rule}])
    assert registry_of(tmp_path).get().rule.threshold == 0.9


def test_over_http_while_requests_go_on(tmp_path, make_bundle, serve, forms):
    make_bundle(tmp_path)
    running = serve(models_dir=tmp_path)
    post = running.client.post

    def version() -> str:
        answer = post("/predict", files={"file": forms.png_of(230)})
        assert answer.status_code == 200, answer.text
        return answer.json()["model"]["version"]

    assert version() == "1"
    make_bundle(tmp_path, version="2")
    forms.wait_until(lambda: version() == "2")
    broken = make_bundle(tmp_path, version="3", promote=False)
    ModelStore(tmp_path).pin("melanoma", "3")
    damage(broken)
    # Written directly, because promote would refuse it: a file may also be damaged after its promotion.
    (tmp_path / "melanoma" / "SERVING").write_text("3\n")
    forms.wait_until(lambda: running.client.get("/health").json()["status"] == "degraded")
    assert version() == "2"
    state = running.client.get("/health").json()["models"]["melanoma"]
    assert (state["state"], state["version"]) == ("serving", "2")
    assert "saved_model.pb" in state["reason"]
    assert running.client.get("/health/ready").status_code == 200


def test_routes(client):
    listed = client.get("/models").json()
    assert listed["default"] == "melanoma"
    by_name = {item["name"]: item for item in listed["models"]}
    assert set(by_name) == {"melanoma", "binary"}
    assert by_name["melanoma"]["default"] is True
    assert by_name["binary"]["default"] is False
    assert set(by_name["melanoma"]) == {
        "name",
        "version",
        "default",
        "architecture",
        "labels",
        "decision",
        "input",
        "novelty",
        "calibration",
        "thorough",
    }
    one = client.get("/models/melanoma").json()
    assert one["card"].startswith("# melanoma 1")
    assert one["metrics"]["test"]["auc"] == {"value": 0.9, "ci95": [0.88, 0.92]}
    assert {"data", "intended_use", "limitations"} <= set(one)
    assert client.get("/models/melanoma/report").json() == {"roc": {"test": [[0, 0], [1, 1]]}}
    missing = client.get("/models/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_model")


def test_a_bundle_without_report(tmp_path, make_bundle, serve):
    bundle = make_bundle(tmp_path)
    shutil.rmtree(bundle / "report")
    reseal(bundle)
    answer = serve(models_dir=tmp_path).client.get("/models/melanoma/report")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_no_model_over_http(tmp_path, serve, forms):
    client = serve(models_dir=tmp_path).client
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json()["status"] == "unavailable"
    assert client.get("/health/live").json() == {"status": "alive"}
    for answer in (client.get("/health/ready"), client.post("/predict", files={"file": forms.png_of(9)})):
        assert (answer.status_code, answer.json()["code"]) == (503, "no_model")
        assert int(answer.headers["retry-after"]) >= 1
    assert json.loads(client.get("/models").content)["models"] == []


def with_form(bundle, **changes):
    """Adds an int8 variant, which is the same graph in OpenVINO's own format."""
    import openvino as ov

    manifest = Manifest.load(bundle)
    (bundle / "int8").mkdir()
    ov.save_model(ov.Core().read_model(str(bundle)), str(bundle / "int8" / "model.xml"), compress_to_fp16=False)
    form = {"runtime": "openvino", "precision": "int8", "path": "int8/model.xml", **changes}
    reseal(bundle, forms=[*(form.model_dump() for form in manifest.forms), form])


def reduced(root) -> ModelRegistry:
    registry = ModelRegistry(ModelStore(root), "melanoma", "openvino", 1, "int8")
    registry.refresh()
    return registry


def test_a_precision_that_the_bundle_lacks_is_refused(tmp_path, make_bundle):
    make_bundle(tmp_path)
    health = reduced(tmp_path).health()
    assert health.status == "unavailable"
    assert "no variant openvino/int8; it offers: openvino/f32" in health.models["melanoma"].reason


def test_a_reduced_form_serves_with_a_rule_of_its_own(tmp_path, make_bundle):
    rule = {"threshold": 0.52, "target_sensitivity": 0.95, "uncertain": (0.41, 0.6)}
    with_form(make_bundle(tmp_path), decision=rule)
    registry = reduced(tmp_path)
    assert registry.health().models["melanoma"].precision == "int8"
    assert registry.get().rule.threshold == 0.52
    assert registry.get().manifest.decision.threshold == 0.5


def test_a_reduced_form_must_answer_its_own_golden_inputs(tmp_path, make_bundle):
    bundle = make_bundle(tmp_path)
    golden = Manifest.load(bundle).golden.model_dump()
    golden["cases"][0]["malignancy"] = 0.999
    with_form(bundle, golden=golden)
    assert "differs from the manifest" in reduced(tmp_path).health().models["melanoma"].reason
    assert registry_of(tmp_path).health().status == "ok"  # f32 has its own golden inputs


def test_another_model_sleeps_until_it_is_asked(serve, tmp_path, make_bundle, forms):
    make_bundle(tmp_path)
    make_bundle(tmp_path, name="binary", classes=2)
    service = serve(models_dir=tmp_path)
    assert {name: model["state"] for name, model in service.client.get("/health").json()["models"].items()} == {
        "melanoma": "serving",
        "binary": "standby",
    }
    assert service.client.get("/models/binary").json()["version"] == "1"
    answer = service.client.post("/predict?model=binary", files={"file": forms.png_of(200, 255)})
    assert answer.json()["model"] == {"name": "binary", "version": "1"}
    assert service.client.get("/health").json()["models"]["binary"]["state"] == "serving"


def test_a_sleeping_model_that_cannot_be_loaded_says_why(serve, tmp_path, make_bundle, forms):
    make_bundle(tmp_path)
    bundle = make_bundle(tmp_path, name="binary", classes=2)
    (bundle / "saved_model.pb").write_bytes(b"not a graph")
    reseal(bundle)
    service = serve(models_dir=tmp_path)
    for _ in range(2):
        answer = service.client.post("/predict?model=binary", files={"file": forms.png_of(200, 255)})
        assert (answer.status_code, answer.json()["code"]) == (503, "no_model")
    health = service.client.get("/health").json()
    assert (health["status"], health["models"]["binary"]["state"]) == ("degraded", "failed")
    assert "OpenVINO cannot load" in health["models"]["binary"]["reason"]
    assert service.client.post("/predict", files={"file": forms.png_of(200, 255)}).status_code == 200


def test_a_model_that_is_awake_is_replaced_by_one_that_is_ready(tmp_path, make_bundle):
    make_bundle(tmp_path)
    make_bundle(tmp_path, name="binary", classes=2)
    registry = registry_of(tmp_path)
    loaded = registry.get("binary")
    assert loaded.pending
    loaded.runtime.run(np.zeros((1, *[loaded.manifest.input.size] * 2, 3), np.uint8))
    damage(make_bundle(tmp_path, name="binary", version="2", classes=2))
    registry.refresh()
    assert registry.get("binary") is loaded
    make_bundle(tmp_path, name="binary", version="3", classes=2)
    registry.refresh()
    assert (registry.get("binary").manifest.version, registry.get("binary").pending) == ("3", False)
