"""The models that serve: loaded beside the old version, checked, warmed up, and only then swapped in.

All but the default one sleep until a request names them: each takes about a hundred megabytes, and seconds to get ready.
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
from aiderm_api.errors.problems import NoModel, UnknownModel
from aiderm_api.serving.lazy_runtime import LazyRuntime
from aiderm_core.bundle.manifest import MANIFEST_FILE, DecisionRule, Manifest, ManifestError, Thorough
from aiderm_core.bundle.self_check import SelfCheckError, self_check
from aiderm_core.bundle.store import DIGEST_SUFFIX, SERVING_FILE, BundleError, ModelStore
from aiderm_core.imaging.errors import ImageError
from aiderm_core.runtime import Precision, Runtime, RuntimeFailure, load_runtime

CARD_FILE = "MODEL_CARD.md"
REPORT_FILE = "report/report.json"
RETRY_SECONDS = 60.0  # a load may also have failed for want of memory
log = structlog.get_logger(__name__)

Signature = tuple[str, int, int, int]


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed its checks; while its runtime sleeps, only those of its files."""

    manifest: Manifest
    runtime: Runtime
    rule: DecisionRule
    card: str
    report: bytes | None
    thorough: Thorough | None = None

    @property
    def asleep(self) -> bool:
        """Whether the first request for it will load it."""
        return isinstance(self.runtime, LazyRuntime) and not self.runtime.awake


@dataclass
class _Slot:
    model: LoadedModel | None = None
    reason: str | None = None
    signature: Signature | None = None
    tried: float = field(default=float("-inf"))


class ModelRegistry:
    """Follows the SERVING files of a store; ``refresh`` is the only method that reads the disk.

    Args:
        store: where the bundles are.
        default: the model that answers when a request names none.
        runtime: name of the engine.
        threads: cores to use; all of them when None.
        precision: of the form that serves; a bundle without it is refused.
    """

    def __init__(self, store: ModelStore, default: str, runtime: str, threads: int | None, precision: Precision = "f32") -> None:
        self.default = default
        self.runtime = runtime
        self.precision = precision
        self._store = store
        self._threads = threads
        self._slots: dict[str, _Slot] = {default: _Slot()}
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Loads what was promoted since the last call; whatever fails leaves what serves untouched."""
        with self._refreshing:
            promoted = self._promoted()
            for name in promoted:
                self._follow(name, self._slots.get(name) or _Slot())
            for name in set(self._slots) - set(promoted):
                self._keep(name, self._slots[name], f"no version of {name} is promoted in the models' folder")

    def get(self, name: str | None = None) -> LoadedModel:
        """The serving model of that name, or the default one.

        Raises:
            UnknownModel: there is none of that name.
            NoModel: it does not serve at present.
        """
        name = self.default if name is None else name
        slot = self._slots.get(name)
        if slot is None:
            served = ", ".join(sorted(key for key, value in self._slots.items() if value.model)) or "none at present"
            raise UnknownModel(f"Received: model {name[:80]!r}. Allowed: {served}.")
        if slot.model is None:
            raise _no_model(name)
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
                    state="standby" if slot.model.asleep else "serving",
                    version=manifest.version,
                    runtime=runtime.name,
                    precision=runtime.precision,
                    reason=slot.reason,
                )
            else:
                state = "loading" if slot.reason is None else "failed"
                models[name] = schemas.ModelHealth(
                    state=state, version=None, runtime=self.runtime, precision=None, reason=slot.reason
                )
        if models[self.default].state != "serving":
            return schemas.Health(status="unavailable", models=models)
        troubled = any(model.reason is not None or model.state == "failed" for model in models.values())
        return schemas.Health(status="degraded" if troubled else "ok", models=models)

    def troubled(self) -> int:
        """How many models, or newer versions of one that serves, could not be loaded."""
        return sum(slot.reason is not None for slot in self._slots.values())

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
            if signature == slot.signature and (slot.reason is None or recent):
                return
            # A new slot becomes visible as "loading"; one that serves goes on serving.
            self._slots.setdefault(name, slot)
            slot.signature, slot.tried = signature, time.monotonic()
            version = signature[0]
            loaded = self._load(name, version, slot)
        except Exception as error:  # the service must outlive any bundle
            self._keep(name, slot, _reason(name, error))
            return
        slot.model, slot.reason = loaded, None
        _log_serves(loaded)

    def _keep(self, name: str, slot: _Slot, reason: str) -> None:
        reason = reason.replace(f"{self._store.root}/", "")  # clients read it: no paths of this machine
        self._slots.setdefault(name, slot)
        if reason != slot.reason:
            log.error("model not loaded", model=name, reason=reason, serving=slot.model.manifest.version if slot.model else None)
        slot.reason = reason

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
        form = manifest.form(self.runtime, self.precision)

        def load() -> Runtime:
            # Again: a model that sleeps was verified long before its first request.
            if self._store.verified(name, version, promoted=True) != manifest:
                raise BundleError(f"{name} {version} was replaced by another bundle of that version")
            runtime = load_runtime(self.runtime, bundle / form.path, threads=self._threads, precision=self.precision)
            self_check(bundle, manifest, runtime, form.golden)
            return runtime

        def wake() -> Runtime:
            try:
                runtime = load()
            except Exception as error:
                if slot.model is loaded:
                    slot.model, slot.tried = None, time.monotonic()
                    self._keep(name, slot, _reason(name, error))
                raise _no_model(name) from error
            _log_serves(loaded)
            return runtime

        # One that is awake is in use: its next version is ready before it replaces it.
        sleeps = name != self.default and (slot.model is None or slot.model.asleep)
        card, report = bundle / CARD_FILE, bundle / REPORT_FILE
        loaded = LoadedModel(
            manifest=manifest,
            runtime=LazyRuntime(self.runtime, self.precision, wake) if sleeps else load(),
            rule=form.decision or manifest.decision,
            card=card.read_text("utf-8") if card.is_file() else "",
            report=report.read_bytes() if report.is_file() else None,
            # It was measured on the graph in full precision: a form with a decision of its own has no part in that.
            thorough=manifest.thorough if form.decision is None else None,
        )
        return loaded


def _no_model(name: str) -> NoModel:
    return NoModel(f"The model {name!r} does not serve at present; /health says why.", retry_after=10)


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, (BundleError, ManifestError, RuntimeFailure, SelfCheckError, ImageError, OSError)):
        return str(error)
    log.error("unexpected failure while loading", model=name, exc_info=error)
    return f"{type(error).__name__} while loading; see the log"


def _log_serves(model: LoadedModel) -> None:
    manifest, runtime = model.manifest, model.runtime
    event = "model stands by" if model.asleep else "model serves"
    log.info(event, model=manifest.name, version=manifest.version, runtime=runtime.name, precision=runtime.precision)


class ModelInfo(Collector):
    """Prometheus' gauge of what serves: 1, with the names of everything as labels."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Prometheus' side."""
        labels = ["model", "version", "runtime", "precision", "architecture", "default"]
        info = GaugeMetricFamily("aiderm_model_info", "A model that serves", labels=labels)
        for name, loaded in self._registry.serving().items():
            manifest, runtime = loaded.manifest, loaded.runtime
            default = str(name == self._registry.default).lower()
            info.add_metric([name, manifest.version, runtime.name, runtime.precision, manifest.architecture, default], 1)
        yield info
