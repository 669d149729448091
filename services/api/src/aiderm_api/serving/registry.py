"""Loads the serving models: a new version is loaded beside the old one, checked, warmed up, and only then swapped in.

All models but the default one are loaded lazily, by the first request that names them, because each takes about a hundred
megabytes and several seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aiderm_api import schemas
from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.serving.exceptions import ModelUnavailableError, UnknownModelError
from aiderm_api.serving.lazy_runtime import LazyRuntime
from aiderm_core.bundle.manifest import MANIFEST_FILE, DecisionRule, Manifest, ManifestError, Thorough
from aiderm_core.bundle.self_check import SelfCheckError, self_check
from aiderm_core.bundle.store import DIGEST_SUFFIX, SERVING_FILE, BundleError, ModelStore
from aiderm_core.imaging.errors import ImageError
from aiderm_core.precision import PrecisionChoice, chosen_variant
from aiderm_core.runtime import Runtime, RuntimeFailure, load_runtime

CARD_FILE = "MODEL_CARD.md"
REPORT_FILE = "report/report.json"
RETRY_SECONDS = 60.0  # a load may also have failed for lack of memory
log = structlog.get_logger(__name__)

Signature = tuple[str, int, int, int]


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed its checks; until a lazy runtime is loaded, only its files have been checked."""

    manifest: Manifest
    runtime: Runtime
    rule: DecisionRule
    card: str
    report: bytes | None
    tta: Thorough | None = None

    @property
    def pending(self) -> bool:
        """Whether the model will only be loaded by its first request."""
        return isinstance(self.runtime, LazyRuntime) and not self.runtime.loaded


@dataclass
class _Slot:
    model: LoadedModel | None = None
    load_error: str | None = None
    signature: Signature | None = None
    tried: float = field(default=float("-inf"))


