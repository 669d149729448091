"""Assesses uploaded images: through the queue, alone or as a batch, with metrics, the audit trail and drift monitoring."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from aiderm_api import schemas
from aiderm_api.serving.answers import describe
from aiderm_api.serving.exceptions import (
    AssessmentFailedError,
    DeadlineExceededError,
    OptionNotOfferedError,
    OverloadedError,
    ServingError,
)
from aiderm_api.serving.queue import InferencePool, Ticket
from aiderm_api.serving.registry import LoadedModel
from aiderm_api.telemetry.audit import AuditTrail, answer_event
from aiderm_api.telemetry.drift import DriftMonitor
from aiderm_api.telemetry.prometheus_metrics import Metrics
from aiderm_api.uploads import Upload, too_large_text
from aiderm_core.assess import assess
from aiderm_core.imaging.budget import BudgetTimeoutError, DividedBudget
from aiderm_core.imaging.decode import DecodePlan, check_budget, plan
from aiderm_core.imaging.effort import QUICK_SECONDS
from aiderm_core.imaging.errors import DecodeTimeoutError, ImageError
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Hint
from aiderm_core.tta import TtaRuntime

log = structlog.get_logger(__name__)
# The headers of larger files may take tens of milliseconds to read, which the event loop must not spend.
_INSTANT_BYTES = 200_000


@dataclass(frozen=True)
class AssessmentRequest:
    """What a request asks for, and whose it is.

    Attributes:
        model: that assesses.
        explain: draw the heatmap as well.
        tta: average over eight orientations.
        request_id: for the answer and the log.
        key_id: of the caller's API key; None where the service asks for none.

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


@dataclass(frozen=True)
class AssessmentService:
    """Assesses images.

    Attributes:
        pool: runs the work.
        metrics: counts answers and what was dropped.
        drift: is told every answer.
        audit: records every answer; None where it is off.
        limits: allowed dimensions of an image.
        budget: bytes that decoding may hold, all images together.
    """

    pool: InferencePool
    metrics: Metrics
    drift: DriftMonitor
    audit: AuditTrail | None
    limits: Limits
    budget: DividedBudget

    async def assess(self, upload: Upload, request: AssessmentRequest, index: int | None = None) -> schemas.Assessment:
        """Assesses one image.

        Args:
            upload: the image file.
            request: what it is part of.
            index: its 0-based place in a batch.

        Raises:
            ImageError: the image cannot be assessed.
            OverloadedError, DeadlineExceededError, ModelUnavailableError: not now.
            AssessmentFailedError: the service failed; the cause has been logged.
        """
        if upload.too_large:
            raise ImageError("too_large", too_large_text(self.limits.max_bytes))
        self.metrics.upload_bytes.observe(len(upload.data))
        started = time.perf_counter()
        planned = await self._plan(upload.data, request.model.manifest.input.size)
        slow = planned.seconds > QUICK_SECONDS or planned.cost > self.budget.small
        try:
            assessment, digest = await self.pool.run(lambda ticket: self._work(upload.data, planned, request, ticket), slow=slow)
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
            manifest = request.model.manifest
            log.error("assessment failed", exc_info=error, model=manifest.name, version=manifest.version)
            raise AssessmentFailedError("The assessment failed.") from error
        assessment.timing_ms.total = round((time.perf_counter() - started) * 1000, 3)
        self._record(assessment, request, digest, index)
        return assessment

    async def assess_batch(
        self, uploads: Sequence[Upload], request: AssessmentRequest
    ) -> list[schemas.Assessment | ImageError | ServingError]:
        """Assesses several images; each has an assessment or an error of its own, in the same order.

        Raises:
            ServingError: every image failed, and not for a fault of its own; the error is that of the first.
        """
        self.metrics.batch_files.observe(len(uploads))
        # As many at once as there are workers: one batch must not fill the queue for everybody else.
        turns = asyncio.Semaphore(self.pool.workers)

        async def assess_in_turn(index: int, upload: Upload) -> schemas.Assessment | ImageError | ServingError:
            async with turns:
                try:
                    return await self.assess(upload, request, index)
                except (ImageError, ServingError) as error:
                    return error

        answers = await asyncio.gather(*(assess_in_turn(index, upload) for index, upload in enumerate(uploads)))
        first = answers[0]
        if isinstance(first, ServingError) and all(isinstance(answer, ServingError) for answer in answers):
            raise first  # the service failed as a whole, which no 200 may hide
        return answers

    async def _plan(self, data: bytes, size: int) -> DecodePlan:
        """How an image will be decoded; what its header rules out is refused before it takes a place in the queue.

        Raises:
            ImageError: it is refused.
        """

        def read() -> DecodePlan:
            planned = plan(data, self.limits, size)
            check_budget(planned, self.budget)
            return planned

        return read() if len(data) <= _INSTANT_BYTES else await asyncio.to_thread(read)

    def _work(
        self, data: bytes, planned: DecodePlan, request: AssessmentRequest, ticket: Ticket
    ) -> tuple[schemas.Assessment, str]:
        """Runs in a worker thread; the assessment, and the file's SHA-256 where the audit trail needs it."""
        model = request.model
        manifest, runtime, rule = model.manifest, model.runtime, model.rule
        if request.tta and model.tta is not None:
            runtime, rule = TtaRuntime(runtime, manifest.labels, model.tta.pool), model.tta.decision

        def before_inference() -> Hint:
            ticket.check()
            return ticket.hint

        try:
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
        except BudgetTimeoutError as error:
            text = "Too many large images at once: there was no memory to decode this one in time. Try again in a moment."
            raise OverloadedError(text, retry_after=ticket.seconds) from error
        except DecodeTimeoutError as error:
            raise ticket.late() from error
        assessment = describe(found, manifest, rule, explain=request.explain, tta=request.tta, request_id=request.request_id)
        assessment.timing_ms.queue = round(ticket.queued_ms, 3)
        # Hashed in the worker, because 20 MB take some milliseconds.
        return assessment, hashlib.sha256(data).hexdigest() if self.audit is not None else ""

    def _record(self, assessment: schemas.Assessment, request: AssessmentRequest, digest: str, index: int | None) -> None:
        self.metrics.count_assessment(assessment)
        model = request.model
        if not request.tta:  # averages have another distribution than the reference, which was made without them
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
