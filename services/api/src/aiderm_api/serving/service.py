"""Assesses uploaded images: through the queue, alone or as a batch, with metrics, the audit trail and drift monitoring."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from aiderm_api import schemas
from aiderm_api.serving.answers import describe, outputs_named, outputs_of
from aiderm_api.serving.comparison import OVERLAY_SIDE, describe_comparison, overlay_uri
from aiderm_api.serving.exceptions import (
    AssessmentFailedError,
    DeadlineExceededError,
    OptionNotOfferedError,
    OverloadedError,
    ServingError,
)
from aiderm_api.serving.queue import InferencePool, Ticket
from aiderm_api.serving.registry import LoadedModel
from aiderm_api.telemetry.audit import AuditTrail, answer_event, comparison_event, lesion_event, tensor_event
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.prometheus_metrics import Metrics
from aiderm_api.uploads import Upload, too_large_text
from aiderm_core.assess import ImageAssessment, assess, checked_outputs
from aiderm_core.bundle.manifest import DecisionRule, Manifest
from aiderm_core.change import LesionChange, Photograph, compare
from aiderm_core.combine import CombinedAssessment, View, combine, copies
from aiderm_core.imaging.budget import BudgetTimeoutError, DividedBudget
from aiderm_core.imaging.decode import DecodePlan, check_budget, decoding, plan
from aiderm_core.imaging.effort import QUICK_SECONDS
from aiderm_core.imaging.errors import DecodeTimeoutError, ImageError
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Hint, Outputs
from aiderm_core.tta import TtaRuntime

T = TypeVar("T")
log = structlog.get_logger(__name__)
# Reading the headers of larger files may take tens of milliseconds, which would block the event loop.
_INSTANT_BYTES = 200_000


@dataclass(frozen=True)
class AssessmentRequest:
    """The options of a request, and its caller.

    Attributes:
        model: the model that assesses.
        explain: also draw the heatmap and the lesion's outline, or the overlay of a comparison.
        tta: average over eight orientations.
        request_id: for the answer and the log.
        key_id: id of the caller's API key; None if the service requires no keys.

    Raises:
        OptionNotOfferedError: the model does not offer test-time augmentation.
    """

    model: LoadedModel
    explain: bool
    tta: bool
    request_id: str
    key_id: str | None

    def __post_init__(self) -> None:
        if self.tta and self.model.tta is None:
            manifest = self.model.manifest
            raise OptionNotOfferedError(
                f"Received: tta=true, or thorough=true. Allowed: thorough=false and tta=false; averaging over orientations was "
                f"not measured to help {manifest.name} {manifest.version}. /models says which models offer it."
            )

    @property
    def rule(self) -> DecisionRule:
        """The threshold and band that apply."""
        return self.model.tta.decision if self.tta and self.model.tta is not None else self.model.rule


Answer = schemas.Assessment | ImageError | ServingError
_Seen = tuple[schemas.Assessment, ImageAssessment]


@dataclass(frozen=True)
class AssessmentService:
    """Assesses images.

    Attributes:
        pool: runs the work.
        metrics: counts answers and dropped images.
        drift: observes every answer without test-time augmentation.
        audit: records every answer; None if it is off.
        limits: allowed dimensions of an image.
        budget: bytes that decoding may hold, all images together.
    """

    pool: InferencePool
    metrics: Metrics
    drift: DriftMonitor
    audit: AuditTrail | None
    limits: Limits
    budget: DividedBudget

    async def assess(self, upload: Upload, request: AssessmentRequest) -> schemas.Assessment:
        """Assesses one image.

        Args:
            upload: the image file.
            request: the options and the caller.

        Raises:
            ImageError: the image cannot be assessed.
            OverloadedError, DeadlineExceededError, ModelUnavailableError: not possible at present.
            AssessmentFailedError: the service failed; the cause has been logged.
        """
        assessment, _ = await self._assess(upload, request, None)
        return assessment

    async def assess_batch(self, uploads: Sequence[Upload], request: AssessmentRequest) -> list[Answer]:
        """Assesses several images; returns an assessment or an error for each, in the same order.

        Raises:
            ServingError: every image failed through no fault of its own; the error is that of the first.
        """
        answers = [seen[0] if isinstance(seen, tuple) else seen for seen in await self._assess_each(uploads, request)]
        first = answers[0]
        if isinstance(first, ServingError) and all(isinstance(answer, ServingError) for answer in answers):
            raise first  # the service failed as a whole, which a 200 must not hide
        return answers

    async def assess_lesion(
        self, uploads: Sequence[Upload], request: AssessmentRequest
    ) -> tuple[CombinedAssessment, list[schemas.Assessment | ImageError]]:
        """Assesses several images of one lesion, together and each on its own.

        Raises:
            ServingError: an image was not assessed through no fault of its own. The others alone might give another answer than
                all images together.
            ImageError: no file can be assessed; the error is that of the first.
        """
        views: list[View | None] = []
        twice = copies([upload.data for upload in uploads])
        answers: list[schemas.Assessment | ImageError] = []
        for index, seen in enumerate(await self._assess_each(uploads, request)):
            if isinstance(seen, ServingError):
                raise seen
            answers.append(seen if isinstance(seen, ImageError) else seen[0])
            views.append(None if isinstance(seen, ImageError) or index in twice else View.of(seen[1]))
        first = answers[0]
        if isinstance(first, ImageError) and all(isinstance(answer, ImageError) for answer in answers):
            raise first
        found = combine(views, request.model.manifest, request.rule)
        self._record_lesion(found, request)
        return found, answers

    async def compare(self, uploads: Sequence[Upload], request: AssessmentRequest) -> schemas.Comparison:
        """Compares two images of one lesion, the earlier first, and assesses each on its own.

        Raises:
            ImageError, ServingError: an image has no answer (the error is the first one), or the comparison did not complete.
        """
        (first, earlier), (second, later) = _raised(await self._assess_each(uploads, request))
        data, manifest = uploads[1].data, request.model.manifest
        planned = await self._plan(data, OVERLAY_SIDE) if request.explain else None

        def work(ticket: Ticket) -> tuple[LesionChange, str | None]:
            ticket.check()
            change = compare(Photograph.of(earlier), Photograph.of(later))
            if planned is None or change.obstacles:
                return change, None
            with _in_time(ticket), decoding(data, self.limits, OVERLAY_SIDE, self.budget, ticket.deadline, planned) as image:
                square = to_model_input(image.pixels, min(OVERLAY_SIDE, later.region.width))
            return change, overlay_uri(change, square, earlier.region, later.region)

        same = data == uploads[0].data
        slow = planned is not None and self._slow(planned)
        change, overlay = (None, None) if same else await self._run(work, manifest, slow=slow)
        answer = describe_comparison(change, (first, second), overlay, manifest)
        self.metrics.comparisons.labels(answer.model.name, answer.model.version, answer.result).inc()
        if self.audit is not None:
            self.audit.record(comparison_event(answer, key_id=request.key_id))
        return answer

    async def _assess(self, upload: Upload, request: AssessmentRequest, index: int | None) -> _Seen:
        """Assesses one image; ``index`` is its 0-based place in a batch."""
        if upload.too_large:
            raise ImageError("too_large", too_large_text(self.limits.max_bytes))
        self.metrics.upload_bytes.observe(len(upload.data))
        started = time.perf_counter()
        planned = await self._plan(upload.data, request.model.manifest.input.size)
        assessment, found, digest = await self._run(
            lambda ticket: self._work(upload.data, planned, request, ticket), request.model.manifest, slow=self._slow(planned)
        )
        assessment.timing_ms.total = round((time.perf_counter() - started) * 1000, 3)
        self._record(assessment, request, digest, index)
        return assessment, found

    async def _run(self, job: Callable[[Ticket], T], manifest: Manifest, *, slow: bool = False) -> T:
        """Runs a job for a model through the queue.

        Raises:
            OverloadedError, DeadlineExceededError, ModelUnavailableError: not possible at present.
            AssessmentFailedError: the job failed; the cause has been logged.
        """
        try:
            return await self.pool.run(job, slow=slow)
        except OverloadedError:
            self.metrics.shed.labels("overloaded").inc()
            raise
        except DeadlineExceededError:
            self.metrics.shed.labels("deadline").inc()
            raise
        except asyncio.CancelledError:
            self.metrics.shed.labels("hang_up").inc()
            raise
        except (ImageError, ServingError):
            raise
        except Exception as error:
            log.error("assessment failed", exc_info=error, model=manifest.name, version=manifest.version)
            raise AssessmentFailedError("The assessment failed.") from error

    async def _assess_each(
        self, uploads: Sequence[Upload], request: AssessmentRequest
    ) -> list[_Seen | ImageError | ServingError]:
        self.metrics.batch_files.observe(len(uploads))
        return await self._in_turns(lambda index: self._assess(uploads[index], request, index), len(uploads))

    async def infer(
        self, images: Sequence[Upload] | NDArray[np.uint8], request: AssessmentRequest
    ) -> dict[str, NDArray[np.float32] | list[str]]:
        """Computes the outputs as tensors, see ``aiderm_core.runtime.Outputs``.

        Args:
            images: files, which are assessed as in ``assess``, or uint8 ``[N, S, S, 3]``, which the graph takes unchanged.
            request: the options and the caller.

        Returns:
            The graph's outputs by name, and for files the ``decision``; for a rejected image all but the novelty are NaN.

        Raises:
            ImageError, ServingError: an image has no answer; the error is the first one.
        """
        tensors: dict[str, NDArray[np.float32] | list[str]] = {}
        if isinstance(images, np.ndarray):
            rows = images
            self.metrics.batch_files.observe(len(rows))
            outputs = _raised(await self._in_turns(lambda index: self._infer(rows[index : index + 1], index, request), len(rows)))
        else:
            found = _raised(await self._assess_each(images, request))
            outputs = [outputs_of(each) for _, each in found]
            tensors["decision"] = [each.verdict.decision.value for _, each in found]
        names = outputs_named(request.model.manifest)
        return tensors | {name: np.concatenate([getattr(each, name) for each in outputs]) for name in names}

    async def _infer(self, image: NDArray[np.uint8], index: int, request: AssessmentRequest) -> Outputs:
        """Runs the graph on uint8 ``[1, S, S, 3]``."""
        model = request.model

        def work(ticket: Ticket) -> Outputs:
            return checked_outputs(model.runtime.run(image, ticket.hint), len(model.manifest.labels))

        outputs = await self._run(work, model.manifest)
        self.drift.observe(model.manifest, float(outputs.malignancy[0]), float(outputs.novelty[0]))
        if self.audit is not None:
            self.audit.record(
                tensor_event(
                    outputs,
                    request_id=request.request_id,
                    image_sha256=hashlib.sha256(image.tobytes()).hexdigest(),
                    key_id=request.key_id,
                    index=index,
                    manifest=model.manifest,
                    runtime=model.runtime,
                )
            )
        return outputs

    async def _in_turns(self, answer: Callable[[int], Awaitable[T]], count: int) -> list[T | ImageError | ServingError]:
        """Answers ``count`` images by their index, at most as many at once as there are workers.

        Otherwise one batch would fill the queue for everybody else.
        """
        turns = asyncio.Semaphore(self.pool.workers)

        async def in_turn(index: int) -> T | ImageError | ServingError:
            async with turns:
                try:
                    return await answer(index)
                except (ImageError, ServingError) as error:
                    return error

        return await asyncio.gather(*(in_turn(index) for index in range(count)))

    async def _plan(self, data: bytes, size: int) -> DecodePlan:
        """Plans how to decode an image; one that its header rules out is refused before it takes a place in the queue.

        Raises:
            ImageError: the image is refused.
        """

        def read() -> DecodePlan:
            planned = plan(data, self.limits, size)
            check_budget(planned, self.budget)
            return planned

        return read() if len(data) <= _INSTANT_BYTES else await asyncio.to_thread(read)

    def _slow(self, planned: DecodePlan) -> bool:
        """Whether an image goes to the slow lane, so that it does not hold up quick ones."""
        return planned.seconds > QUICK_SECONDS or planned.cost > self.budget.small

    def _work(
        self, data: bytes, planned: DecodePlan, request: AssessmentRequest, ticket: Ticket
    ) -> tuple[schemas.Assessment, ImageAssessment, str]:
        """Runs in a worker thread; returns the answer, the assessment, and the file's SHA-256 if the audit trail needs it."""
        model = request.model
        manifest, runtime, rule = model.manifest, model.runtime, request.rule
        if request.tta and model.tta is not None:
            runtime = TtaRuntime(runtime, manifest.labels, model.tta.pool)

        def before_inference() -> Hint:
            ticket.check()
            return ticket.hint

        with _in_time(ticket):
            found = assess(
                data,
                manifest=manifest,
                runtime=runtime,
                rule=rule,
                limits=self.limits,
                before_inference=before_inference,
                budget=self.budget,
                deadline=ticket.deadline,
                planned=planned,
            )
        assessment = describe(found, manifest, rule, explain=request.explain, tta=request.tta, request_id=request.request_id)
        assessment.timing_ms.queue = round(ticket.queued_ms, 3)
        # Hashed in the worker, because 20 MB take some milliseconds.
        return assessment, found, hashlib.sha256(data).hexdigest() if self.audit is not None else ""

    def _record(self, assessment: schemas.Assessment, request: AssessmentRequest, digest: str, index: int | None) -> None:
        self.metrics.count_assessment(assessment)
        model = request.model
        if not request.tta:  # averaged scores have another distribution than the reference, which was not averaged
            score = None if assessment.malignancy is None else assessment.malignancy.probability
            self.drift.observe(model.manifest, score, assessment.novelty.score)
        if self.audit is not None:
            self.audit.record(
                answer_event(
                    assessment,
                    image_sha256=digest,
                    key_id=request.key_id,
                    index=index,
                    runtime=model.runtime.name,
                    precision=model.runtime.precision,
                )
            )

    def _record_lesion(self, found: CombinedAssessment, request: AssessmentRequest) -> None:
        manifest = request.model.manifest
        self.metrics.lesions.labels(manifest.name, manifest.version, found.verdict.decision.value).inc()
        if self.audit is not None:
            self.audit.record(lesion_event(found, request_id=request.request_id, key_id=request.key_id))


@contextmanager
def _in_time(ticket: Ticket) -> Iterator[None]:
    """Turns a decoder's lack of memory or time into errors for clients."""
    try:
        yield
    except BudgetTimeoutError as error:
        text = "Too many large images at once: there was no memory to decode this one in time. Try again in a moment."
        raise OverloadedError(text, retry_after=ticket.seconds) from error
    except DecodeTimeoutError as error:
        raise ticket.late() from error


def _raised(answers: Sequence[T | ImageError | ServingError]) -> list[T]:
    """Returns the answers, or raises the first error among them; an ``ImageError`` then names its image."""
    for index, answer in enumerate(answers):
        if isinstance(answer, ImageError):
            raise ImageError(answer.code, f"The image at index {index}: {answer.detail}") from answer
        if isinstance(answer, ServingError):
            raise answer
    return [answer for answer in answers if not isinstance(answer, (ImageError, ServingError))]
