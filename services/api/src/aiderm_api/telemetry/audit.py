"""Writes the audit trail: one line of JSON for each answer, to a separate stream that the operator stores.

An answer neither waits for its line nor fails without it: a thread writes the lines from a bounded queue. A line that the stream
does not accept is lost, but never silently: the loss is logged and counted, the trail itself reports how many lines are missing
as soon as it can be written again, and the sequence numbers show the gap. Each line is passed to the operating system at once, so
it survives the end of the process; a power failure may lose the last lines.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import structlog

from aiderm_api.schemas import Assessment, Comparison
from aiderm_api.settings import SettingsError
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.combine import CombinedAssessment
from aiderm_core.runtime import Outputs, Runtime

OFF = "off"
QUEUE_SIZE = 10_000  # about 10 MB
_STANDARD = {"stdout": 1, "/dev/stdout": 1, "stderr": 2, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"(?:/dev|/proc/self)/fd/([0-9]+)")
log = structlog.get_logger(__name__)


def answer_event(
    assessment: Assessment, *, image_sha256: str, key_id: str | None, index: int | None, runtime: str, precision: str
) -> dict[str, Any]:
    """Returns the event for one answer: what was requested, by whom, and everything that led to the decision.

    Args:
        assessment: the answer.
        image_sha256: SHA-256 of the uploaded bytes.
        key_id: id of the caller's key; None if the service requires no keys.
        index: 0-based place of the image in its batch; None for a single image.
        runtime: engine that computed the outputs.
        precision: precision of the serving variant.
    """
    malignancy = assessment.malignancy
    return {
        "event": "answer",
        "request_id": assessment.request_id,
        "index": index,
        "key": key_id,
        "image_sha256": image_sha256,
        "model": {**assessment.model.model_dump(), "runtime": runtime, "precision": precision, "thorough": assessment.thorough},
        "outputs": {
            "malignancy": None if malignancy is None else malignancy.model_dump(mode="json"),
            "classes": {item.id: item.probability for item in assessment.classes},
            "novelty": assessment.novelty.model_dump(),
        },
        "decision": assessment.decision.value,
        "reasons": [reason.code for reason in assessment.reasons],
        "quality_warnings": [warning.code for warning in assessment.quality.warnings],
    }


def lesion_event(found: CombinedAssessment, *, request_id: str, key_id: str | None) -> dict[str, Any]:
    """Returns the event for one lesion; it follows the events of the lesion's images.

    Args:
        found: the lesion's assessment.
        request_id: the request's id, which the events of the images hold too.
        key_id: id of the caller's key; None if the service requires no keys.
    """
    return {
        "event": "lesion",
        "request_id": request_id,
        "key": key_id,
        "counted": found.counted,
        "malignancy": found.malignancy,
        "disagreement": None if found.disagreement is None else asdict(found.disagreement),
        "decision": found.verdict.decision.value,
        "reasons": [reason.code for reason in found.verdict.reasons],
    }


def comparison_event(found: Comparison, *, key_id: str | None) -> dict[str, Any]:
    """Returns the event for one comparison; it follows those of its images. ``key_id`` is as for ``lesion_event``."""
    return {
        "event": "comparison",
        "request_id": found.request_id,
        "key": key_id,
        "result": found.result,
        "reasons": [reason.code for reason in found.reasons],
        "growth": None if found.growth is None else found.growth.model_dump(),
        "colour_change": None if found.colour_change is None else found.colour_change.model_dump(),
    }


def tensor_event(
    outputs: Outputs,
    *,
    request_id: str,
    image_sha256: str,
    key_id: str | None,
    index: int,
    manifest: Manifest,
    runtime: Runtime,
) -> dict[str, Any]:
    """Returns the event for an image that was sent as a tensor; it has neither quality metrics nor a decision.

    Args:
        outputs: the graph's outputs for this one image.
        request_id: id of the request.
        image_sha256: SHA-256 of the tensor's bytes.
        key_id: id of the caller's key; None if the service requires no keys.
        index: 0-based place of the image in its request.
        manifest: the model's manifest.
        runtime: the runtime that computed the outputs.
    """
    return {
        "event": "tensor",
        "request_id": request_id,
        "index": index,
        "key": key_id,
        "image_sha256": image_sha256,
        "model": {"name": manifest.name, "version": manifest.version, "runtime": runtime.name, "precision": runtime.precision},
        "outputs": {
            "malignancy": float(outputs.malignancy[0]),
            "classes": {label.id: float(value) for label, value in zip(manifest.labels, outputs.probability[0], strict=True)},
            "novelty": float(outputs.novelty[0]),
        },
    }


class AuditTrail:
    """Appends events to a stream.

    Args:
        target: ``stdout``, ``/dev/fd/N``, or a path: a file (created with mode 0600) or a named pipe with a reader.
        queue_size: events that may wait for the stream.

    Raises:
        SettingsError: the stream cannot be opened, or must not be used for an audit trail.
    """

    def __init__(self, target: str, queue_size: int = QUEUE_SIZE) -> None:
        self._target = target
        self._path, self._descriptor = _open(target)
        self._name = secrets.token_hex(8)  # of this run of the service; events are numbered within it
        self._queue: deque[bytes] = deque()
        self._queue_size = queue_size
        self._changed = threading.Condition()
        self._closed = False
        self._sequence = 0
        self._unreported = 0
        self._torn = False
        self.written = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self.record({"event": "opened"})

    def start(self) -> None:
        """Starts writing."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that have not been written yet."""
        return len(self._queue)

    def record(self, event: Mapping[str, Any]) -> None:
        """Queues an event; returns at once."""
        with self._changed:
            self._sequence += 1
            line = self._line(event, self._sequence)
            if len(self._queue) >= self._queue_size:
                self._count_loss("the stream does not keep up")
                return
            self._queue.append(line)
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Writes the queued events, for ``seconds`` at most."""
        self.record({"event": "closed", "lost": self.lost})
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.error("audit trail not finished", lost=self.waiting)

    def _line(self, event: Mapping[str, Any], sequence: int | None) -> bytes:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        numbered = {"time": time, "trail": self._name, "sequence": sequence, **event}
        return json.dumps(numbered, separators=(",", ":"), allow_nan=False).encode("utf-8") + b"\n"

    def _count_loss(self, cause: str) -> None:
        """Counts a lost event. The caller must hold the lock."""
        if not self._unreported:
            log.error("audit events are being lost", cause=cause, target=self._target)
        self.lost += 1
        self._unreported += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    break
                line = self._queue[0]  # stays in the queue until it is written
                gap = self._unreported
                if gap:
                    line = self._line({"event": "lost", "count": gap}, None) + line
            try:
                self._write(line)
            except OSError as error:
                with self._changed:
                    self._count_loss(error.strerror or type(error).__name__)
                    self._queue.popleft()  # last, so that the event is counted before it leaves the queue
                continue
            with self._changed:
                self.written += 1
                self._unreported -= gap
                self._queue.popleft()
            if gap:
                log.warning("audit trail writable again", lost=gap)
        os.close(self._descriptor)

    def _write(self, line: bytes) -> None:
        self._reopen_if_rotated()
        # A line that broke off in the middle must not spoil the next one.
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            count = os.write(self._descriptor, rest)
            rest = rest[count:]
            self._torn = bool(rest)

    def _reopen_if_rotated(self) -> None:
        """Reopens a file that was moved away, as log rotation does."""
        if self._path is None:
            return
        own = os.fstat(self._descriptor)
        if not stat.S_ISREG(own.st_mode):
            return
        with suppress(FileNotFoundError):
            there = os.stat(self._path)  # noqa: PTH116  (beside fstat)
            if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                return
        try:
            _, descriptor = _open(self._path)
        except SettingsError as error:
            raise OSError(0, str(error)) from error
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._torn = False


def open_trail(target: str) -> AuditTrail | None:
    """Opens the trail that ``AIDERM_AUDIT`` names, without starting it; returns None if it is off.

    Raises:
        SettingsError: see AuditTrail.
    """
    return None if target.lower() == OFF else AuditTrail(target)


def _open(target: str) -> tuple[str | None, int]:
    """Opens a target. Returns its path, if the target is one, and a file descriptor."""
    match = _DESCRIPTOR.fullmatch(target)
    number = int(match[1]) if match else _STANDARD.get(target.lower())
    try:
        if number == 2:
            raise _unusable(target, "the log goes to stderr", "stdout, another descriptor, or a file")
        if number is not None:
            return None, os.dup(number)  # opening /dev/stdout again fails if it is another user's pipe
        # O_NONBLOCK: otherwise this would block on a named pipe that nobody reads.
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _unusable(
            target, f"user {os.geteuid()} cannot append to it: {error.strerror}", "off, stdout, a writable file"
        ) from error
    os.set_blocking(descriptor, True)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and mode & 0o022:
        os.close(descriptor)
        raise _unusable(target, "others than its owner may rewrite it", f"a file of which that is not so: chmod go-w {target}")
    return target, descriptor


def _unusable(target: str, why: str, allowed: str) -> SettingsError:
    return SettingsError(f"AIDERM_AUDIT: {why}. Received: {target!r}. Allowed: {allowed}.")
