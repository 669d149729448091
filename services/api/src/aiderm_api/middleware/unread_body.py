"""Answers that are sent before the whole request body has arrived, as a refused upload's must be."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 5.0
LINGER_BYTES = 256_000_000


class UnreadBody:
    """Announces that the connection will close, sends the answer, and then discards the rest of the body for a while.

    Closing a socket with unread data resets the connection, and a client that is still sending would lose the answer that
    says why. Memory stays flat, and an endless stream is cut off.
    """

    def __init__(self, app: ASGIApp, seconds: float = LINGER_SECONDS, count: int = LINGER_BYTES) -> None:
        self.app = app
        self.seconds = seconds
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        names = {name for name, _ in scope.get("headers", ())}
        if scope["type"] != "http" or not names & {b"content-length", b"transfer-encoding"}:
            await self.app(scope, receive, send)
            return
        unread = (b"content-length", b"0") not in scope["headers"]

        async def watching_receive() -> Message:
            nonlocal unread
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def lingering_send(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                headers = [item for item in message.get("headers", ()) if item[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and unread):
                await send(message)
                return
            await send({**message, "more_body": True})
            await self._drop(watching_receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app(scope, watching_receive, lingering_send)

    async def _drop(self, receive: Receive) -> None:
        dropped = 0
        try:
            async with asyncio.timeout(self.seconds):
                while dropped < self.count:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    dropped += len(message.get("body", b""))
        except TimeoutError:
            return
