"""POST /predict and /predict/batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import APIRouter, Query, Request, Response

from aiderm_api import problems, schemas
from aiderm_api.assessment import assess
from aiderm_api.context import Services, ServicesDep
from aiderm_api.inference import Ticket
from aiderm_api.models import LoadedModel
from aiderm_api.uploads import Upload, UploadLimits, file_too_large, read_uploads
from aiderm_core.imaging import ImageError
from aiderm_core.manifest import Thorough

T = TypeVar("T")
router = APIRouter(tags=["predict"])
log = structlog.get_logger(__name__)

_PICTURE = {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, BMP, TIFF or GIF; by content, not by name"}
_IMAGE_PROBLEMS = (
    problems.TooLarge,
    problems.UnsupportedType,
    problems.EmptyFile,
    problems.Undecodable,
    problems.Truncated,
    problems.TooSmall,
    problems.TooManyPixels,
    problems.InvalidParameter,
)
_BUSY = (problems.Overloaded, problems.NoModel, problems.DeadlineExceeded)
_REQUEST = (problems.MalformedMultipart, problems.MissingFile, problems.UnknownModel)

ModelQuery = Annotated[str | None, Query(description="name of a model in /models; the default one when absent")]
ExplainQuery = Annotated[bool, Query(description="draw the heatmap as well")]
ThoroughQuery = Annotated[
    bool, Query(description="judge eight orientations instead of one, where /models says that the model offers it; takes longer")
]


def _body(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


@router.post(
    "/predict",
    summary="Assess one dermoscopic picture",
    responses=problems.responses(*_REQUEST, *_IMAGE_PROBLEMS, *_BUSY),
    openapi_extra=_body("file", _PICTURE),
)
async def predict(
    request: Request,
    response: Response,
    services: ServicesDep,
    model: ModelQuery = None,
    explain: ExplainQuery = False,
    thorough: ThoroughQuery = False,
) -> schemas.Assessment:
    """Judges the picture in the form's part `file`. It is neither stored nor logged."""
    loaded = services.registry.get(model)
    wanted = _Wanted(explain, _thorough(loaded, thorough))
    settings = services.settings
    limits = UploadLimits("file", settings.max_upload_bytes, settings.max_upload_bytes, settings.upload_seconds)
    with services.budget.lease() as lease:
        [upload] = await read_uploads(request, limits, lease)
        answer = await _unless_hung_up(request, _assess(services, loaded, upload, wanted, problems.request_id_of(request)))
    response.headers["Cache-Control"] = "no-store"
    return answer


@router.post(
    "/predict/batch",
    summary="Assess several dermoscopic pictures",
    responses=problems.responses(*_REQUEST, problems.TooLarge, problems.InvalidParameter, *_BUSY),
    openapi_extra=_body("files", {"type": "array", "items": _PICTURE, "minItems": 1}),
)
async def predict_batch(
    request: Request,
    response: Response,
    services: ServicesDep,
    model: ModelQuery = None,
    explain: ExplainQuery = False,
    thorough: ThoroughQuery = False,
) -> schemas.BatchAnswer:
    """Judges every part `files`; each has an assessment or a problem of its own, in the order of the request."""
    loaded = services.registry.get(model)
    wanted = _Wanted(explain, _thorough(loaded, thorough))
    settings = services.settings
    limits = UploadLimits(
        "files", settings.max_upload_bytes, settings.batch_max_bytes, settings.upload_seconds, max_files=settings.batch_max_files
    )
    request_id = problems.request_id_of(request)
    # As many at once as there are workers: one batch must not fill the queue for everybody else.
    turns = asyncio.Semaphore(services.pool.workers)

    async def one(index: int, upload: Upload) -> schemas.BatchItem | problems.ProblemError:
        async with turns:
            try:
                assessment = await _assess(services, loaded, upload, wanted, request_id)
            except problems.ProblemError as error:
                return error
        return schemas.BatchItem(index=index, assessment=assessment, problem=None)

    with services.budget.lease() as lease:
        uploads = await read_uploads(request, limits, lease)
        services.metrics.batch_files.observe(len(uploads))
        answers = await _unless_hung_up(request, _all([one(index, upload) for index, upload in enumerate(uploads)]))
    failures = [answer for answer in answers if isinstance(answer, problems.ProblemError)]
    if len(failures) == len(answers) and all(failure.status >= 500 for failure in failures):
        raise failures[0]  # the service failed as a whole, which no 200 may hide
    response.headers["Cache-Control"] = "no-store"
    return schemas.BatchAnswer(
        results=[
            schemas.BatchItem(index=index, assessment=None, problem=answer.problem(request_id))
            if isinstance(answer, problems.ProblemError)
            else answer
            for index, answer in enumerate(answers)
        ]
    )


@dataclass(frozen=True)
class _Wanted:
    """What a request asks for beyond the decision."""

    explain: bool
    thorough: Thorough | None


def _thorough(loaded: LoadedModel, wanted: bool) -> Thorough | None:
    """How to pool the views, where that is wanted.

    Raises:
        InvalidParameter: the model does not offer it.
    """
    if wanted and loaded.thorough is None:
        manifest = loaded.manifest
        raise problems.InvalidParameter(
            f"Received: thorough=true. Allowed: thorough=false; several views were not measured to help {manifest.name} "
            f"{manifest.version}. /models says which models offer it."
        )
    return loaded.thorough if wanted else None


async def _assess(
    services: Services, loaded: LoadedModel, upload: Upload, wanted: _Wanted, request_id: str
) -> schemas.Assessment:
    """Sends one picture through the pool; failures of any kind are problems."""
    if upload.too_large:
        raise file_too_large(services.settings.max_upload_bytes)
    services.metrics.upload_bytes.observe(len(upload.data))
    started = time.perf_counter()

    def job(ticket: Ticket) -> tuple[schemas.Assessment, float]:
        assessment = assess(
            upload.data,
            manifest=loaded.manifest,
            runtime=loaded.runtime,
            rule=loaded.rule,
            limits=services.image_limits,
            explain=wanted.explain,
            thorough=wanted.thorough,
            request_id=request_id,
            between=ticket.check,
        )
        return assessment, ticket.queued_ms

    try:
        assessment, queued = await services.pool.run(job)
    except ImageError as error:
        raise problems.from_image_error(error) from error
    except (problems.Overloaded, problems.DeadlineExceeded) as error:
        services.metrics.shed.labels(error.code).inc()
        raise
    except asyncio.CancelledError:
        services.metrics.shed.labels("hang_up").inc()
        raise
    except problems.ProblemError:
        raise
    except Exception as error:
        log.error("assessment failed", exc_info=error, model=loaded.manifest.name, version=loaded.manifest.version)
        raise problems.InternalError from error
    timing = assessment.timing_ms.model_copy(
        update={"queue": round(queued, 3), "total": round((time.perf_counter() - started) * 1000, 3)}
    )
    answer = assessment.model_copy(update={"timing_ms": timing})
    services.metrics.assessed(answer)
    return answer


async def _all(jobs: list[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*jobs))


async def _unless_hung_up(request: Request, work: Awaitable[T]) -> T:
    """Awaits ``work``, and cancels it when the client hangs up, so that its places in the queue are free again.

    Raises:
        ClientClosedRequest: the client hung up.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise problems.ClientClosedRequest("The client hung up.")
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # nothing else comes after a complete body
