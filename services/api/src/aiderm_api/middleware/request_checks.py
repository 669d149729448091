"""Checks that a request's path holds no control characters and that its host is one of this service's."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.types import Scope

from aiderm_api.errors.problems import MalformedRequest, ProblemError, UnknownHost

ANY_HOST = "*"
# Mainly because of line ends: a pattern that ends in $ also matches before one, so /predict%0a could be /predict to one program
# and another path to the next.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+?)\.?(?::[0-9]{1,5})?")


class RequestChecks:
    """Checks a request by its path and its Host header.

    Args:
        hosts: names, in lower case, under which the service may be addressed; ``*.name`` allows all names below it, ``*`` any.
            This stops DNS rebinding, where another site points its own name at this machine.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = None if ANY_HOST in hosts else frozenset(hosts)
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))

    def refusal(self, scope: Scope) -> ProblemError | None:
        """Returns the reason to refuse the request; None to accept it."""
        path = scope["path"]
        if _CONTROL.search(path):
            return MalformedRequest(f"Received: a path with control characters, {path[:200]!r}. Allowed: a path without them.")
        return None if self._hosts is None else self._host_refusal(scope, self._hosts)

    def _host_refusal(self, scope: Scope, hosts: frozenset[str]) -> ProblemError | None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1:
            return MalformedRequest(f"Received: {len(given)} Host headers. Allowed: one.")
        match = _HOST.fullmatch(given[0])
        if match:
            name = match[1].decode("latin-1").lower().strip("[]")
            if name in hosts or name.endswith(self._suffixes):
                return None
        return UnknownHost(
            f"Received: a request for the host {given[0][:200].decode('latin-1')!r}. Allowed: {', '.join(sorted(hosts))}; "
            "its operator may add names to AIDERM_HOSTS."
        )
