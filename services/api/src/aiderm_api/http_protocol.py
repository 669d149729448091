"""HTTP/1.1 with httptools, in a third of h11's time, and with the limits that a publicly reachable port needs.

Heads are limited in size and time, pipelined requests in number, and idle connections are closed. At the limit of connections,
idle ones make room for new ones, so that ``/health`` stays reachable. Each request costs only a few assignments here: one pass a
second finds overdue connections.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from aiderm_api.errors.problems import (
    MEDIA_TYPE,
    HeadersTooLarge,
    MalformedRequest,
    Overloaded,
    ProblemError,
    RequestTimeout,
)
from aiderm_api.hang_up import ARRIVAL, HANG_UP, Arrival, HangUp
from aiderm_api.middleware.request_context import SECURITY_HEADERS, new_request_id
from aiderm_api.middleware.unread_body import UnreadBody

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
MAX_PIPELINED = 8  # requests that wait behind the one being answered
RESERVE = 64  # connections over the limit that may still ask for health; all further ones are refused at once
_ALWAYS_ANSWERED = frozenset(
    f"{prefix}/health{part}".encode() for prefix in ("", "/api", "/v2", "/api/v2") for part in ("", "/live", "/ready")
)


class Connections(ServerState):
    """The connections of one server; those in ``waiting`` have no request in progress, the longest wait first."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: OrderedDict[BoundedProtocol, None] = OrderedDict()

    def close_overdue(self) -> None:
        """Closes connections whose next request does not arrive in time."""
        for connection in list(self.waiting):
            connection.close_if_overdue()

    def make_room(self, newcomer: BoundedProtocol) -> bool:
        """Closes the connection that has waited longest for its next request; False when all others are being answered."""
        oldest = next(iter(self.waiting), newcomer)
        if oldest is newcomer:
            return False
        oldest.evict()
        return True


