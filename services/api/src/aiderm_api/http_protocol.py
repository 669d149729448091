"""HTTP/1.1 by httptools, in a third of h11's time, with the bound that it lacks: how long a request's head may grow."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aiderm_api.errors.problems import MEDIA_TYPE, MalformedRequest
from aiderm_api.telemetry.observability import new_request_id

MAX_HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections that send more than ``MAX_HEAD_BYTES`` of headers, trailers or chunk extensions.

    Counted is what arrives without bringing a body's bytes or an end nearer. The parser keeps all of it in memory.
    """

    _without_progress = 0

    def data_received(self, data: bytes) -> None:
        """Also answers 400 when the bound is passed, or just hangs up where an answer is on its way already."""
        self._without_progress += len(data)
        super().data_received(data)
        if self._without_progress <= MAX_HEAD_BYTES or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(f"Received: more than {MAX_HEAD_BYTES:,} bytes of headers. Allowed: {MAX_HEAD_BYTES:,}.")

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for what is no HTTP; its plain text names neither what came nor what is allowed."""
        self._refuse("Received: no HTTP/1.1 request. Allowed: one with a method, a path and headers.")

    def _refuse(self, detail: str) -> None:
        """Answers with a problem document and hangs up; nothing of the application has seen the request."""
        request_id = new_request_id()
        body = MalformedRequest(detail).problem(request_id).model_dump_json(exclude_none=True)
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}X-Request-ID: {request_id}\r\nConnection: close\r\n\r\n{body}".encode("ascii"))
        self.transport.close()

    def on_headers_complete(self) -> None:
        """The parser's callback."""
        self._without_progress = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser's callback."""
        self._without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser's callback."""
        self._without_progress = 0
        super().on_message_complete()
