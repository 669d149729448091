"""Describes a route's problems in the OpenAPI document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiderm_api.errors.problems import EXAMPLE_REQUEST_ID, MEDIA_TYPE, InternalError, Problem, ProblemError

_WITH_RETRY_AFTER = frozenset({429, 503, 504})


def responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """Describes a route's problems for OpenAPI; 500 is always among them."""
    by_status: dict[int | str, dict[str, Any]] = {}
    every: tuple[type[ProblemError], ...] = (*kinds, InternalError)
    for kind in every:
        entry = by_status.setdefault(
            kind.status,
            {"codes": [], "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}},
        )
        entry["codes"].append(kind.code)
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"value": _example(kind)}
        if kind.status in _WITH_RETRY_AFTER:
            entry["headers"] = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
    for status, entry in by_status.items():
        codes = entry.pop("codes")
        entry["description"] = f"{HTTPStatus(int(status)).phrase}: " + ", ".join(f"`{code}`" for code in codes)
    return by_status


def _example(kind: type[ProblemError]) -> dict[str, Any]:
    problem = Problem(
        title=HTTPStatus(kind.status).phrase,
        status=kind.status,
        code=kind.code,
        detail=kind.example,
        request_id=EXAMPLE_REQUEST_ID,
        retry_after=2 if kind.status in _WITH_RETRY_AFTER else None,
    )
    return problem.model_dump(exclude_none=True)
