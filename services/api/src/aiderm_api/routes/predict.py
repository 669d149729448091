"""POST /predict and /predict/batch."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from aiderm_api import schemas
from aiderm_api.auth.access import Caller, caller_of
from aiderm_api.errors import problems
from aiderm_api.services import Services, ServicesDep, services_of
from aiderm_api.serving.assessment import assess
from aiderm_api.serving.queue import Ticket
from aiderm_api.serving.registry import LoadedModel
from aiderm_api.telemetry.audit import answer_event
from aiderm_api.uploads import Lease, Upload, UploadLimits, file_too_large, read_uploads
from aiderm_core.bundle.manifest import Thorough
from aiderm_core.imaging.errors import ImageError
from aiderm_core.runtime import Hint

T = TypeVar("T")


class _PredictRoute(APIRoute):
    """Calls the function straight away where there is no query to check: FastAPI's checks take a tenth of a prediction."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler for every request with a query, or when the route has dependencies beside its function's."""
        checked = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope["query_string"] or self.dependencies:
                return await checked(request)
            answer: Response = await self.endpoint(request, services_of(request))
            return answer

        return handle


router = APIRouter(tags=["predict"], route_class=_PredictRoute)
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
    response_model=schemas.Assessment,
    summary="Assess one dermoscopic picture",
    responses=problems.responses(*_REQUEST, *_IMAGE_PROBLEMS, *_BUSY),
    openapi_extra=_body("file", _PICTURE),
)
async def predict(
    request: Request,
    services: ServicesDep,
    model: ModelQuery = None,
    explain: ExplainQuery = False,
    thorough: ThoroughQuery = False,
) -> Response:
    """Judges the picture in the form's part `file`. It is neither stored nor logged."""
    wanted = _wanted(request, services, model, explain, thorough)
    settings = services.settings
    limits = UploadLimits("file", settings.max_upload_bytes, settings.max_upload_bytes, settings.upload_seconds)
    with services.budget.lease() as lease:
        [upload] = await _receive(request, services, limits, lease)
        answer = await _unless_hung_up(request, _assess(services, upload, wanted))
        return _json(request, answer)


@router.post(
    "/predict/batch",
    response_model=schemas.BatchAnswer,
    summary="Assess several dermoscopic pictures",
    responses=problems.responses(*_REQUEST, problems.TooLarge, problems.InvalidParameter, *_BUSY),
    openapi_extra=_body("files", {"type": "array", "items": _PICTURE, "minItems": 1}),
)
async def predict_batch(
    request: Request,
    services: ServicesDep,
    model: ModelQuery = None,
    explain: ExplainQuery = False,
    thorough: ThoroughQuery = False,
) -> Response:
    """Judges every part `files`; each has an assessment or a problem of its own, in the order of the request."""
    wanted = _wanted(request, services, model, explain, thorough)
    settings = services.settings
    limits = UploadLimits(
        "files", settings.max_upload_bytes, settings.batch_max_bytes, settings.upload_seconds, max_files=settings.batch_max_files
    )
    # As many at once as there are workers: one batch must not fill the queue for everybody else.
    turns = asyncio.Semaphore(services.pool.workers)

    async def one(index: int, upload: Upload) -> schemas.BatchItem | problems.ProblemError:
        async with turns:
            try:
                assessment = await _assess(services, upload, wanted, index)
            except problems.ProblemError as error:
                return error
        return schemas.BatchItem(index=index, assessment=assessment, problem=None)

    with services.budget.lease() as lease:
        uploads = await _receive(request, services, limits, lease)
        wanted.caller.charge(len(uploads) - 1)
        services.metrics.batch_files.observe(len(uploads))
        answers = await _unless_hung_up(request, _all([one(index, upload) for index, upload in enumerate(uploads)]))
    failures = [answer for answer in answers if isinstance(answer, problems.ProblemError)]
    if len(failures) == len(answers) and all(failure.status >= 500 for failure in failures):
        raise failures[0]  # the service failed as a whole, which no 200 may hide
    return _json(
        request,
        schemas.BatchAnswer(
            results=[
                schemas.BatchItem(index=index, assessment=None, problem=answer.problem(wanted.request_id))
                if isinstance(answer, problems.ProblemError)
                else answer
                for index, answer in enumerate(answers)
            ]
        ),
    )


