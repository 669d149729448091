"""The default model's graph, loaded before the registry asks for it."""

from __future__ import annotations

import numpy as np
import pytest

from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.serving.registry import ModelRegistry
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore


def early_of(root) -> EarlyRuntime:
    return EarlyRuntime(ModelStore(root), "melanoma", "openvino", 1)


def registry_of(root, early) -> ModelRegistry:
    registry = ModelRegistry(ModelStore(root), "melanoma", "openvino", 1, early=early)
    registry.refresh()
    return registry


def test_the_first_to_ask_gets_the_runtime(tmp_path, make_bundle):
    manifest = Manifest.load(make_bundle(tmp_path))
    early = early_of(tmp_path)
    runtime = early.take(manifest)
    assert runtime is not None
    size = manifest.input.size
    assert runtime.run(np.zeros((1, size, size, 3), np.uint8)).probability.shape == (1, len(manifest.labels))
    assert early.take(manifest) is None


def test_another_bundle_does_not_get_it(tmp_path, make_bundle):
    make_bundle(tmp_path)
    early = early_of(tmp_path)
    assert early.take(Manifest.load(make_bundle(tmp_path, version="2"))) is None


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_what_cannot_be_loaded_is_left_to_the_registry(tmp_path, make_bundle, fault):
    bundle = make_bundle(tmp_path, promote=fault == "damaged")
    if fault == "damaged":
        (bundle / "saved_model.pb").write_bytes(b"")
    early = early_of(tmp_path)
    registry = registry_of(tmp_path, early)
    assert registry.health().status == "unavailable"
    said = "promoted" if fault == "missing" else "is not what the manifest lists"
    assert said in registry.health().models["melanoma"].reason
    assert early.take(Manifest.load(bundle)) is None


def test_the_registry_takes_it_and_loads_later_versions_itself(tmp_path, make_bundle, monkeypatch):
    make_bundle(tmp_path)
    make_bundle(tmp_path, name="another")  # comes first in the registry, and waits for its first request
    early = early_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("aiderm_api.serving.registry.load_runtime", lambda *_, **__: pytest.fail("loaded twice"))
        registry = registry_of(tmp_path, early)
    assert registry.health().status == "ok"
    assert registry.get().manifest.version == "1"
    make_bundle(tmp_path, version="2")
    registry.refresh()
    assert registry.get().manifest.version == "2"
    assert registry.health().status == "ok"
