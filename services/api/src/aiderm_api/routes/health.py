"""/health for people and compose, /health/live and /health/ready for orchestrators, /metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from aiderm_api import schemas
from aiderm_api.errors import problems
from aiderm_api.errors.responses import responses
from aiderm_api.services import ServicesDep

router = APIRouter(tags=["health"])
metrics_router = APIRouter(tags=["health"])


@router.get(
    "/health",
    summary="State of the service and of each model",
    responses={503: {"model": schemas.Health, "description": "The default model is not served."}, **responses()},
)
async def health(response: Response, services: ServicesDep) -> schemas.Health:
    """200 while the default model is served, else 503."""
    state = services.registry.health()
    response.headers["Cache-Control"] = "no-store"
    if state.status == "unavailable":
        response.status_code = 503
    return state


@router.get("/health/live", summary="Whether the process answers", responses=responses())
async def live() -> schemas.Live:
    """Says nothing about models: a restart would not repair them."""
    return schemas.Live()


@router.get("/health/ready", summary="Whether images can be assessed", responses=responses(problems.NoModel))
async def ready(services: ServicesDep) -> schemas.Ready:
    """200 while the default model is served, else 503 `no_model`."""
    services.registry.get()
    return schemas.Ready()


@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses()},
)
async def metrics(services: ServicesDep) -> Response:
    """Prometheus' text format."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)
