"""Who may call: a key for everything but health and documentation, and so many pictures a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from aiderm_api.auth.keys import ApiKey, KeyRing, Rate
from aiderm_api.auth.rate_limits import RateLimits, TokenBucket
from aiderm_api.errors import problems
from aiderm_api.middleware.load_shedding import ROUTES
from aiderm_api.telemetry.observability import Metrics

# Orchestrators ask for health, people read the documentation; neither tells of anybody's pictures. All else needs a key,
# whatever else may be added.
OPEN = frozenset({"/health", "/health/live", "/health/ready", "/docs", "/openapi.json"})
SCHEME = "bearerKey"


@dataclass(frozen=True)
class Caller:
    """Whose request it is. ``key_id`` None: the service asks for no keys."""

    key_id: str | None = None
    bucket: TokenBucket | None = None

    def charge(self, pictures: int) -> None:
        """Counts pictures beyond the one that every request is counted for."""
        if self.bucket is not None and pictures > 0:
            self.bucket.charge(pictures)


ANONYMOUS = Caller()


def caller_of(scope: Scope) -> Caller:
    """The caller of a request that was let in."""
    caller: Caller = scope.get("caller", ANONYMOUS)
    return caller


class Access:
    """Asks for ``Authorization: Bearer KEY`` before anything of a request is read, and slows a key down to its rate."""

    def __init__(self, app: ASGIApp, ring: KeyRing, default: Rate, metrics: Metrics) -> None:
        self.app = app
        self.ring = ring
        self.limits = RateLimits(default)
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in OPEN:
            if path in ROUTES:
                scope["route_label"] = path  # for the refusals, which come before the routes
            try:
                scope["caller"] = self._admit(scope, takes_pictures=path in ROUTES and scope["method"] == "POST")
            except problems.ProblemError as refusal:
                scope["problem_code"] = refusal.code
                headers = {"WWW-Authenticate": _challenge(scope)} if isinstance(refusal, problems.Unauthorized) else {}
                answer = problems.ProblemResponse(refusal.problem(scope.get("request_id", "")), headers)
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope, takes_pictures: bool) -> Caller:
        key = self._authenticate(scope)
        structlog.contextvars.bind_contextvars(key=key.id)
        bucket = self.limits.bucket(key)
        if takes_pictures and bucket is not None and (seconds := bucket.take()) > 0:
            self.metrics.rate_limited.labels(key.id).inc()
            rate = bucket.rate
            raise problems.RateLimited(
                f"Received: more pictures with this key than it may send. Allowed: {rate.per_second:g} a second, and up to "
                f"{rate.burst} at once after a pause.",
                retry_after=seconds,
            )
        return Caller(key.id, bucket)

    def _authenticate(self, scope: Scope) -> ApiKey:
        given = _authorization(scope)
        scheme, _, secret = (given[0] if given else b"").strip().partition(b" ")
        if len(given) > 1:
            reason, text = "malformed", "several Authorization headers"
        elif not given:
            reason, text = "missing", "no Authorization header"
        elif scheme.lower() != b"bearer":
            reason, text = "malformed", "an Authorization header of another scheme than Bearer"
        elif (key := self.ring.find(secret.strip())) is None:
            reason, text = "unknown", "a key that this service does not know; it may have been revoked"
        elif self.ring.expired(key):
            reason, text = "expired", f"the key {key.id}, whose time is over"
        else:
            return key
        self.metrics.unauthorized.labels(reason).inc()
        raise problems.Unauthorized(
            f"Received: {text}. Allowed: 'Authorization: Bearer KEY' with a key from this service's operator."
        )


def _authorization(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]


def _challenge(scope: Scope) -> str:
    """RFC 6750, section 3: no error code for a request that brought no key."""
    return 'Bearer realm="aiderm", error="invalid_token"' if _authorization(scope) else 'Bearer realm="aiderm"'


def describe(document: dict[str, Any]) -> None:
    """Adds keys and their refusals to an OpenAPI document, in place."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SCHEME] = {"type": "http", "scheme": "bearer", "description": "Only where the operator asks for keys."}
    for path, operations in document["paths"].items():
        if path in OPEN:
            continue
        for operation in operations.values():
            operation["security"] = [{SCHEME: []}, {}]
            kinds = (problems.Unauthorized, *((problems.RateLimited,) if path in ROUTES else ()))
            refusals = problems.responses(*kinds)
            for kind in kinds:
                operation["responses"][str(kind.status)] = refusals[kind.status]
            operation["responses"]["401"]["headers"] = {
                "WWW-Authenticate": {"description": "the scheme to use", "schema": {"type": "string"}}
            }
            operation["responses"] = dict(sorted(operation["responses"].items()))
