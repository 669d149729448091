"""Reads multipart uploads as a stream, in memory only: their size is checked while they arrive, and nothing is written to disk.

python-multipart is used directly, because form parsers built on it spool files to disk and accept a body that lacks its closing
boundary. A small body is scanned once it is complete, in a tenth of that parser's time; the parser handles unusual bodies.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from aiderm_api.errors.problems import ClientClosedRequest, DeadlineExceeded, MalformedMultipart, MissingFile, TooLarge
from aiderm_api.hang_up import ARRIVAL, Arrival
from aiderm_api.memory_budget import Lease
from aiderm_api.uploads import Upload, too_large_text

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Room for boundaries, part headers and a few text fields beside the files.
FRAMING_BYTES = 64 * 1024
MAX_OTHER_PARTS = 16
UPLOAD_WINDOW_SECONDS = 10.0
MAX_NAMED_PARTS = 8  # that a problem document lists
SMALL_BODY_BYTES = 1_000_000
_USUAL_HEAD_BYTES = 2048  # of a part, in at most _USUAL_HEADERS lines
_USUAL_HEADERS = 4
_USUAL_HEADER = re.compile(rb"([A-Za-z-]{1,64}): ([!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?)")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_EXTENDED_FILENAME = re.compile(rb";\s*filename\*\s*=\s*([^;\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class UploadLimits:
    """Limits of one request.

    Attributes:
        field: name of the parts that hold images; parts named ``field[]`` count too if several are allowed.
        max_file_bytes: size of one file.
        max_total_bytes: size of all files of the request.
        seconds: time for the whole body to arrive.
        max_files: number of files; None means exactly one.
        window_seconds: time in which ``window_bytes`` must arrive, repeatedly until the body is complete.
        window_bytes: 0 lets an upload stall until ``seconds`` have passed.
    """

    field: str
    max_file_bytes: int
    max_total_bytes: int
    seconds: float
    max_files: int | None = None
    window_seconds: float = UPLOAD_WINDOW_SECONDS
    window_bytes: int = 0


@dataclass
class _FormPart:
    name: str = ""
    filename: str | None = None
    upload: Upload | None = None
    buffer: bytearray | None = None


class _Collector:
    """The parser's callbacks: keeps the wanted files and counts the other parts.

    ``lease`` is None if the bytes of the body have already been counted.
    """

    def __init__(self, boundary: bytes, limits: UploadLimits, lease: Lease | None) -> None:
        self._boundary = boundary
        self._limits = limits
        self._wanted = {limits.field} if limits.max_files is None else {limits.field, f"{limits.field}[]"}
        self._lease = lease
        self._part = _FormPart()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._others = 0
        self.uploads: list[Upload] = []
        self.seen: list[str] = []
        self.complete = False
        self._parser: python_multipart.MultipartParser | None = None

    def write(self, chunk: bytes) -> None:
        if self._parser is None:
            self._parser = self._new_parser()
        self._parser.write(chunk)

    def take(self, body: bytes) -> None:
        """Collects the parts of a complete body."""
        parts = usual_parts(body, self._boundary)
        if parts is None:
            self.write(body)
            return
        for self._disposition, start, end in parts:
            self._on_headers_finished()
            self._on_part_data(body, start, end)
            self._on_part_end()
        self._on_end()

    def _new_parser(self) -> python_multipart.MultipartParser:
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
        return python_multipart.MultipartParser(self._boundary, callbacks)

    def _on_part_begin(self) -> None:
        self._part = _FormPart()
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
        self._part = part = _part_of(self._disposition)
        if part.name in self._wanted and part.filename is not None:
            self._begin_file(part)
        else:
            self._skip(part)

    def _begin_file(self, part: _FormPart) -> None:
        allowed = self._limits.max_files
        if allowed is None and self.uploads:
            raise MalformedMultipart(
                f"Received: several parts named {part.name!r}. Allowed: one; /predict/batch takes several images."
            )
        if len(self.uploads) == (allowed or 1):
            raise TooLarge(f"Received: more than {allowed} files. Allowed: {allowed}.")
        part.upload, part.buffer = Upload(), bytearray()
        self.uploads.append(part.upload)

    def _skip(self, part: _FormPart) -> None:
        self._others += 1
        if self._others > MAX_OTHER_PARTS:
            raise MalformedMultipart(f"Too many other parts. Allowed beside the files: {MAX_OTHER_PARTS}.")
        self._note(part, "text" if part.filename is None else "file")

    def _note(self, part: _FormPart, what: str) -> None:
        if len(self.seen) < MAX_NAMED_PARTS:
            self.seen.append(f"{part.name[:40]!r} ({what})")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.upload is None or part.buffer is None:
            return
        if len(part.buffer) + end - start > self._limits.max_file_bytes:
            if self._limits.max_files is None:
                raise TooLarge(too_large_text(self._limits.max_file_bytes))
            part.upload.too_large, part.buffer = True, None
            return
        if self._lease is not None:
            self._lease.take(end - start)
        part.buffer += data[start:end]

    def _on_part_end(self) -> None:
        part = self._part
        if part.upload is not None and part.buffer is not None:
            part.upload.data, part.buffer = bytes(part.buffer), None
            if not part.upload.data and not part.filename:  # a form that was sent without choosing a file
                self.uploads.remove(part.upload)
                self._note(part, "no file chosen")

    def _on_end(self) -> None:
        self.complete = True


def _part_of(disposition: bytes) -> _FormPart:
    """Name and filename of a part; RFC 5987's ``filename*``, which some libraries send, replaces a missing ``filename``.

    Raises:
        MalformedMultipart: the part has no name.
    """
    kind, options = parse_options_header(disposition)
    if kind.lower() != b"form-data" or b"name" not in options:
        raise MalformedMultipart(
            "Received: a part without a name. "
            'Allowed: a header like Content-Disposition: form-data; name="file"; filename="a.jpg".'
        )
    filename = options.get(b"filename")
    if filename is None and (extended := _EXTENDED_FILENAME.search(_QUOTED.sub(b'""', disposition))):
        filename = unquote_to_bytes(extended[1].split(b"'")[-1])  # charset'language'name
    return _FormPart(
        name=options[b"name"].decode("utf-8", "replace"),
        filename=None if filename is None else filename.decode("utf-8", "replace"),
    )


def usual_parts(body: bytes, boundary: bytes) -> list[tuple[bytes, int, int]] | None:
    """Each part's Content-Disposition, and where its data begin and end; None for a body in an unusual form."""
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:]) or len(boundary) > 70:  # RFC 2046, section 5.1.1
        return None
    parts: list[tuple[bytes, int, int]] = []
    at = len(delimiter) - 2
    while body.startswith(b"\r\n", at):
        start = body.find(b"\r\n\r\n", at + 2, at + _USUAL_HEAD_BYTES)
        end = body.find(delimiter, start + 4)
        headers = body[at + 2 : start].split(b"\r\n")
        if start < 0 or end < 0 or len(headers) > _USUAL_HEADERS:
            return None
        disposition = b""
        for line in headers:
            header = _USUAL_HEADER.fullmatch(line)
            if header is None:
                return None
            if header[1].lower() == b"content-disposition":
                disposition = header[2]
        parts.append((disposition, start + 4, end))
        at = end + len(delimiter)
    return parts if body[at:] in (b"--", b"--\r\n") else None


