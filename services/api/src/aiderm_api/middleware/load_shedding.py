"""Refuses pictures that would find no place in the queue before anything of them is parsed."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from aiderm_api.errors.problems import ProblemResponse
from aiderm_api.services import Services

ROUTES = ("/predict", "/predict/batch")
# A body of this size is read to its end, and the connection lives on: to make a new one costs both sides more.
SMALL_BODY = 1_000_000
READ_SECONDS = 1.0


class Shedding:
    """Under overload most of what a service does is to refuse: each refusal must cost next to nothing.

    What is let in here may still be refused by the queue, which others may have filled in the meantime.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        route = _route(scope)
        if route is None:
            await self.app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        refusal = services.pool.refusal()
        if refusal is None:
            await self.app(scope, receive, send)
            return
        services.metrics.shed.labels(refusal.code).inc()
        scope["route_label"], scope["problem_code"] = route, refusal.code
        if _length(scope) <= SMALL_BODY:
            await _read_to_the_end(receive)
        await ProblemResponse(refusal.problem(scope.get("request_id", "")))(scope, receive, send)


def _route(scope: Scope) -> str | None:
    """The route that takes pictures, under any prefix; None for every other request."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return next((route for route in ROUTES if scope["path"].endswith(route)), None)


def _length(scope: Scope) -> int:
    """The declared length of the body; without one it may be endless."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return SMALL_BODY + 1


async def _read_to_the_end(receive: Receive) -> None:
    try:
        async with asyncio.timeout(READ_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        return  # UnreadBody deals with the rest
