"""Builds the OpenAPI document: FastAPI's own, with problem documents for failures, examples and API keys."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from aiderm_api import openapi_examples
from aiderm_api.auth.access_policy import OPEN_PATHS
from aiderm_api.errors.problems import Problem, RateLimited, Unauthorized
from aiderm_api.errors.responses import responses
from aiderm_api.routes.predict import PATHS as RATE_LIMITED

SCHEME = "bearerKey"


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Returns the document that describes ``app``; it is built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        # Relative to the document, so that it holds under / and under a proxy's /api.
        document["servers"] = [{"url": "."}]
        parts = document["components"]["schemas"]
        parts.setdefault("Problem", Problem.model_json_schema(ref_template="#/components/schemas/{model}"))
        for operation in (item for path in document["paths"].values() for item in path.values()):
            # FastAPI adds its own 422 to every route with parameters; the routes document the one that this service sends.
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            parts.pop(name, None)
        _describe_keys(document)
        openapi_examples.attach(document)
        app.openapi_schema = document
    return app.openapi_schema


def _describe_keys(document: dict[str, Any]) -> None:
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SCHEME] = {"type": "http", "scheme": "bearer", "description": "Only where the operator requires keys."}
    for path, operations in document["paths"].items():
        if path in OPEN_PATHS:
            continue
        for operation in operations.values():
            operation["security"] = [{SCHEME: []}, {}]
            kinds = (Unauthorized, RateLimited) if path in RATE_LIMITED else (Unauthorized,)
            refusals = responses(*kinds)
            for kind in kinds:
                operation["responses"][str(kind.status)] = refusals[kind.status]
            operation["responses"]["401"]["headers"] = {
                "WWW-Authenticate": {"description": "the scheme to use", "schema": {"type": "string"}}
            }
            operation["responses"] = dict(sorted(operation["responses"].items()))
