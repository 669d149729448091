"""The shortest way to the routes that take most of the requests."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from aiderm_api.errors.handlers import HANDLERS


class DirectRoutes:
    """Calls a route's handler directly where path and method alone choose the route: POST requests without a query.

    FastAPI spends a third of its time for a prediction in routers, exit stacks and a second handler of exceptions.

    Args:
        app: answers everything else, and describes these routes as well.
        router: of the routes; their paths hold no names.
    """

    def __init__(self, app: ASGIApp, router: APIRouter) -> None:
        self.app = app
        routes = [route for route in router.routes if isinstance(route, APIRoute) and route.methods == {"POST"}]
        self.handlers = {route.path: route.get_route_handler() for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        direct = scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]
        path = scope["path"].removeprefix(scope.get("root_path", "")) if direct else ""
        handler = self.handlers.get(path)
        if handler is None:
            await self.app(scope, receive, send)
            return
        scope["route_label"] = path
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except Exception as error:
            on_error = next((HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS), None)
            if on_error is None:
                raise
            response = await on_error(request, error)
        await response(scope, receive, send)