def boundary_of(content_type: str) -> bytes:
    """Returns the boundary in a Content-Type header.

    Raises:
        MalformedMultipart: the type is not multipart/form-data, or it has no boundary.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind.lower() != b"multipart/form-data":
        raise MalformedMultipart(f"Received: content type {content_type[:80]!r}. Allowed: multipart/form-data with a file part.")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedMultipart("Received: multipart/form-data without a boundary parameter. Allowed: one with it.")
    return boundary


async def read_uploads(request: Request, limits: UploadLimits, lease: Lease) -> list[Upload]:
    """Reads the wanted files of a multipart body; returns at least one.

    The body is refused as soon as it is too long, or at once if its Content-Length is.

    Raises:
        MalformedMultipart, MissingFile, TooLarge, Overloaded, DeadlineExceeded, ClientClosedRequest: see problems.
    """
    boundary = boundary_of(request.headers.get("content-type", ""))
    declared = request.headers.get("content-length", "")
    small = declared.isdecimal() and int(declared) <= min(SMALL_BODY_BYTES, limits.max_file_bytes)
    collector = _Collector(boundary, limits, None if small else lease)
    try:
        if small:
            collector.take(await _read_small_body(request, limits, lease))
        else:
            await read_body(request, limits, collector.write)
    except FormParserError as error:
        raise MalformedMultipart("Received: a body that is not multipart/form-data with the boundary of its header.") from error
    if not collector.complete:
        raise MalformedMultipart("Received: a multipart body without its closing boundary, so it may be incomplete.")
    if not collector.uploads:
        received = ", ".join(collector.seen) or "no parts"
        raise MissingFile(f"Received: {received}. Allowed: a file part named {limits.field!r} with a filename.")
    return collector.uploads


async def _read_small_body(request: Request, limits: UploadLimits, lease: Lease) -> bytes:
    chunks: list[bytes] = []
    arrival: Arrival | None = request.scope.get(ARRIVAL)
    if arrival is not None and arrival.complete:  # nothing to wait for, so no time to limit
        while (message := await request.receive())["type"] == "http.request" and message["more_body"]:
            chunks.append(message["body"])
        if message["type"] != "http.request":
            raise ClientClosedRequest("The client disconnected during its upload.")
        chunks.append(message["body"])
        body = b"".join(chunks)
        lease.take(len(body))
        return body

    def write(chunk: bytes) -> None:
        lease.take(len(chunk))
        chunks.append(chunk)

    await read_body(request, limits, write)
    return b"".join(chunks)  # one chunk is not copied


async def read_body(request: Request, limits: UploadLimits, write: Callable[[bytes], None]) -> None:
    """Feeds a body to ``write``; a stalled upload is cut off, so that it cannot hold memory indefinitely.

    Raises:
        TooLarge, DeadlineExceeded, ClientClosedRequest: see problems.
    """
    most = limits.max_total_bytes + FRAMING_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _body_too_large(f"{int(declared):,} bytes", limits)
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.seconds
    count = window_start = 0
    try:
        async with asyncio.timeout_at(_window_end(loop.time(), end, limits)) as timeout:
            async for chunk in request.stream():
                count += len(chunk)
                if count > most:
                    raise _body_too_large(f"more than {most:,} bytes", limits)
                write(chunk)
                if limits.window_bytes and count - window_start >= limits.window_bytes:
                    window_start = count
                    timeout.reschedule(_window_end(loop.time(), end, limits))
    except ClientDisconnect as error:
        raise ClientClosedRequest("The client disconnected during its upload.") from error
    except TimeoutError as error:
        if loop.time() >= end:
            raise DeadlineExceeded(f"The upload did not arrive in time. Allowed: {limits.seconds:g} s.") from error
        raise DeadlineExceeded(
            f"The upload stalled. Received: {count - window_start:,} bytes in {limits.window_seconds:g} s. "
            f"Allowed: at least {limits.window_bytes:,}."
        ) from error


def _window_end(now: float, end: float, limits: UploadLimits) -> float:
    return min(end, now + limits.window_seconds) if limits.window_bytes else end


def _body_too_large(received: str, limits: UploadLimits) -> TooLarge:
    limit = limits.max_total_bytes
    return TooLarge(f"Received: a body of {received}. Allowed: {limit:,} bytes ({limit / 1e6:g} MB).")
