"""Images with known results, and a store whose responses tests control."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import cv2
import fsspec
import numpy as np
import pytest

from aiderm_core.bundle.store import ModelStore
from aiderm_scorer.scoring_model import Model

BUCKET = "archive"
Hook = Callable[[], bytes | None]


def picture(red: int, green: int = 100, blue: int = 20, side: int = 120) -> bytes:
    """A PNG of one colour, to which the tests' bundle assigns the malignancy ``red / 255``."""
    done, data = cv2.imencode(".png", np.full((side, side, 3), (blue, green, red), np.uint8))
    assert done
    return data.tobytes()


def fill(folder: Path, count: int, side: int = 120) -> list[Path]:
    """Writes ``count`` valid images into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(picture(index % 256, side=side))
    return paths


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, make_bundle: Any) -> Path:
    """A folder of models that no test may change, with ``melanoma`` 1 promoted."""
    root: Path = tmp_path_factory.mktemp("models")
    make_bundle(root)
    return root


@pytest.fixture(scope="session")
def model(models: Path) -> Model:
    """The model in ``models``."""
    return Model.load(ModelStore(models).path("melanoma", "1"))


class Remote:
    """Serves files over HTTP and as an S3 bucket; a file's hook is called when it is requested, and may replace its content."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.hooks: dict[str, Hook] = {}
        remote = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                name = path.strip("/").removeprefix(f"{BUCKET}/")
                if "list-type=2" in query:
                    prefix = parse_qs(query).get("prefix", [""])[0]
                    return self.answer(200, remote.listing(prefix), "application/xml")
                hooked = remote.hooks[name]() if name in remote.hooks and self.command == "GET" else None
                data = hooked if hooked is not None else remote.files.get(name)
                if data is None:
                    return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
                wanted = self.headers.get("Range")
                if wanted and data:
                    first, _, last = wanted.removeprefix("bytes=").partition("-")
                    start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
                    span = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
                    return self.answer(206, data[start : end + 1], "image/png", span)
                return self.answer(200, data, "image/png")

            do_HEAD = do_GET  # noqa: N815

            def answer(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
                self.send_response(status)
                headers = {"Content-Length": str(len(body)), "Content-Type": kind, "Accept-Ranges": "bytes", "ETag": '"1"'}
                for key, value in {**headers, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **(more or {})}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None:
                """Ignores clients that disconnect, because some tests do so on purpose."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def listing(self, prefix: str) -> bytes:
        """The S3 listing of the bucket's files under a prefix."""
        found = [(name, data) for name, data in sorted(self.files.items()) if name.startswith(prefix)]
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, data in found
        )
        return (
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{BUCKET}</Name>'
            f"<KeyCount>{len(found)}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        ).encode()


@pytest.fixture
def remote() -> Iterator[Remote]:
    """An empty store on this machine."""
    served = Remote()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def s3(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``s3://archive/`` the bucket of ``remote``, in this process and in its children."""
    options = {"anon": True, "endpoint_url": remote.address, "client_kwargs": {"region_name": "us-east-1"}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    monkeypatch.setenv("FSSPEC_S3", json.dumps(options))
