"""Fuzz target: the multipart parser. Run as ``python -m tests.fuzz.multipart [libFuzzer's options] CORPUS``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import atheris
from tests.fuzz.guard import fuzz

with atheris.instrument_imports(include=["aiderm_api.multipart", "python_multipart"]):
    from aiderm_api.multipart import UploadLimits, read_uploads

from starlette.requests import Request

from aiderm_api.errors.problems import ProblemError
from aiderm_api.memory_budget import MemoryBudget
from aiderm_api.serving.exceptions import ServingError

_MOST_PIECES = 100  # more would only cost time
_LOOP = asyncio.new_event_loop()
_BUDGET = MemoryBudget(200_000)
_LIMITS = [UploadLimits("file", 10_000, 10_000, 5.0), UploadLimits("files", 10_000, 50_000, 5.0, max_files=3)]


def target(data: bytes) -> None:
    """Tests one input: a byte that selects the limits and the chunk size, a line with the content type, and the body."""
    choice, (content_type, _, body) = data[0] if data else 0, data[1:].partition(b"\n")
    piece = max((1, 7, 100, 100_000)[choice >> 1 & 3], len(body) // _MOST_PIECES)
    limits = _LIMITS[choice & 1]
    try:
        with _BUDGET.lease() as lease:
            uploads = _LOOP.run_until_complete(read_uploads(_request(content_type, body, piece), limits, lease))
    except (ProblemError, ServingError):
        uploads = None
    if uploads is not None and not (uploads and sum(len(upload.data) for upload in uploads) <= len(body)):
        raise AssertionError(f"odd uploads: {len(uploads)}")
    if _BUDGET.held:
        raise AssertionError(f"{_BUDGET.held} bytes were not given back")


def _request(content_type: bytes, body: bytes, piece: int) -> Request:
    return Request({"type": "http", "headers": [(b"content-type", content_type)]}, _receiver(body, piece))


def _receiver(body: bytes, piece: int) -> Callable[[], Awaitable[dict[str, Any]]]:
    parts = [body[at : at + piece] for at in range(0, len(body), piece)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    return receive


def seeds() -> list[bytes]:
    """Forms like those of browsers and libraries, and broken ones."""
    kind = b"multipart/form-data; boundary=XX\n"
    part = b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n'
    text = b'--XX\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    extended = b"--XX\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''na%C3%AFve.png\r\n\r\n\x89PNG\r\n"
    forms = [
        kind + part % (b"file", b"\xff\xd8" * 50) + b"--XX--\r\n",
        kind + part % (b"files", b"one") + part % (b"files", b"two") + text + b"--XX--\r\n",
        kind + extended + b"--XX--",
        kind + b"preamble\r\n" + text * 20 + b"--XX--epilogue",
        kind + part % (b"file", b"\r\n--X\r\n--XX-\r\n--XXX") + b"--XX",
        b'multipart/form-data; boundary="a b\\"c"\n--a b"c--\r\n',
        b"multipart/form-data; boundary=" + b"x" * 300 + b"\n--" + b"x" * 300,
        b"text/plain\nhello",
    ]
    return [bytes([choice]) + form for form in forms for choice in (0, 1, 6, 7)]


if __name__ == "__main__":
    fuzz(target, seeds())
