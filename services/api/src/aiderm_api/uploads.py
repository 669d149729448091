"""Streaming multipart uploads, in memory only: counted while they arrive, never written to disk.

python-multipart is driven directly: form parsers above it spool files to disk and take a body without its
closing boundary for a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from aiderm_api.errors.problems import (
    ClientClosedRequest,
    DeadlineExceeded,
    MalformedMultipart,
    MissingFile,
    Overloaded,
    TooLarge,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Room for boundaries, part headers and a few text fields beside the files.
FRAMING_BYTES = 64 * 1024
MAX_PARTS_BESIDE_FILES = 16
RETRY_AFTER = 2.0


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of one request; ``max_files`` None means exactly one."""

    field: str
    max_file_bytes: int
    max_total_bytes: int
    seconds: float
    max_files: int | None = None


@dataclass
class Upload:
    """One file part. ``too_large``: its data went beyond the limit of a file and were dropped."""

    data: bytes = b""
    too_large: bool = False


class MemoryBudget:
    """Bytes of uploads that all requests together may hold."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Gives back, at its end, what was taken through it."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.held -= lease.taken


class Lease:
    """One request's share of a MemoryBudget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, count: int) -> None:
        """Reserves ``count`` bytes.

        Raises:
            Overloaded: all requests together hold too much already.
        """
        if self._budget.held + count > self._budget.limit:
            raise Overloaded("Too many uploads at once. Try again in a moment.", retry_after=RETRY_AFTER)
        self._budget.held += count
        self.taken += count


@dataclass
class _Part:
    name: str = ""
    filename: str | None = None
    wanted: bool = False
    upload: Upload | None = None
    buffer: bytearray | None = None


class _Collector:
    """Callbacks of the parser: keeps the wanted files, counts the rest."""

    def __init__(self, boundary: bytes, limits: UploadLimits, lease: Lease) -> None:
        self._limits = limits
        self._lease = lease
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._others = 0
        self.uploads: list[Upload] = []
        self.seen: list[str] = []
        self.complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = python_multipart.MultipartParser(boundary, callbacks)

    def write(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def _on_part_begin(self) -> None:
        self._part = _Part()
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind.lower() != b"form-data" or b"name" not in options:
            raise MalformedMultipart(
                'Each part needs a header like: Content-Disposition: form-data; name="file"; filename="a.jpg".'
            )
        filename = options.get(b"filename", options.get(b"filename*"))
        self._part = part = _Part(
            name=options[b"name"].decode("utf-8", "replace"),
            filename=None if filename is None else filename.decode("utf-8", "replace"),
        )
        part.wanted = part.name == self._limits.field and part.filename is not None
        if not part.wanted:
            self._others += 1
            if self._others > MAX_PARTS_BESIDE_FILES:
                raise MalformedMultipart(f"Too many other parts. Allowed beside the files: {MAX_PARTS_BESIDE_FILES}.")
            if len(self.seen) < 8:
                self.seen.append(f"{part.name[:40]!r} ({'text' if part.filename is None else 'file'})")
            return
        most = self._limits.max_files or 1
        if len(self.uploads) == most:
            if self._limits.max_files is None:
                raise MalformedMultipart(
                    f"Received: several parts named {part.name!r}. Allowed: one; /predict/batch takes several pictures."
                )
            raise TooLarge(f"Received: more than {most} files. Allowed: {most}.")
        part.upload, part.buffer = Upload(), bytearray()
        self.uploads.append(part.upload)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.upload is None or part.buffer is None:
            return
        if len(part.buffer) + end - start > self._limits.max_file_bytes:
            if self._limits.max_files is None:
                raise file_too_large(self._limits.max_file_bytes)
            part.upload.too_large, part.buffer = True, None
            return
        self._lease.take(end - start)
        part.buffer += data[start:end]

    def _on_part_end(self) -> None:
        part = self._part
        if part.upload is not None and part.buffer is not None:
            part.upload.data, part.buffer = bytes(part.buffer), None
            if not part.upload.data and not part.filename:  # a form sent without choosing a file
                self.uploads.remove(part.upload)
                self.seen.append(f"{part.name[:40]!r} (no file chosen)")

    def _on_end(self) -> None:
        self.complete = True


def file_too_large(limit: int) -> TooLarge:
    """The problem of one file beyond its limit."""
    return TooLarge(f"Received: a file of more than {limit:,} bytes. Allowed: {limit:,} bytes ({limit / 1e6:g} MB).")


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/form-data header.

    Raises:
        MalformedMultipart: another type, or no boundary.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind.lower() != b"multipart/form-data":
        raise MalformedMultipart(f"Received: content type {content_type[:80]!r}. Allowed: multipart/form-data with a file part.")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedMultipart("Received: multipart/form-data without a boundary parameter. Allowed: one with it.")
    return boundary


async def read_uploads(request: Request, limits: UploadLimits, lease: Lease) -> list[Upload]:
    """Reads the wanted files of a multipart body; always at least one.

    The body is refused as soon as it has become too long, or at once if its Content-Length says that it will.

    Raises:
        MalformedMultipart, MissingFile, TooLarge, Overloaded, DeadlineExceeded, ClientClosedRequest: see problems.
    """
    boundary = boundary_of(request.headers.get("content-type", ""))
    most = limits.max_total_bytes + FRAMING_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _body_too_large(f"{int(declared):,} bytes", limits)
    try:
        collector = _Collector(boundary, limits, lease)
        async with asyncio.timeout(limits.seconds):
            count = 0
            async for chunk in request.stream():
                count += len(chunk)
                if count > most:
                    raise _body_too_large(f"more than {most:,} bytes", limits)
                collector.write(chunk)
    except FormParserError as error:
        raise MalformedMultipart("Received: a body that is not multipart/form-data with the boundary of its header.") from error
    except TimeoutError as error:
        raise DeadlineExceeded(f"The upload did not arrive in time. Allowed: {limits.seconds:g} s.") from error
    except ClientDisconnect as error:
        raise ClientClosedRequest("The client hung up during its upload.") from error
    if not collector.complete:
        raise MalformedMultipart("Received: a multipart body without its closing boundary, so it may be incomplete.")
    if not collector.uploads:
        received = ", ".join(collector.seen) or "no parts"
        raise MissingFile(f"Received: {received}. Allowed: a file part named {limits.field!r} with a filename.")
    return collector.uploads


def _body_too_large(received: str, limits: UploadLimits) -> TooLarge:
    limit = limits.max_total_bytes
    return TooLarge(f"Received: a body of {received}. Allowed: {limit:,} bytes ({limit / 1e6:g} MB).")
