"""Serves page and API from a single process: the page at /, the API under /api and at / as well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute, Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiderm_api.errors.handlers import HANDLERS

PREFIX = "/api"
# Next to the page's folder; nginx includes the same files.
HEADERS_FILE = Path("nginx", "security-headers.conf")
ASSET_HEADERS_FILE = Path("nginx", "asset-headers.conf")
_ASSETS = re.compile("/(css|embed|img|js|locales)/")
_DOCUMENTS = ("/", "/index.html")
_LANGUAGE = re.compile("(?:^|,) *([a-z]+)")
_ADD_HEADER = re.compile(r"""^\s*add_header\s+([A-Za-z0-9-]+)\s+(?:"([^"]*)"|'([^']*)'|([^\s;"']+))(?:\s+always)?\s*;""", re.M)


def read_headers(file: Path) -> list[tuple[bytes, bytes]]:
    """Reads the headers of nginx's ``add_header NAME "VALUE" always;`` lines; none if the file does not exist."""
    if not file.is_file():
        return []
    headers = []
    for match in _ADD_HEADER.finditer(file.read_text("utf-8")):
        name, *values = match.groups()
        value = next(value for value in values if value is not None)
        headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return headers


def opening_language(scope: Scope, known: Sequence[str]) -> str:
    """The language in which the page will open: the first ``known`` one of ``?lang=`` and the browser's list, else English."""
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [""])[0]
    accepted = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-language"), "")
    wanted = (match.group(1) for match in _LANGUAGE.finditer(f"{asked},{accepted}".lower()))
    return next((code for code in wanted if code in known), "en")


class SingleProcess:
    """Sends each request to the API or to the page; the API's paths take precedence.

    Args:
        app: the API.
        folder: the page's folder, which holds index.html.
        routes: the API's routes.
    """

    def __init__(self, app: ASGIApp, folder: Path, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self.routes = routes
        self.headers = read_headers(folder.parent / HEADERS_FILE)
        self.languages = [file.stem for file in (folder / "locales").glob("*.json")]
        self.asset_headers = read_headers(folder.parent / ASSET_HEADERS_FILE) or self.headers
        static = StaticFiles(directory=folder, html=True)
        compressed = [Middleware(GZipMiddleware, minimum_size=1024)]
        self.page = Starlette(routes=[Mount("/", static)], middleware=compressed, exception_handlers=HANDLERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path == PREFIX or path.startswith(PREFIX + "/"):
            scope["root_path"] = scope.get("root_path", "") + PREFIX
            await self.app(scope, receive, send)
        elif "//" in path or any(route.matches(scope)[0] is not Match.NONE for route in self.routes):
            await self.app(scope, receive, send)  # no file has such a path; the file system would skip a slash
        else:
            scope["route_label"] = "page"
            await self._serve_page(scope, receive, send)

    async def _serve_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self.asset_headers if _ASSETS.match(scope["path"]) else self.headers
        if scope["path"] in _DOCUMENTS and self.languages:
            # Preloads the strings together with the scripts; otherwise they would arrive a round trip later.
            words = f"<locales/{opening_language(scope, self.languages)}.json>; rel=preload; as=fetch; crossorigin"
            headers = [*headers, (b"link", words.encode("ascii")), (b"vary", b"Accept-Language")]

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_here = {name for name, _ in headers} - {b"vary"}
                kept = [item for item in message.get("headers", ()) if item[0].lower() not in set_here]
                revalidate = [] if b"cache-control" in set_here else [(b"cache-control", b"no-cache")]
                message = {**message, "headers": [*kept, *headers, *revalidate]}
            await send(message)

        await self.page(scope, receive, secured)