@dataclass(frozen=True)
class _Wanted:
    """What a request asks for, and who asks."""

    loaded: LoadedModel
    explain: bool
    thorough: Thorough | None
    request_id: str
    caller: Caller


def _wanted(request: Request, services: Services, model: str | None, explain: bool, thorough: bool) -> _Wanted:
    """Checked against what serves; see the registry and _thorough for what is raised."""
    loaded = services.registry.get(model)
    request_id, caller = problems.request_id_of(request), caller_of(request.scope)
    return _Wanted(loaded, explain, _thorough(loaded, thorough), request_id, caller)


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


async def _receive(request: Request, services: Services, limits: UploadLimits, lease: Lease) -> list[Upload]:
    started = time.perf_counter()
    uploads = await read_uploads(request, limits, lease)
    services.metrics.stages.labels("receive").observe(time.perf_counter() - started)
    return uploads


async def _assess(services: Services, upload: Upload, wanted: _Wanted, index: int | None = None) -> schemas.Assessment:
    """Sends one picture through the pool; failures of any kind are problems.

    Args:
        services: of the app.
        upload: the picture.
        wanted: what to say of it.
        index: its place in a batch.
    """
    if upload.too_large:
        raise file_too_large(services.settings.max_upload_bytes)
    services.metrics.upload_bytes.observe(len(upload.data))
    loaded, audit = wanted.loaded, services.audit
    started = time.perf_counter()

    def job(ticket: Ticket) -> tuple[schemas.Assessment, str]:
        def before_inference() -> Hint:
            ticket.check()
            return ticket.hint

        assessment = assess(
            upload.data,
            manifest=loaded.manifest,
            runtime=loaded.runtime,
            rule=loaded.rule,
            limits=services.image_limits,
            explain=wanted.explain,
            thorough=wanted.thorough,
            request_id=wanted.request_id,
            before_inference=before_inference,
        )
        assessment.timing_ms.queue = round(ticket.queued_ms, 3)
        # Here, because 20 MB take some milliseconds.
        return assessment, hashlib.sha256(upload.data).hexdigest() if audit is not None else ""

    try:
        assessment, image_sha256 = await services.pool.run(job)
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
    assessment.timing_ms.total = round((time.perf_counter() - started) * 1000, 3)
    services.metrics.assessed(assessment)
    if wanted.thorough is None:  # pooled views have another distribution than the reference, which was made without
        score = None if assessment.malignancy is None else assessment.malignancy.probability
        services.drift.observe(loaded.manifest, score, assessment.novelty.score)
    if audit is not None:
        audit.record(
            answer_event(
                assessment,
                image_sha256=image_sha256,
                key_id=wanted.caller.key_id,
                index=index,
                runtime=loaded.runtime.name,
                precision=loaded.runtime.precision,
            )
        )
    return assessment


def _json(request: Request, answer: schemas.Assessment | schemas.BatchAnswer) -> Response:
    request.scope["answered_at"] = time.perf_counter()  # the stage "respond" begins, see observability
    # Written here: FastAPI would take the checked model apart and check it again.
    return Response(answer.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


async def _all(jobs: list[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*jobs))


async def _unless_hung_up(request: Request, work: Awaitable[T]) -> T:
    """Awaits ``work``, and cancels it when the client hangs up, so that its places in the queue are free again.

    Works as ``asyncio.timeout`` does, with the end of the connection in place of the end of the time.

    Raises:
        ClientClosedRequest: the client hung up.
    """
    task = asyncio.current_task()
    gone = False

    def stop(watching: asyncio.Task[None]) -> None:
        nonlocal gone
        if task is not None and not watching.cancelled():
            gone = True
            task.cancel()

    watching = asyncio.ensure_future(_hang_up(request))
    watching.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and task is not None and task.uncancel() == 0:
            raise problems.ClientClosedRequest("The client hung up.") from None
        raise
    finally:
        watching.remove_done_callback(stop)
        watching.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # nothing else comes after a complete body