class ModelRegistry:
    """Follows the SERVING files of a store; ``refresh`` is the only method that reads the disk.

    Args:
        store: the store of the bundles.
        default: the model that answers when a request names none.
        runtime: name of the engine.
        threads: cores to use; all of them when None.
        precision: precision of the serving variant; a bundle without it is refused. "auto": int8 if the bundle offers it and
            the processor is faster with it, else f32.
        early: is already loading the default model; None if nothing is.
    """

    def __init__(
        self,
        store: ModelStore,
        default: str,
        runtime: str,
        threads: int | None,
        precision: PrecisionChoice = "f32",
        early: EarlyRuntime | None = None,
    ) -> None:
        self.default = default
        self.runtime = runtime
        self.precision = precision
        self._store = store
        self._threads = threads
        self._early = early
        self._slots: dict[str, _Slot] = {default: _Slot()}
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Loads the models promoted since the last call; a failure leaves the serving models untouched."""
        with self._refreshing:
            promoted = self._promoted()
            for name in promoted:
                self._follow(name, self._slots.get(name) or _Slot())
            for name in set(self._slots) - set(promoted):
                self._record_load_error(name, self._slots[name], f"no version of {name} is promoted in the models folder")

    def get(self, name: str | None = None) -> LoadedModel:
        """The serving model of that name, or the default one.

        Raises:
            UnknownModelError: there is no model of that name.
            ModelUnavailableError: it is not being served at present.
        """
        name = self.default if name is None else name
        slot = self._slots.get(name)
        if slot is None:
            served = ", ".join(sorted(key for key, value in self._slots.items() if value.model)) or "none at present"
            raise UnknownModelError(f"Received: model {name[:80]!r}. Allowed: {served}.")
        if slot.model is None:
            raise _unavailable(name)
        return slot.model

    def serving(self) -> dict[str, LoadedModel]:
        """Every model that answers, by name."""
        return {name: slot.model for name, slot in sorted(self._slots.items()) if slot.model is not None}

    def health(self) -> schemas.Health:
        """The state of every model, and of the service as a whole."""
        models: dict[str, schemas.ModelHealth] = {}
        for name, slot in sorted(self._slots.items()):
            if slot.model is not None:
                manifest, runtime = slot.model.manifest, slot.model.runtime
                models[name] = schemas.ModelHealth(
                    state="standby" if slot.model.pending else "serving",
                    version=manifest.version,
                    runtime=runtime.name,
                    precision=runtime.precision,
                    reason=slot.load_error,
                )
            else:
                state = "loading" if slot.load_error is None else "failed"
                models[name] = schemas.ModelHealth(
                    state=state, version=None, runtime=self.runtime, precision=None, reason=slot.load_error
                )
        if models[self.default].state != "serving":
            return schemas.Health(status="unavailable", models=models)
        degraded = any(model.reason is not None or model.state == "failed" for model in models.values())
        return schemas.Health(status="degraded" if degraded else "ok", models=models)

    def load_errors(self) -> int:
        """How many models, or newer versions of a serving one, could not be loaded."""
        return sum(slot.load_error is not None for slot in self._slots.values())

    def _promoted(self) -> list[str]:
        try:
            return [name for name in self._store.names() if (self._store.root / name / SERVING_FILE).exists()]
        except OSError as error:
            log.error("store unreadable", cause=str(error))
            return []

    def _follow(self, name: str, slot: _Slot) -> None:
        try:
            signature = self._signature(name)
            recent = time.monotonic() - slot.tried < RETRY_SECONDS
            if signature == slot.signature and (slot.load_error is None or recent):
                return
            # A new slot becomes visible as "loading"; a serving one keeps serving.
            self._slots.setdefault(name, slot)
            slot.signature, slot.tried = signature, time.monotonic()
            version = signature[0]
            loaded = self._load(name, version, slot)
        except Exception as error:  # no bundle may bring the service down
            self._record_load_error(name, slot, _reason(name, error))
            return
        slot.model, slot.load_error = loaded, None
        _log_loaded(loaded)

    def _record_load_error(self, name: str, slot: _Slot, reason: str) -> None:
        reason = reason.replace(f"{self._store.root}/", "")  # clients read it, so it must not hold paths of this machine
        self._slots.setdefault(name, slot)
        if reason != slot.load_error:
            log.error("model not loaded", model=name, reason=reason, serving=slot.model.manifest.version if slot.model else None)
        slot.load_error = reason

    def _signature(self, name: str) -> Signature:
        folder = self._store.root / name
        changed = (folder / SERVING_FILE).stat().st_mtime_ns
        version = self._store.serving(name)
        digest = folder / f"{version}{DIGEST_SUFFIX}"
        promoted = digest.stat().st_mtime_ns if digest.exists() else 0
        return version, changed, (self._store.path(name, version) / MANIFEST_FILE).stat().st_mtime_ns, promoted

    def _load(self, name: str, version: str, slot: _Slot) -> LoadedModel:
        bundle = self._store.path(name, version)
        manifest = self._store.verified(name, version, promoted=True)
        variant = chosen_variant(manifest, self.precision, self.runtime)

        def load() -> Runtime:
            # Verified again: a lazily loaded model was first verified long before its first request.
            if self._store.verified(name, version, promoted=True) != manifest:
                raise BundleError(f"{name} {version} was replaced by another bundle of that version")
            runtime = self._early.take(manifest) if self._early is not None and name == self.default else None
            if runtime is None:
                path = bundle / variant.path
                runtime = load_runtime(self.runtime, path, threads=self._threads, precision=variant.precision)
            self_check(bundle, manifest, runtime, variant.golden)
            return runtime

        def load_on_first_use() -> Runtime:
            try:
                runtime = load()
            except Exception as error:
                if slot.model is loaded:
                    slot.model, slot.tried = None, time.monotonic()
                    self._record_load_error(name, slot, _reason(name, error))
                raise _unavailable(name) from error
            _log_loaded(loaded)
            return runtime

        # A loaded model is in use, so its next version is loaded before it is swapped in.
        lazy = name != self.default and (slot.model is None or slot.model.pending)
        card, report = bundle / CARD_FILE, bundle / REPORT_FILE
        loaded = LoadedModel(
            manifest=manifest,
            runtime=LazyRuntime(self.runtime, variant.precision, load_on_first_use) if lazy else load(),
            rule=variant.decision or manifest.decision,
            card=card.read_text("utf-8") if card.is_file() else "",
            report=report.read_bytes() if report.is_file() else None,
            # Measured in full precision, so it does not apply to a variant with its own decision rule.
            tta=manifest.thorough if variant.decision is None else None,
        )
        return loaded


def _unavailable(name: str) -> ModelUnavailableError:
    return ModelUnavailableError(f"The model {name!r} is not being served at present; /health says why.", retry_after=10)


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, (BundleError, ManifestError, RuntimeFailure, SelfCheckError, ImageError, OSError)):
        return str(error)
    log.error("unexpected failure while loading", model=name, exc_info=error)
    return f"{type(error).__name__} while loading; see the log"


def _log_loaded(model: LoadedModel) -> None:
    manifest, runtime = model.manifest, model.runtime
    event = "model will be loaded on first use" if model.pending else "model loaded"
    log.info(event, model=manifest.name, version=manifest.version, runtime=runtime.name, precision=runtime.precision)


class ModelInfo(Collector):
    """Prometheus info metric of the serving models: always 1, with the information in its labels."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus' client when metrics are collected."""
        labels = ["model", "version", "runtime", "precision", "architecture", "default"]
        info = GaugeMetricFamily("aiderm_model_info", "A serving model", labels=labels)
        for name, loaded in self._registry.serving().items():
            manifest, runtime = loaded.manifest, loaded.runtime
            default = str(name == self._registry.default).lower()
            info.add_metric([name, manifest.version, runtime.name, runtime.precision, manifest.architecture, default], 1)
        yield info