class BoundedProtocol(HttpToolsProtocol):
    """One connection and its limits.

    ``MAX_HEAD_BYTES`` limits headers, trailers and chunk extensions, which the parser keeps in memory: it counts the bytes that
    have arrived since the last end of a head, part of a body or end of a message. ``HEAD_SECONDS`` limits the time from the first
    byte of a request to the end of its head, and the wait for the first byte on a new connection; ``keep_alive_seconds`` limits
    the time between two requests, ``MAX_PIPELINED`` the requests that wait behind the one being answered.
    """

    server_state: Connections
    pipeline: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._max_connections = self.limit_concurrency or 0
        self.limit_concurrency = None  # uvicorn would answer with plain text, and count idle connections too
        self._without_progress = 0
        self._waiting_since = 0.0
        self._head_since: float | None = None
        self._used = False
        self._over_limit = False
        self._deaf = False  # too many requests are pipelined: the rest is dropped, the connection ends after the last answer
        self._muted = False  # while a head is fed to the parser a second time
        self._hang_up = HangUp()
        self._arrival = Arrival()

    def connection_made(self, transport: Any) -> None:
        """Asyncio's callback."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self._max_connections and not self.server_state.make_room(self):
            self._over_limit = True
            if len(self.connections) > self._max_connections + RESERVE:
                self._refuse(self._at_the_limit())

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback."""
        self.server_state.waiting.pop(self, None)
        super().connection_lost(exc)
        self._hang_up.tell()

    def _wait(self) -> None:
        self._waiting_since, self._head_since = self.loop.time(), None
        self.server_state.waiting[self] = None

    def close_if_overdue(self) -> None:
        """Ends a connection that has waited too long for the rest of a head, or for another request."""
        now = self.loop.time()
        if self._head_since is not None:
            if now - self._head_since > HEAD_SECONDS:
                self._refuse(
                    RequestTimeout(f"Received: an incomplete head. Allowed: one that is complete within {HEAD_SECONDS:g} s.")
                )
        elif now - self._waiting_since > (self.timeout_keep_alive if self._used else HEAD_SECONDS):
            self.transport.close()

    def evict(self) -> None:
        """Closes a waiting connection to make room for another one."""
        self.server_state.waiting.pop(self, None)
        if self._head_since is None:
            self.transport.close()
        else:
            self._refuse(self._at_the_limit())

    def data_received(self, data: bytes) -> None:
        """Parses data. Refuses a head that is too large or malformed, or aborts the connection if an answer has begun."""
        if self._deaf or self.transport.is_closing():
            return
        if self._head_since is None:
            self._head_since = self.loop.time()
        self._without_progress += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse_unless_answering(
                MalformedRequest("Received: no HTTP/1.1 request. Allowed: one with a method, a path and headers.")
            )
            return
        if self._without_progress > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_unless_answering(
                HeadersTooLarge(f"Received: more than {MAX_HEAD_BYTES:,} bytes of headers. Allowed: {MAX_HEAD_BYTES:,}.")
            )

    def _feed(self, data: bytes) -> None:
        """Parses ``data``. An Upgrade header is ignored, as RFC 9110, section 7.8 allows if a server lacks the protocol.

        The parser stops after the head of such a request and skips its body. A new parser is therefore fed a head with the same
        framing, with its callbacks muted, and continues from there.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
            else:
                return
            if self._deaf:
                return
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            framing = (item for item in self.headers if item[0] in (b"content-length", b"transfer-encoding"))
            head = b"".join([b"POST / HTTP/1.1\r\n", *(b"%s: %s\r\n" % item for item in framing), b"\r\n"])
            self._muted = True
            self.parser.feed_data(head)
            self._muted = False

    def _expects_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")) for name, value in self.headers
        )

    def _refuse_unless_answering(self, problem: ProblemError) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(problem)

    def _refuse(self, problem: ProblemError) -> None:
        """Answers with a problem document and closes the connection; the application never sees the request."""
        self.server_state.waiting.pop(self, None)
        request_id = new_request_id()
        document = problem.problem(request_id)
        body = document.model_dump_json(exclude_none=True).encode()
        head = [
            f"HTTP/1.1 {document.status} {document.title}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            f"X-Request-ID: {request_id}",
            *(f"{name.decode()}: {value.decode()}" for name, value in SECURITY_HEADERS.items()),
            *([f"Retry-After: {document.retry_after}"] if document.retry_after else []),
            "Connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + body)
        self.transport.close()

    def _at_the_limit(self) -> Overloaded:
        return Overloaded(
            f"Received: one connection more than the {self._max_connections} that may be open. Try again in a moment.",
            retry_after=1,
        )

    async def _answer_at_the_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._at_the_limit().response(new_request_id())
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    def on_message_begin(self) -> None:
        """The parser's callback."""
        if self._muted:
            return
        if len(self.pipeline) >= MAX_PIPELINED and not self._deaf:
            self._deaf = True
            last, _ = self.pipeline[0]
            last.keep_alive = False
        if not self._deaf:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """The parser's callback."""
        if not (self._muted or self._deaf):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's callback."""
        if not (self._muted or self._deaf):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser's callback."""
        if self._muted or self._deaf:
            return
        self._without_progress = 0
        self._head_since = None
        self._used = True
        self.server_state.waiting.pop(self, None)
        app = self.app
        if self._over_limit:
            self._over_limit = len(self.connections) > self._max_connections
            if self._over_limit and self.url.partition(b"?")[0] not in _ALWAYS_ANSWERED:
                self.app = UnreadBody(self._answer_at_the_limit, seconds=1.0)
        super().on_headers_complete()
        self.app = app
        scope = cast("Scope", self.scope)
        scope[HANG_UP] = self._hang_up
        scope[ARRIVAL] = self._arrival = Arrival()

    def on_body(self, body: bytes) -> None:
        """The parser's callback."""
        self._without_progress = 0
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser's callback."""
        self._without_progress = 0
        if self._deaf or self._muted or (self.parser.should_upgrade() and self._expects_body()):
            return
        self._arrival.complete = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Starts the next pipelined request, or waits for one; uvicorn would set a timer for each wait."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._wait()
            self.flow.resume_reading()
