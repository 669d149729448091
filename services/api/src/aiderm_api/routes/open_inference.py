"""/v2: the Open Inference Protocol, so that clients of KServe and Triton work unchanged.

These routes are not in the OpenAPI document: the protocol has one of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from aiderm_api import VERSION
from aiderm_api.auth.access_policy import caller_of
from aiderm_api.errors.problems import request_id_of
from aiderm_api.memory_budget import Lease
from aiderm_api.multipart import read_body
from aiderm_api.open_inference import InferenceRequest, answer, describe_model, parse_request, split_body
from aiderm_api.routes.admission import AdmittedRoute
from aiderm_api.routes.disconnect import unless_disconnected
from aiderm_api.services import Services, ServicesDep
from aiderm_api.serving.exceptions import UnknownModelError
from aiderm_api.serving.registry import LoadedModel
from aiderm_api.serving.service import AssessmentRequest

MODEL, VERSIONED = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
# Parsing a larger body would block the event loop for too long.
_INSTANT_BYTES = 200_000
router = APIRouter(include_in_schema=False)
infer_router = APIRouter(include_in_schema=False, route_class=AdmittedRoute)


@router.get("/v2")
async def server_metadata() -> dict[str, Any]:
    """Name and version of the server, and the protocol's extensions that it has."""
    return {"name": "aiderm", "version": VERSION, "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/live")
async def server_live() -> dict[str, bool]:
    """Whether the process answers."""
    return {"live": True}


@router.get("/v2/health/ready")
async def server_ready(services: ServicesDep) -> dict[str, bool]:
    """200 while the default model is served, else 503."""
    services.registry.get()
    return {"ready": True}


@router.get(MODEL)
@router.get(VERSIONED)
async def model_metadata(services: ServicesDep, name: str, version: str | None = None) -> dict[str, Any]:
    """Inputs and outputs of a model."""
    loaded = _model(services, name, version)
    return describe_model(loaded.manifest, f"{loaded.runtime.name}_{loaded.runtime.precision}")


@router.get(MODEL + "/ready")
@router.get(VERSIONED + "/ready")
async def model_ready(services: ServicesDep, name: str, version: str | None = None) -> dict[str, Any]:
    """200 while the model is served, else 404 or 503."""
    return {"name": _model(services, name, version).manifest.name, "ready": True}


@infer_router.post(MODEL + "/infer")
@infer_router.post(VERSIONED + "/infer")
async def infer(request: Request, services: ServicesDep, name: str, version: str | None = None) -> Response:
    """Assesses files of images, as /predict/batch does, or runs the graph on images that are decoded and scaled already."""
    loaded = _model(services, name, version)
    asked = AssessmentRequest(loaded, False, False, request_id_of(request), caller_of(request.scope).key_id)
    with services.budget.lease() as lease:
        parsed = await _receive(request, services, loaded, lease)
        caller_of(request.scope).charge(len(parsed.images) - 1)
        tensors = await unless_disconnected(request, services.assessments.infer(parsed.images, asked))
    content, headers = answer(parsed, tensors, loaded.manifest)
    return Response(content, headers={**headers, "Cache-Control": "no-store"})


async def _receive(request: Request, services: Services, loaded: LoadedModel, lease: Lease) -> InferenceRequest:
    body = bytearray()

    def write(chunk: bytes) -> None:
        lease.take(len(chunk))
        body.extend(chunk)

    await read_body(request, services.batch_upload, write)
    text, binary = split_body(body, request.headers)
    lease.take(2 * len(text))  # for a moment the parsed form exists beside the text
    limits = services.batch_upload

    def parse() -> InferenceRequest:
        return parse_request(text, binary, loaded.manifest, limits.max_files or 1, limits.max_file_bytes)

    return parse() if len(text) <= _INSTANT_BYTES else await asyncio.to_thread(parse)


def _model(services: Services, name: str, version: str | None) -> LoadedModel:
    """Returns a serving model; raises UnknownModelError or ModelUnavailableError if that version is not served."""
    loaded = services.registry.get(name)
    if version not in (None, loaded.manifest.version):
        raise UnknownModelError(f"Received: version {version[:40]!r} of {name}. Allowed: {loaded.manifest.version}.")
    return loaded
