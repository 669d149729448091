"""Admits requests for assessments, or refuses them before any of their body is parsed.

This runs inside the matched routes, so that no spelling of a path can bypass it.
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

# A body up to this size is read to its end, so that the connection stays open: a new one would cost both sides more.
SMALL_BODY = 1_000_000
READ_SECONDS = 1.0
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class AdmittedRoute(APIRoute):
    """A route whose requests are admitted first.

    If only the body needs checking, the function is called directly: FastAPI's validation takes a tenth of a prediction's time.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Adds the admission; uses FastAPI's own handler only for a query, path parameters or dependencies of the route."""
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

    Under overload a service mostly refuses requests, so each refusal must cost next to nothing. The queue may still refuse an
    admitted request, because others may have filled it in the meantime.

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
    """Refuses requests that a browser sends for a page of another site; programs send neither of the two headers.

    Args:
        scope: the request's scope.
        allowed_origins: sites that may use the service from their visitors' browsers.

    Raises:
        CrossSite: Sec-Fetch-Site says so, or the Origin's host is not the one that the request is for.
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
    # "null" is the origin of sandboxed and redirected pages: only Sec-Fetch-Site can tell that it is this service's.
    own = origin is None or (site == b"same-origin" if origin == "null" else _is_own(origin, host))
    if site == b"cross-site" or not own:
        raise CrossSite(
            f"Received: a request from a page of another site ({(origin or 'unknown')[:200]!r}). Allowed: pages of this service, "
            "and of the origins that its operator has named in AIDERM_CORS_ORIGINS."
        )


def _is_own(origin: str, host: str | None) -> bool:
    """Whether an Origin is the requested host; schemes are not compared, because a proxy may have terminated TLS."""
    scheme, _, named = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and host is not None and named.removesuffix(port) == host.removesuffix(port)


def _length(scope: Scope) -> int:
    """The declared length of the body; without one the body may be endless, so a length above the limit is returned."""
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
        return  # RequestContext discards the rest
