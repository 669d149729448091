"""What the routes share: made once an app, handed out by FastAPI's dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from aiderm_api.serving.queue import InferencePool
from aiderm_api.serving.registry import ModelRegistry
from aiderm_api.settings import Settings
from aiderm_api.telemetry.audit import AuditTrail
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.observability import Metrics
from aiderm_api.uploads import MemoryBudget
from aiderm_core.imaging.limits import Limits


@dataclass(frozen=True)
class Services:
    """Everything that a route may need."""

    settings: Settings
    registry: ModelRegistry
    pool: InferencePool
    budget: MemoryBudget
    metrics: Metrics
    drift: DriftMonitor
    audit: AuditTrail | None

    @property
    def image_limits(self) -> Limits:
        """What a picture may measure."""
        settings = self.settings
        return Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels, min_side=settings.min_side)


def services_of(request: Request) -> Services:
    """Those of the app that answers ``request``."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    # Asynchronous, or FastAPI would call it in a thread of its own, once a request.
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]
