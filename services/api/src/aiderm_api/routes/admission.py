"""Admits requests for assessments, or refuses them before anything of their body is parsed.

This runs inside the matched routes, so that no spelling of a path reaches them without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from aiderm_api.auth.access_policy import caller_of
from aiderm_api.errors.problems import CrossSite, RateLimited
from aiderm_api.routes.options import parse_options
from aiderm_api.services import Services, services_of

# A body of this size is read to its end, and the connection lives on: a new one would cost both sides more.
SMALL_BODY = 1_000_000
READ_SECONDS = 1.0
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class AdmittedRoute(APIRoute):
    """A route whose requests are admitted first.

    Without anything but a body to validate, the function is called directly: FastAPI's validation takes a tenth of a prediction.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler where there is a query, a name in the path, or a dependency beside the function's."""
        validating = super().get_route_handler()

        async def handle(request: Request) -> Response:
            services = services_of(request)
            await _admit(request, services)
            if request.scope["query_string"] or self.dependencies or self.dependant.path_params:
                return await validating(request)
            answer: Response = await self.endpoint(request, services, await parse_options(request, services))
            return answer

        return handle


async def _admit(request: Request, services: Services) -> None:
    """Checks where a request comes from, counts it for its caller, and looks for a place in the queue.

    Under overload most of what a service does is to refuse: each refusal must cost next to nothing. What is admitted here may
    still be refused by the queue, which others may have filled in the meantime.

    Raises:
        CrossSite: a browser sent it for a page of another site.
        RateLimited: the caller has used up its rate.
        OverloadedError: the queue is full.
    """
    scope = request.scope
    check_site(scope, services.settings.cors_origins)
    caller = caller_of(scope)
    try:
        caller.take()
    except RateLimited:
        services.metrics.rate_limited.labels(caller.key_id).inc()
        raise
    refusal = services.pool.refusal()
    if refusal is not None:
        services.metrics.shed.labels("overloaded").inc()
        if _length(scope) <= SMALL_BODY:
            await _read_to_the_end(request.receive)
        raise refusal


def check_site(scope: Scope, allowed_origins: tuple[str, ...]) -> None:
    """Refuses what a browser sends for a page of another site; programs send neither of the two headers.

    Args:
        scope: of the request.
        allowed_origins: sites that may use the service from their visitors' browsers.

    Raises:
        CrossSite: by Sec-Fetch-Site, or by an Origin whose host is not the one that the request is for.
    """
    origin = host = site = None
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value.decode("latin-1").lower()
        elif name == b"host":
            host = value.decode("latin-1").lower()
        elif name == b"sec-fetch-site":
            site = value
    if (origin is None and site is None) or origin in allowed_origins:
        return
    # "null" is the origin of sandboxed and redirected pages: only the browser's own word tells that it is ours.
    own = origin is None or (site == b"same-origin" if origin == "null" else _is_own(origin, host))
    if site == b"cross-site" or not own:
        raise CrossSite(
            f"Received: a request from a page of another site ({(origin or 'unknown')[:200]!r}). Allowed: pages of this service, "
            "and of the origins that its operator has named in AIDERM_CORS_ORIGINS."
        )


def _is_own(origin: str, host: str | None) -> bool:
    """Whether an Origin is the host that was asked for; a proxy may have taken TLS off, so schemes are not compared."""
    scheme, _, named = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and host is not None and named.removesuffix(port) == host.removesuffix(port)


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
