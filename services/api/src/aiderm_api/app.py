"""Builds the ASGI application from the settings."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from aiderm_api import DISCLAIMER, VERSION
from aiderm_api.auth.access_policy import AccessPolicy
from aiderm_api.auth.keys import KeyRing, KeysError, Rate
from aiderm_api.errors import handlers
from aiderm_api.lifespan import lifespan_of
from aiderm_api.middleware.authentication import Authentication
from aiderm_api.middleware.direct_routes import DirectRoutes
from aiderm_api.middleware.request_checks import RequestChecks
from aiderm_api.middleware.request_context import RequestContext
from aiderm_api.middleware.single_process import SingleProcess
from aiderm_api.routes import docs, health, models, open_inference, predict
from aiderm_api.serving.early_runtime import EarlyRuntime
from aiderm_api.settings import Settings, SettingsError
from aiderm_api.telemetry.audit import open_trail
from aiderm_api.telemetry.prometheus_metrics import Metrics


class Service(FastAPI):
    """The application. Predictions bypass the layers that FastAPI puts around and inside its router.

    FastAPI's outermost layers answer crashes (without the request's id), trace requests and limit bodies. They are left out:
    RequestContext answers crashes, tracing is not used, and the routes that take bodies limit them.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Stacks the middleware of ``_add_middleware``, then the direct routes, then FastAPI's own layers."""
        routed: ASGIApp = AsyncExitStackMiddleware(self.router)
        routed = ExceptionMiddleware(routed, handlers=self.exception_handlers)
        stack: ASGIApp = DirectRoutes(routed, predict.router)
        for cls, args, kwargs in reversed(self.user_middleware):
            stack = cls(stack, *args, **kwargs)
        return stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


def create_app(settings: Settings, early: EarlyRuntime | None = None) -> FastAPI:
    """Builds the service. Its models are loaded when its lifespan starts, before the port opens.

    Args:
        settings: settings of the service.
        early: is already loading the default model.

    Raises:
        SettingsError: keys are required but their file cannot be used, or the audit trail cannot be opened.
    """
    metrics = Metrics()
    key_ring = _open_key_ring(settings)
    app = Service(
        title="AI Dermatologist",
        version=VERSION,
        summary="Assesses dermoscopic images of skin lesions.",
        description=f"**{DISCLAIMER}** Failures are RFC 9457 problem documents with a stable `code`.",
        lifespan=lifespan_of(settings, metrics, key_ring, open_trail(settings.audit), early),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,  # short names for the methods of generated clients
        redirect_slashes=False,  # a redirect would lead out of the prefix that a proxy has stripped
    )
    handlers.install(app)
    app.include_router(predict.router)
    app.include_router(health.router)
    app.include_router(models.router)
    app.include_router(open_inference.router)
    app.include_router(open_inference.infer_router)
    if settings.metrics:
        app.include_router(health.metrics_router)
    if settings.docs:
        app.include_router(docs.router)
    _add_middleware(app, settings, metrics, key_ring)
    return app


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics, key_ring: KeyRing | None) -> None:
    """Adds the middleware, from the innermost to the outermost."""
    if key_ring is not None:
        rate = Rate(per_second=settings.key_rate, burst=settings.key_burst)
        app.add_middleware(Authentication, policy=AccessPolicy(key_ring, rate, metrics), labels=predict.PATHS)
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
    app.add_middleware(RequestContext, metrics=metrics, checks=RequestChecks(settings.allowed_hosts))


def _open_key_ring(settings: Settings) -> KeyRing | None:
    if settings.keys_file is None:
        return None
    try:
        return KeyRing(settings.keys_file)
    except KeysError as error:
        raise SettingsError(f"AIDERM_KEYS_FILE: {error}") from error
