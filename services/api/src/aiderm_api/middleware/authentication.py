"""Checks the API key before any part of the body is read."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from aiderm_api.auth.access_policy import OPEN_PATHS, AccessPolicy
from aiderm_api.errors.problems import ProblemError


class Authentication:
    """Passes on requests with a valid key and records their caller; see ``AccessPolicy``.

    Args:
        app: the protected application.
        policy: identifies the callers.
        labels: paths under which refused requests appear in the log and the metrics; all others are "unmatched".
    """

    def __init__(self, app: ASGIApp, policy: AccessPolicy, labels: Collection[str]) -> None:
        self.app = app
        self.policy = policy
        self.labels = frozenset(labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and path not in OPEN_PATHS:
            try:
                caller = scope["caller"] = self.policy.caller(scope)
            except ProblemError as refusal:
                scope["problem_code"] = refusal.code
                scope["route_label"] = path if path in self.labels else None
                await refusal.response(scope.get("request_id", ""))(scope, receive, send)
                return
            structlog.contextvars.bind_contextvars(key=caller.key_id)
        await self.app(scope, receive, send)
