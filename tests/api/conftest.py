"""A real server on a free port, and images of every kind that clients send."""

from __future__ import annotations

import asyncio
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from aiderm_api.server import Server, make_server
from aiderm_api.services import Services
from aiderm_api.settings import Settings

STARTERS = {"serve", "serve_once", "service", "client"}


@pytest.hookimpl(tryfirst=True)  # before -m selects tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and STARTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")


class Running:
    """A server that runs in a thread, with a client for it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.thread = threading.Thread(target=server.run, daemon=True)
        self.thread.start()
        wait_until(lambda: server.started or not self.thread.is_alive())
        if not server.started:
            raise RuntimeError("the server did not start")
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    @property
    def services(self) -> Services:
        return self.server.config.app.state.services

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    @contextmanager
    def blocked(self) -> Iterator[threading.Event]:
        """Keeps every worker waiting until the event is set."""
        pool, gate = self.services.pool, threading.Event()

        async def block() -> None:
            try:
                await asyncio.gather(*(pool.run(lambda _: gate.wait(20)) for _ in range(pool.workers)))
            except Exception:
                gate.wait(20)

        thread = threading.Thread(target=lambda: asyncio.run(block()))
        thread.start()
        wait_until(lambda: pool.running == pool.workers)
        try:
            yield gate
        finally:
            gate.set()
            thread.join()

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(30)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def models_root(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_bundle(root)
    quality = {"brightness": {"worse": "low", "warn": 0.5, "reject": 0.02}}
    rule = {"threshold": 0.9, "target_sensitivity": 0.95, "uncertain": [0.85, 0.95]}
    thorough = {"decision": rule, "gain": {"auc": 0.01, "auc_low": 0.002}, "pool": "log_odds"}
    make_bundle(root, name="binary", classes=2, quality=quality, thorough=thorough)
    return root


@contextmanager
def starting(models_root: Path) -> Iterator[Callable[..., Running]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> Running:
            running = Running(
                make_server(Settings(**{"models_dir": models_root, "port": 0, "poll_seconds": 0.1, "hosts": ("*",)} | settings))
            )
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def serve(models_root: Path) -> Iterator[Callable[..., Running]]:
    """Returns a function that starts servers with settings other than those of the shared ``service``."""
    with starting(models_root) as start:
        yield start


@pytest.fixture(scope="module")
def serve_once(models_root: Path) -> Iterator[Callable[..., Running]]:
    """Like ``serve``, but the servers run until all tests of the module are done."""
    with starting(models_root) as start:
        yield start


@pytest.fixture(scope="session")
def service(models_root: Path) -> Iterator[Running]:
    running = Running(make_server(Settings(models_dir=models_root, port=0, hosts=("*",))))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(service: Running) -> httpx.Client:
    return service.client


def plain(red: int, green: int, blue: int, width: int = 160, height: int = 120) -> Image.Image:
    return Image.new("RGB", (width, height), (red, green, blue))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_of(red: int, green: int = 100, blue: int = 10, side: int = 120) -> bytes:
    """An image for which the tests' models return malignancy red/255 and novelty 10 * blue."""
    return encoded(plain(red, green, blue, side, side), "PNG")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    textured = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 5))
    rotated = Image.Exif()
    rotated[274] = 6
    jpeg = encoded(textured, "JPEG", quality=90)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    frames = [plain(200, 100, 10), plain(10, 100, 10)]
    return {
        "jpeg": jpeg,
        "png": encoded(textured, "PNG"),
        "webp": encoded(textured, "WEBP"),
        "bmp": encoded(textured, "BMP"),
        "tiff": encoded(textured, "TIFF"),
        "rotated": encoded(plain(200, 100, 10, 300, 200), "JPEG", exif=rotated),
        "12_megapixel": encoded(plain(200, 100, 10, 4000, 3000), "JPEG"),
        "cmyk": encoded(textured.convert("CMYK"), "JPEG"),
        "greyscale": encoded(textured.convert("L"), "JPEG"),
        "16_bit": bytes(cv2.imencode(".png", noise.astype(np.uint16) * 257)[1]),
        "alpha": encoded(plain(200, 100, 10).convert("RGBA"), "PNG"),
        "animated_gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200),
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"/>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "html": b"<!doctype html><html><body><script>alert(1)</script></body></html>",
        "bomb": b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(9000)))
        + _chunk(b"IEND", b""),
        "1x1": encoded(plain(200, 100, 10, 1, 1), "PNG"),
        "truncated": jpeg[: len(jpeg) // 2],
        "empty": b"",
        "garbage": np.random.default_rng(1).bytes(5000),
    }


def multipart(*parts: tuple[str, str | None, bytes], boundary: bytes = b"frontier", close: bool = True) -> bytes:
    """A multipart body with (name, filename or None, content) parts."""
    body = b""
    for name, filename, content in parts:
        suffix = "" if filename is None else f'; filename="{filename}"'
        body += (
            b"--" + boundary + f'\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + b"--" + boundary + b"--\r\n" if close else body


@pytest.fixture(scope="session")
def forms() -> SimpleNamespace:
    """The functions above, as a fixture because test modules cannot import each other."""
    return SimpleNamespace(multipart=multipart, png_of=png_of, encoded=encoded, plain=plain, wait_until=wait_until)
