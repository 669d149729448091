"""/openapi.json, and /docs: Swagger UI from this service's own files, so that readers contact no other server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from aiderm_api.openapi import openapi_document

router = APIRouter(include_in_schema=False)

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_CACHED = {"Cache-Control": "max-age=3600"}
# All addresses are relative, so that they hold under every prefix.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AI Dermatologist: API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui" data-document="openapi.json"></div>
<script src="docs/swagger-ui.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """"use strict";
SwaggerUIBundle({
  url: new URL(document.getElementById("swagger-ui").dataset.document, document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""


@cache
def _swagger_ui(name: str) -> bytes:
    return (files("fastapi_swagger") / "resources" / name).read_bytes()


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(openapi_document(request.app))


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CSP})


@router.get("/docs/swagger-ui.js")
def swagger_script() -> Response:
    """Swagger UI."""
    return Response(_swagger_ui("swagger-ui-bundle.js"), media_type="text/javascript", headers=_CACHED)


@router.get("/docs/swagger-ui.css")
def swagger_style() -> Response:
    """Swagger UI's style."""
    return Response(_swagger_ui("swagger-ui.css"), media_type="text/css", headers=_CACHED)


@router.get("/docs/start.js")
async def start_script() -> Response:
    """Starts Swagger UI; a file of its own, because the policy allows no script inside the page."""
    return Response(_START, media_type="text/javascript", headers=_CACHED)
