"""The access policy: identifies the caller of a request and limits how many images that caller may send."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

from aiderm_api.auth.keys import ApiKey, KeyRing, Rate
from aiderm_api.auth.rate_limits import RateLimits, TokenBucket
from aiderm_api.errors.problems import RateLimited, Unauthorized
from aiderm_api.telemetry.prometheus_metrics import Metrics

# Health is for orchestrators and the documentation for people; neither reveals anything about images. Everything else needs a
# key, including paths that are added later.
OPEN_PATHS = frozenset(
    {
        "/health",
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/docs",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui.js",
        "/docs/start.js",
    }
    | {"/openapi.json"}
)


@dataclass(frozen=True)
class Caller:
    """The caller of a request. ``key_id`` is None if the service requires no keys."""

    key_id: str | None = None
    bucket: TokenBucket | None = None

    def take(self) -> None:
        """Counts one image, before any of it is read.

        Raises:
            RateLimited: the key has used up its rate.
        """
        if self.bucket is not None and (seconds := self.bucket.take()) > 0:
            rate = self.bucket.rate
            raise RateLimited(
                f"Received: more images with this key than it may send. Allowed: {rate.per_second:g} a second, and up to "
                f"{rate.burst} at once after a pause.",
                retry_after=seconds,
            )

    def charge(self, images: int) -> None:
        """Counts the images of a batch beyond the one that ``take`` has counted."""
        if self.bucket is not None and images > 0:
            self.bucket.charge(images)


ANONYMOUS = Caller()


def caller_of(scope: Scope) -> Caller:
    """The caller of an admitted request."""
    caller: Caller = scope.get("caller", ANONYMOUS)
    return caller


class AccessPolicy:
    """Identifies callers by ``Authorization: Bearer KEY``.

    Args:
        ring: the keys.
        default: rate of keys that do not set their own.
        metrics: counts requests without a valid key, by reason.
    """

    def __init__(self, ring: KeyRing, default: Rate, metrics: Metrics) -> None:
        self._ring = ring
        self._limits = RateLimits(default)
        self._metrics = metrics

    def caller(self, scope: Scope) -> Caller:
        """The caller of a request.

        Raises:
            Unauthorized: the request has no valid key.
        """
        key = self._authenticate([value for name, value in scope["headers"] if name == b"authorization"])
        return Caller(key.id, self._limits.bucket(key))

    def _authenticate(self, given: list[bytes]) -> ApiKey:
        scheme, _, secret = (given[0] if given else b"").strip().partition(b" ")
        if len(given) > 1:
            reason, text = "malformed", "several Authorization headers"
        elif not given:
            reason, text = "missing", "no Authorization header"
        elif scheme.lower() != b"bearer":
            reason, text = "malformed", "an Authorization header of another scheme than Bearer"
        elif (key := self._ring.find(secret.strip())) is None:
            reason, text = "unknown", "a key that this service does not know; it may have been revoked"
        elif self._ring.expired(key):
            reason, text = "expired", f"the key {key.id}, whose time is over"
        else:
            return key
        self._metrics.unauthorized.labels(reason).inc()
        # RFC 6750, section 3: no error code for a request without a key.
        challenge = 'Bearer realm="aiderm", error="invalid_token"' if given else 'Bearer realm="aiderm"'
        raise Unauthorized(
            f"Received: {text}. Allowed: 'Authorization: Bearer KEY' with a key from this service's operator.",
            headers={"WWW-Authenticate": challenge},
        )
