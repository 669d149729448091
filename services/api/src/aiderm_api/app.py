"""Puts the service together: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import cv2
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse

from aiderm_api import DISCLAIMER, VERSION, openapi_examples
from aiderm_api.auth import access
from aiderm_api.auth.keys import KeyRing, KeysError, Rate
from aiderm_api.errors import problems
from aiderm_api.middleware.load_shedding import Shedding
from aiderm_api.middleware.single_process import SingleProcess
from aiderm_api.middleware.unread_body import UnreadBody
from aiderm_api.routes import health, models, predict
from aiderm_api.services import Services
from aiderm_api.serving.queue import InferencePool
from aiderm_api.serving.registry import ModelInfo, ModelRegistry
from aiderm_api.settings import Settings, SettingsError
from aiderm_api.telemetry.audit import open_trail
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.observability import Metrics, RequestContext
from aiderm_api.uploads import MemoryBudget
from aiderm_core.bundle.store import ModelStore

AUDIT_CLOSE_SECONDS = 5.0
log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The service; its models are loaded when its lifespan starts, before the port opens.

    Raises:
        SettingsError: keys are required, and their file cannot be used; or the audit trail cannot be opened.
    """
    metrics = Metrics()
    ring = _key_ring(settings)
    audit = open_trail(settings.audit)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # the workers are the parallelism
        registry = ModelRegistry(
            ModelStore(settings.models_dir), settings.default_model, settings.runtime, settings.threads, settings.precision
        )
        pool = InferencePool(settings.pictures_at_once, settings.queue_size, settings.deadline_seconds)
        budget = MemoryBudget(settings.max_inflight_bytes)
        metrics.gauge("aiderm_queue_depth", "Pictures waiting for a worker", lambda: pool.depth)
        metrics.gauge("aiderm_queue_limit", "Pictures that may wait", lambda: pool.queue_size)
        metrics.gauge("aiderm_workers_busy", "Workers with a picture in hand", lambda: pool.running)
        metrics.gauge("aiderm_inflight_bytes", "Uploads held in memory", lambda: budget.held)
        metrics.gauge("aiderm_inflight_limit_bytes", "Uploads that may be held in memory", lambda: budget.limit)
        metrics.gauge("aiderm_models_serving", "Models that answer", lambda: len(registry.serving()))
        metrics.gauge("aiderm_models_troubled", "Models that failed to load", registry.troubled)
        metrics.registry.register(ModelInfo(registry))
        drift = DriftMonitor(settings.drift_window, lambda: [loaded.manifest for loaded in registry.serving().values()])
        metrics.registry.register(drift)
        if ring is not None:
            metrics.gauge("aiderm_keys_valid", "Keys that open the door", lambda: ring.valid)
            metrics.gauge("aiderm_keys_troubled", "1 while the changed file is unusable", lambda: ring.trouble is not None)
        if audit is not None:
            audit.start()
            metrics.gauge("aiderm_audit_waiting", "Audit events that the stream has not taken yet", lambda: audit.waiting)
            metrics.counter("aiderm_audit_written", "Audit events that the stream took", lambda: audit.written)
            metrics.counter("aiderm_audit_lost", "Audit events that it did not take", lambda: audit.lost)
        app.state.services = Services(settings, registry, pool, budget, metrics, drift, audit)
        await asyncio.to_thread(registry.refresh)
        # Apart: a new model may take its time to load, a revoked key must not.
        refreshes = [registry.refresh] if ring is None else [registry.refresh, ring.refresh]
        polling = [asyncio.create_task(_poll(refresh, settings.poll_seconds)) for refresh in refreshes]
        try:
            yield
        finally:
            for task in polling:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(pool.close, settings.drain_seconds)
            if audit is not None:
                await asyncio.to_thread(audit.close, AUDIT_CLOSE_SECONDS)

    app = FastAPI(
        title="AI Dermatologist",
        version=VERSION,
        summary="Judges dermoscopic pictures of skin lesions.",
        description=f"**{DISCLAIMER}** Failures are RFC 9457 problem documents with a stable `code`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,  # short names for the methods of generated clients
        redirect_slashes=False,  # a redirect would lead out of the prefix that a proxy has stripped
    )
    problems.install(app)
    app.include_router(predict.router)
    app.include_router(health.router)
    app.include_router(models.router)
    if settings.metrics:
        app.include_router(health.metrics_router)
    if settings.docs:
        _add_docs(app)
    # From here inwards to outwards.
    app.add_middleware(Shedding)
    if ring is not None:
        rate = Rate(per_second=settings.key_rate, burst=settings.key_burst)
        app.add_middleware(access.Access, ring=ring, default=rate, metrics=metrics)
    if settings.frontend_dir is not None:
        app.add_middleware(SingleProcess, folder=settings.frontend_dir, routes=app.router.routes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-Request-ID", "Authorization"],
            expose_headers=["X-Request-ID", "Retry-After", "WWW-Authenticate"],
        )
    app.add_middleware(UnreadBody)
    app.add_middleware(RequestContext, metrics=metrics)
    return app


def _key_ring(settings: Settings) -> KeyRing | None:
    if settings.keys_file is None:
        return None
    try:
        return KeyRing(settings.keys_file)
    except KeysError as error:
        raise SettingsError(f"AIDERM_KEYS_FILE: {error}") from error


async def _poll(refresh: Callable[[], None], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(refresh)
        except Exception as error:  # one bad look at the disk must not end the looking
            log.error("polling failed", exc_info=error)


def _add_docs(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(openapi_document(app))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        # A relative address, so that it works under every prefix.
        return get_swagger_ui_html(openapi_url="openapi.json", title=f"{app.title}: API")


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with every failure as a problem document."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        # Relative to the document: the same under / and under a proxy's /api.
        document["servers"] = [{"url": "."}]
        parts = document["components"]["schemas"]
        parts.setdefault("Problem", problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}"))
        for operation in (item for path in document["paths"].values() for item in path.values()):
            # FastAPI adds its own 422 to whatever has parameters; ours are documented by the routes.
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            parts.pop(name, None)
        access.describe(document)
        openapi_examples.attach(document)
        app.openapi_schema = document
    return app.openapi_schema
