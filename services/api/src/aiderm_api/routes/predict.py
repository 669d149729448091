"""POST /predict, /predict/batch, /predict/lesion and /compare: parse, call the service, respond."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from aiderm_api import schemas
from aiderm_api.auth.access_policy import caller_of
from aiderm_api.errors import problems
from aiderm_api.errors.handlers import as_problem
from aiderm_api.errors.responses import responses
from aiderm_api.memory_budget import Lease
from aiderm_api.multipart import UploadLimits, read_uploads
from aiderm_api.routes.admission import AdmittedRoute
from aiderm_api.routes.disconnect import unless_disconnected
from aiderm_api.routes.options import OptionsDep
from aiderm_api.routes.representations import DESCRIPTIONS, Form, represented, wanted
from aiderm_api.services import Services, ServicesDep
from aiderm_api.serving.answers import describe_lesion
from aiderm_api.serving.service import Answer, AssessmentRequest
from aiderm_api.uploads import Upload
from aiderm_core.combine import MAX_IMAGES, MIN_IMAGES, copies

PATHS = ("/predict", "/predict/batch", "/predict/lesion", "/compare")
router = APIRouter(tags=["predict"], route_class=AdmittedRoute)

_IMAGE = {
    "type": "string",
    "format": "binary",
    "description": "JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM; by content, not by name",
}
_REQUEST = (problems.MalformedMultipart, problems.MissingFile, problems.CrossSite, problems.UnknownModel)
_BUSY = (problems.Overloaded, problems.NoModel, problems.DeadlineExceeded)
_IMAGE_PROBLEMS = (
    *(problems.TooLarge, problems.UnsupportedType, problems.EmptyFile, problems.Undecodable, problems.Truncated),
    *(problems.TooSmall, problems.TooManyPixels, problems.InvalidParameter),
)


_FORMS: dict[str, dict[str, Any]] = {
    "application/fhir+json": {"schema": {"type": "object", "description": DESCRIPTIONS[Form.FHIR]}},
    "application/dicom": {"schema": {"type": "string", "format": "binary", "description": DESCRIPTIONS[Form.DICOM]}},
    "multipart/related": {"schema": {"type": "string", "format": "binary", "description": DESCRIPTIONS[Form.DICOM_PARTS]}},
}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


@router.post(
    PATHS[0],
    response_model=schemas.Assessment,
    summary="Assess one dermoscopic image",
    responses=responses(*_REQUEST, problems.NotAcceptable, *_IMAGE_PROBLEMS, *_BUSY) | {200: {"content": _FORMS}},
    openapi_extra=_form("file", _IMAGE),
)
async def predict(request: Request, services: ServicesDep, asked: OptionsDep) -> Response:
    """Assesses the image in the form's part `file`. It is neither stored nor logged. The header Accept asks for FHIR or DICOM."""
    form = wanted(request)
    with services.budget.lease() as lease:
        [upload] = await _receive(request, services, services.single_upload, lease)
        answer = await unless_disconnected(request, services.assessments.assess(upload, asked))
        if form is Form.JSON:
            return _respond(request, answer)
        request.scope["answered_at"] = time.perf_counter()
        body, media_type = await run_in_threadpool(represented, answer, form, upload.data)
        return Response(body, media_type=media_type, headers={"Cache-Control": "no-store", "Vary": "Accept"})


@router.post(
    PATHS[1],
    response_model=schemas.BatchAnswer,
    summary="Assess several dermoscopic images",
    responses=responses(*_REQUEST, problems.TooLarge, problems.InvalidParameter, *_BUSY),
    openapi_extra=_form("files", {"type": "array", "items": _IMAGE, "minItems": 1}),
)
async def predict_batch(request: Request, services: ServicesDep, asked: OptionsDep) -> Response:
    """Assesses every part `files`; each has an assessment or a problem of its own, in the order of the request."""
    with services.budget.lease() as lease:
        uploads = await _receive(request, services, services.batch_upload, lease)
        caller_of(request.scope).charge(len(uploads) - 1)
        answers = await unless_disconnected(request, services.assessments.assess_batch(uploads, asked))
        return _respond(request, schemas.BatchAnswer(results=_items(answers, asked)))


@router.post(
    PATHS[2],
    response_model=schemas.LesionAssessment,
    summary="Assess one lesion by several dermoscopic images",
    responses=responses(*_REQUEST, *_IMAGE_PROBLEMS, *_BUSY),
    openapi_extra=_form("files", {"type": "array", "items": _IMAGE, "minItems": MIN_IMAGES, "maxItems": MAX_IMAGES}),
)
async def predict_lesion(request: Request, services: ServicesDep, asked: OptionsDep) -> Response:
    """Assesses the lesion that every part `files` shows: one decision for all of them, which names those that it leaves out and
    those that disagree. Images that disagree make it `uncertain`. The same file sent twice counts once.
    """
    with services.budget.lease() as lease:
        uploads = await _receive(request, services, services.lesion_upload, lease)
        caller_of(request.scope).charge(len(uploads) - 1)
        if len(uploads) < MIN_IMAGES:
            raise problems.MissingFile(
                f"Received: one file. Allowed: {MIN_IMAGES} to {MAX_IMAGES} images of one lesion; /predict takes a single image."
            )
        found, answers = await unless_disconnected(request, services.assessments.assess_lesion(uploads, asked))
        lesion = describe_lesion(
            found,
            _items(answers, asked),
            copies([upload.data for upload in uploads]),
            asked.model.manifest,
            asked.rule,
            tta=asked.tta,
            request_id=asked.request_id,
        )
        return _respond(request, lesion)


@router.post(
    PATHS[3],
    response_model=schemas.Comparison,
    summary="Compare two dermoscopic images of one lesion",
    responses=responses(*_REQUEST, *_IMAGE_PROBLEMS, *_BUSY),
    openapi_extra=_form("files", {"type": "array", "items": _IMAGE, "minItems": 2, "maxItems": 2}),
)
async def compare(request: Request, services: ServicesDep, asked: OptionsDep) -> Response:
    """Says what has changed between the first part `files` and the second, which is the later image of the same lesion, and
    assesses each on its own. Images that do not fit together are `not_comparable`. Counts as two images.
    """
    with services.budget.lease() as lease:
        uploads = await _receive(request, services, services.pair_upload, lease)
        caller_of(request.scope).charge(len(uploads) - 1)
        if len(uploads) != 2:
            raise problems.MissingFile("Received: one file. Allowed: two images of one lesion, the earlier first.")
        return _respond(request, await unless_disconnected(request, services.assessments.compare(uploads, asked)))


def _items(answers: Sequence[Answer], asked: AssessmentRequest) -> list[schemas.BatchItem]:
    return [
        schemas.BatchItem(index=index, assessment=None, problem=as_problem(answer).problem(asked.request_id))
        if isinstance(answer, Exception)
        else schemas.BatchItem(index=index, assessment=answer, problem=None)
        for index, answer in enumerate(answers)
    ]


async def _receive(request: Request, services: Services, limits: UploadLimits, lease: Lease) -> list[Upload]:
    started = time.perf_counter()
    uploads = await read_uploads(request, limits, lease)
    request.scope["receive_seconds"] = time.perf_counter() - started  # for RequestContext
    return uploads


def _respond(request: Request, answer: BaseModel) -> Response:
    request.scope["answered_at"] = time.perf_counter()  # the stage "respond" begins, see RequestContext
    # Serialized here: FastAPI would take the validated model apart and validate it again.
    return Response(answer.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
