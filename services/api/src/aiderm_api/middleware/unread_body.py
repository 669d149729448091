"""Handles answers that are sent before the whole request body has arrived, such as refusals of uploads."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 5.0
LINGER_BYTES = 256_000_000


class Exchange:
    """A request and its answer, between the server and the application.

    If the answer begins before the body has been read, this announces that the connection will close, sends the answer, and
    then discards the rest of the body for a while. Closing a socket with unread data resets the connection, and a client that is
    still sending would lose the answer. Discarding takes no extra memory, and an endless stream is cut off.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, seconds: float = LINGER_SECONDS, count: int = LINGER_BYTES
    ) -> None:
        self._receive = receive
        self._send = send
        self._seconds = seconds
        self._count = count
        self._unread = _has_body(scope)

    async def receive(self) -> Message:
        """Returns the next message from the server."""
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Sends a message from the application."""
        message = self.outgoing(message)
        if not self._unread:
            await self._send(message)
        elif message["type"] == "http.response.start":
            headers = [item for item in message.get("headers", ()) if item[0].lower() != b"connection"]
            await self._send({**message, "headers": [*headers, (b"connection", b"close")]})
        elif message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drop()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def outgoing(self, message: Message) -> Message:
        """Returns the message to send in place of the application's."""
        return message

    async def _drop(self) -> None:
        dropped = 0
        try:
            async with asyncio.timeout(self._seconds):
                while dropped < self._count:
                    message = await self.receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    dropped += len(message.get("body", b""))
        except TimeoutError:
            return


class UnreadBody:
    """Runs an application in an ``Exchange``."""

    def __init__(self, app: ASGIApp, seconds: float = LINGER_SECONDS, count: int = LINGER_BYTES) -> None:
        self.app = app
        self.seconds = seconds
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        exchange = Exchange(scope, receive, send, self.seconds, self.count)
        await self.app(scope, exchange.receive, exchange.send)


def _has_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return bool(value != b"0")
        if name == b"transfer-encoding":
            return True
    return False
