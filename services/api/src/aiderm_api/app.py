"""Puts the service together: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import cv2
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse

from aiderm_api import DISCLAIMER, VERSION, problems
from aiderm_api.context import Services
from aiderm_api.inference import InferencePool
from aiderm_api.models import ModelRegistry
from aiderm_api.observability import Metrics, RequestContext
from aiderm_api.routes import health, models, predict
from aiderm_api.settings import Settings
from aiderm_api.unread import UnreadBody
from aiderm_api.uploads import MemoryBudget
from aiderm_api.web import OneProcess
from aiderm_core.store import ModelStore

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The service; its models are loaded when its lifespan starts, before the port opens."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cv2.setNumThreads(1)  # the workers are the parallelism
        registry = ModelRegistry(ModelStore(settings.models_dir), settings.default_model, settings.runtime, settings.threads)
        pool = InferencePool(settings.workers, settings.queue_size, settings.deadline_seconds)
        budget = MemoryBudget(settings.max_inflight_bytes)
        metrics.gauge("aiderm_queue_depth", "Pictures waiting for a worker", lambda: pool.depth)
        metrics.gauge("aiderm_queue_limit", "Pictures that may wait", lambda: pool.queue_size)
        metrics.gauge("aiderm_workers_busy", "Workers with a picture in hand", lambda: pool.running)
        metrics.gauge("aiderm_inflight_bytes", "Uploads held in memory", lambda: budget.held)
        metrics.gauge("aiderm_models_serving", "Models that answer", lambda: len(registry.serving()))
        metrics.gauge("aiderm_models_troubled", "Models that failed to load", registry.troubled)
        app.state.services = Services(settings, registry, pool, budget, metrics)
        await asyncio.to_thread(registry.refresh)
        polling = asyncio.create_task(_poll(registry, settings.poll_seconds))
        try:
            yield
        finally:
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling
            await asyncio.to_thread(pool.close, settings.drain_seconds)

    app = FastAPI(
        title="AI Dermatologist",
        version=VERSION,
        summary="Judges dermoscopic pictures of skin lesions.",
        description=f"**{DISCLAIMER}** Failures are RFC 9457 problem documents with a stable `code`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
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
    if settings.frontend_dir is not None:
        app.add_middleware(OneProcess, folder=settings.frontend_dir, routes=app.router.routes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-Request-ID", "Authorization"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(UnreadBody)
    app.add_middleware(RequestContext, metrics=metrics)  # the last one added is the outermost
    return app


async def _poll(registry: ModelRegistry, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(registry.refresh)
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
        app.openapi_schema = document
    return app.openapi_schema
