"""The objects that all routes share, created once per app and provided as a FastAPI dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from aiderm_api.memory_budget import MemoryBudget
from aiderm_api.multipart import UploadLimits
from aiderm_api.serving.queue import InferencePool
from aiderm_api.serving.registry import ModelRegistry
from aiderm_api.serving.service import AssessmentService
from aiderm_api.settings import Settings
from aiderm_api.telemetry.audit import AuditTrail
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.prometheus_metrics import Metrics
from aiderm_core.imaging.budget import DividedBudget


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
    assessments: AssessmentService
    decode_budget: DividedBudget
    single_upload: UploadLimits
    batch_upload: UploadLimits
    lesion_upload: UploadLimits
    pair_upload: UploadLimits


def services_of(request: Request) -> Services:
    """Returns the services of the app that handles ``request``."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    # Asynchronous, because FastAPI would run a plain function in another thread for each request.
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]
