"""Starts the app's services, reloads models and keys while it runs, and stops everything in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import cv2
import structlog
from fastapi import FastAPI

from aiderm_api.auth.keys import KeyRing
from aiderm_api.memory_budget import MemoryBudget
from aiderm_api.multipart import UPLOAD_WINDOW_SECONDS, UploadLimits
from aiderm_api.process_limits import release_free_memory
from aiderm_api.services import Services
from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.serving.queue import InferencePool
from aiderm_api.serving.registry import ModelInfo, ModelRegistry
from aiderm_api.serving.service import AssessmentService
from aiderm_api.settings import Settings
from aiderm_api.telemetry.audit import AuditTrail
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.prometheus_metrics import Metrics
from aiderm_core.bundle.store import ModelStore
from aiderm_core.combine import MAX_IMAGES
from aiderm_core.imaging.budget import DividedBudget
from aiderm_core.imaging.limits import Limits
from aiderm_core.quality import measurements

AUDIT_CLOSE_SECONDS = 5.0
GARBAGE_BYTES = 20_000_000
"""Bytes of uploads after which garbage is collected under load."""
GARBAGE_BYTES_AT_REST = 20_000_000
RELEASE_SECONDS = 0.5
"""Time between two checks of whether memory can be released."""
log = structlog.get_logger(__name__)


def lifespan_of(
    settings: Settings, metrics: Metrics, key_ring: KeyRing | None, audit: AuditTrail | None, early: EarlyRuntime | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan of an app: its models are loaded before the port opens, and its queue is emptied before it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # the workers already run in parallel
        services = app.state.services = _build(settings, metrics, audit, early)
        _register_gauges(services, key_ring)
        if audit is not None:
            audit.start()
        await asyncio.gather(asyncio.to_thread(services.registry.refresh), asyncio.to_thread(measurements.warm_up))
        _settle()
        # Separate tasks: a new model may load slowly, but a revoked key must stop working soon.
        refreshes = [services.registry.refresh] + ([] if key_ring is None else [key_ring.refresh])
        polling = [asyncio.create_task(_poll(refresh, settings.poll_seconds)) for refresh in refreshes]
        polling.append(asyncio.create_task(_poll(_release_memory(services.pool, services.budget), RELEASE_SECONDS)))
        try:
            yield
        finally:
            for task in polling:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            gc.unfreeze()
            await asyncio.to_thread(services.pool.close, settings.drain_seconds)
            if audit is not None:
                await asyncio.to_thread(audit.close, AUDIT_CLOSE_SECONDS)

    return lifespan


def _build(settings: Settings, metrics: Metrics, audit: AuditTrail | None, early: EarlyRuntime | None) -> Services:
    registry = ModelRegistry(
        ModelStore(settings.models_dir), settings.default_model, settings.runtime, settings.threads, settings.precision, early
    )
    pool = InferencePool(settings.worker_count, settings.queue_size, settings.deadline_seconds)
    drift = DriftMonitor(settings.drift_window, lambda: [loaded.manifest for loaded in registry.serving().values()])
    limits = Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels, min_side=settings.min_side)

    def upload_limits(field: str, total: int, max_files: int | None) -> UploadLimits:
        return UploadLimits(
            field,
            settings.max_upload_bytes,
            total,
            settings.upload_seconds,
            max_files=max_files,
            window_seconds=UPLOAD_WINDOW_SECONDS,
            window_bytes=round(settings.min_upload_rate * UPLOAD_WINDOW_SECONDS),
        )

    decode_budget = DividedBudget(settings.decoded_bytes)
    return Services(
        settings=settings,
        registry=registry,
        pool=pool,
        budget=MemoryBudget(settings.max_inflight_bytes),
        metrics=metrics,
        drift=drift,
        audit=audit,
        assessments=AssessmentService(pool, metrics, drift, audit, limits, decode_budget),
        decode_budget=decode_budget,
        single_upload=upload_limits("file", settings.max_upload_bytes, None),
        batch_upload=upload_limits("files", settings.batch_max_bytes, settings.batch_max_files),
        lesion_upload=upload_limits("files", settings.batch_max_bytes, min(MAX_IMAGES, settings.batch_max_files)),
        pair_upload=upload_limits("files", min(settings.batch_max_bytes, 2 * settings.max_upload_bytes), 2),
    )


def _register_gauges(services: Services, key_ring: KeyRing | None) -> None:
    metrics, pool, registry, audit = services.metrics, services.pool, services.registry, services.audit
    budget, decoding = services.budget, services.decode_budget
    metrics.gauge("aiderm_queue_depth", "Images waiting for a worker", lambda: pool.depth)
    metrics.gauge("aiderm_queue_limit", "Images that may wait", lambda: pool.queue_size)
    metrics.gauge("aiderm_workers_busy", "Workers processing an image", lambda: pool.running)
    metrics.gauge("aiderm_inflight_bytes", "Bytes of uploads held in memory", lambda: budget.held)
    metrics.gauge("aiderm_inflight_limit_bytes", "Bytes of uploads that may be held in memory", lambda: budget.limit)
    metrics.gauge("aiderm_decoding_bytes", "Bytes that decoding images holds, estimated", lambda: decoding.used)
    metrics.gauge("aiderm_decoding_limit_bytes", "Bytes that decoding images may hold", lambda: decoding.limit)
    metrics.gauge("aiderm_decoding_waiting", "Images that wait for memory to be decoded", lambda: decoding.waiting)
    metrics.gauge("aiderm_models_serving", "Serving models", lambda: len(registry.serving()))
    metrics.gauge("aiderm_models_troubled", "Models that failed to load", registry.load_errors)
    metrics.registry.register(ModelInfo(registry))
    metrics.registry.register(services.drift)
    if key_ring is not None:
        metrics.gauge("aiderm_keys_valid", "Valid API keys", lambda: key_ring.valid)
        metrics.gauge(
            "aiderm_keys_troubled", "1 while the changed key file cannot be used", lambda: key_ring.load_error is not None
        )
    if audit is not None:
        metrics.gauge("aiderm_audit_waiting", "Audit events not written yet", lambda: audit.waiting)
        metrics.counter("aiderm_audit_written", "Audit events written", lambda: audit.written)
        metrics.counter("aiderm_audit_lost", "Audit events lost", lambda: audit.lost)


def _release_memory(pool: InferencePool, uploads: MemoryBudget) -> Callable[[], None]:
    """Returns a function that frees the memory of refused uploads: at rest, and under load after ``GARBAGE_BYTES``."""
    seen = (0, 0)
    collected = swept = 0

    def release() -> None:
        nonlocal seen, collected, swept
        # A refused upload stays in memory until the next garbage collection, which may be far away.
        if not (pool.running or pool.depth or uploads.held) and (pool.finished, uploads.taken) != seen:
            seen = (pool.finished, uploads.taken)
            if uploads.taken - swept >= GARBAGE_BYTES_AT_REST:
                swept = collected = uploads.taken
                _settle()
        elif uploads.taken - collected >= GARBAGE_BYTES:
            collected = uploads.taken
            gc.collect()
        else:
            return
        release_free_memory()

    return release


def _settle() -> None:
    """Collects all garbage, and excludes what is left (the program and its models) from later collections.

    Otherwise each collection would scan 100,000 objects: 54 ms during which no other thread runs, instead of 0.1 ms.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def _poll(refresh: Callable[[], None], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(refresh)
        except Exception as error:  # one failed read must not end the polling
            log.error("polling failed", exc_info=error)
