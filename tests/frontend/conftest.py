"""A real Chromium with the real API, in one-process mode or, where no test may be skipped, behind the real nginx."""

from __future__ import annotations

import base64
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, expect, sync_playwright
from tests.nginx import run_nginx
from tests.servers import Server, free_port, run_server

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ROOT / "frontend" / "public"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# Generous, so that no test fails on a busy machine; tests that pass never wait that long.
TIMEOUT_MS = 20_000
expect.set_options(timeout=TIMEOUT_MS)
# Chromium logs every 4xx and 5xx response, which the page itself reports, and Playwright logs the blocked worker.
EXPECTED_CONSOLE = ("Failed to load resource", "Service Worker registration blocked by Playwright")
READY = "html[data-ready]"
# what a reader chose to see, and the id and key of a tab that holds pictures
CHOICES = {"aiderm-depth", "aiderm-keys", "aiderm-reader", "aiderm-tab"}
# Takes a file and returns what the page would send of it, both in base64.
STRIP = """async (encoded) => {
  const { withoutMetadata } = await import(new URL('js/intake/metadata.js', location.href));
  const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const blob = await withoutMetadata(new File([bytes], 'picture'));
  return new Promise((resolve) => { const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1] ?? ''); reader.readAsDataURL(blob); });
}"""

# Contrast of each text with its background, by WCAG 2.2's formula; this page only has opaque colours.
CONTRAST = """() => {
  const rgb = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 || n[3] > 0 ? n.slice(0, 3) : null; };
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const [r, g, b] = c.map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!text || !element.checkVisibility() || element.closest('.visually-hidden, .no-preview')) continue;
    let behind = null;
    for (let e = element; e && !behind; e = e.parentElement) behind = rgb(getComputedStyle(e).backgroundColor);
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind ?? [255, 255, 255])].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.tagName} ${element.textContent.trim().slice(0, 40)}`);
  }
  return low;
}"""


@contextmanager
def run_service(models: Path, log: Path, port: int | None = None, **settings: str) -> Iterator[Server]:
    """Starts the API like `make run`, or without the page if AIDERM_FRONTEND_DIR is empty; waits until it answers."""
    port = port or free_port()
    environment = os.environ | {
        "AIDERM_MODELS_DIR": str(models),
        "AIDERM_FRONTEND_DIR": str(PUBLIC),
        "AIDERM_HOST": "127.0.0.1",
        "AIDERM_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        **settings,
    }
    command = [sys.executable, "-m", "aiderm_api"]
    with log.open("wb") as output, run_server(command, port, "/health/live", log, output=output, env=environment) as running:
        yield running


@pytest.fixture(scope="session")
def service(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the steerable model: mean red / 255 is the malignancy, mean blue above 100 is rejected.

    It runs behind nginx where no test may be skipped, as in CI, and otherwise in one process, like `make run`.
    """
    folder = tmp_path_factory.mktemp("page")
    # dark pictures get a warning, so that every kind of answer occurs
    make_bundle(folder / "models", quality={"brightness": {"worse": "low", "warn": 0.15}})
    if not os.environ.get("AIDERM_REQUIRE_ALL"):
        with run_service(folder / "models", folder / "api.log") as running:
            yield running
        return
    with (
        run_service(folder / "models", folder / "api.log", AIDERM_FRONTEND_DIR="") as api,
        run_nginx(folder / "nginx", api.port) as front,
    ):
        yield front


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, for one module at a time, because Playwright occupies this thread's event loop while it runs."""
    found = shutil.which(os.environ.get("AIDERM_CHROMIUM", "chromium"))
    if found is None:
        message = "Chromium is missing: install it with `sudo apt-get install chromium`"
        if os.environ.get("AIDERM_REQUIRE_ALL"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What a page logged and requested, to find what no page of this project may do."""

    origin: str
    console: list[str]
    elsewhere: list[str]


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Opens pages and checks each afterwards: no script error, nothing blocked by the content security policy, no request to
    another origin, no cookie, and only allowed keys in the browser's storage."""
    opened: list[tuple[BrowserContext, Page, Watch]] = []

    def open_page(url: str, *, width: int = 1280, height: int = 900, load: bool = True, **options: object) -> Page:
        # a service worker's requests would bypass the routes that tests set
        options.setdefault("service_workers", "block")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        watch = Watch("{0.scheme}://{0.netloc}".format(urlsplit(url)), [], [])
        page.on("console", lambda message: watch.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: watch.console.append(f"error: {error}"))
        page.on("request", lambda request: watch.elsewhere.append(request.url))
        opened.append((context, page, watch))
        if load:
            page.goto(url)
            page.wait_for_selector(READY)
        return page

    yield open_page
    for context, page, watch in opened:
        stored = page.evaluate("() => Object.keys({ ...localStorage, ...sessionStorage })") if page.url.startswith("http") else []
        cookies = context.cookies()
        context.close()
        assert [line for line in watch.console if not any(known in line for known in EXPECTED_CONSOLE)] == []
        assert [url for url in watch.elsewhere if not url.startswith((watch.origin, "blob:" + watch.origin, "data:"))] == []
        assert set(stored) <= CHOICES
        assert cookies == []


@pytest.fixture
def page(new_page: NewPage, service: Server) -> Page:
    """The page with the steerable model."""
    return new_page(service.url)


def _plain(red: int = 40, green: int = 120, blue: int = 10, width: int = 600, height: int = 450, suffix: str = ".png") -> bytes:
    done, data = cv2.imencode(suffix, np.full((height, width, 3), (blue, green, red), np.uint8))
    assert done
    return data.tobytes()


def _upload(data: bytes, name: str = "lesion.png", mime: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": mime, "buffer": data}


def _choose(page: Page, data: bytes, name: str = "lesion.png", mime: str = "image/png") -> None:
    page.set_input_files("#choose", _upload(data, name, mime))


def _assess(page: Page, data: bytes, name: str = "lesion.png", mime: str = "image/png") -> None:
    _choose(page, data, name, mime)
    page.get_by_role("button", name="Assess this picture").click()
    page.wait_for_function("() => ['result', 'problem'].includes(document.querySelector('main').dataset.state)")
    _open_more(page)


def _open_more(page: Page) -> None:
    closed = page.locator(".more-open[aria-expanded=false]")
    if closed.is_visible():
        closed.evaluate("button => button.click()")  # a click by script leaves the focus on the answer


@pytest.fixture
def stripped(page: Page) -> Callable[[bytes], bytes]:
    """Returns what the page would send of a file."""
    return lambda data: base64.b64decode(page.evaluate(STRIP, base64.b64encode(data).decode()))


@pytest.fixture(scope="session")
def plain() -> Callable[..., bytes]:
    """Encodes a picture of one colour."""
    return _plain


@pytest.fixture(scope="session")
def upload() -> Callable[..., FilePayload]:
    """Makes a file for Playwright's ``set_input_files``."""
    return _upload


@pytest.fixture(scope="session")
def choose() -> Callable[..., None]:
    """Chooses a picture in the page."""
    return _choose


@pytest.fixture(scope="session")
def assess() -> Callable[..., None]:
    """Chooses a picture and has it assessed; returns once the whole answer or a problem is shown."""
    return _assess


@pytest.fixture(scope="session")
def open_more() -> Callable[[Page], None]:
    """Opens the details of an answer."""
    return _open_more


@pytest.fixture(scope="session")
def sent_file() -> Callable[[Page, Callable[[], object]], bytes]:
    """Returns the file that the page sends during an action, because Playwright does not expose files in a form."""

    def read(page: Page, action: Callable[[], object]) -> bytes:
        page.evaluate(
            """() => { const send = XMLHttpRequest.prototype.send;
            XMLHttpRequest.prototype.send = function (body) {
              window.sentFile = body.get('file');
              return send.call(this, body);
            }; }"""
        )
        action()
        page.wait_for_function("() => window.sentFile")
        encoded = page.evaluate(
            """() => new Promise((resolve) => { const reader = new FileReader();
            reader.onload = () => resolve(reader.result.split(',')[1]); reader.readAsDataURL(window.sentFile); })"""
        )
        return base64.b64decode(encoded)

    return read


@pytest.fixture(scope="session")
def start_service() -> Callable[..., AbstractContextManager[Server]]:
    """Starts another service, for tests that stop it or that need one without a model."""
    return run_service


@pytest.fixture(scope="session")
def start_nginx() -> Callable[..., AbstractContextManager[Server]]:
    """Starts nginx with its shipped configuration in front of an API's port."""
    return run_nginx


@pytest.fixture(scope="session")
def contrast() -> str:
    """A script that lists visible texts with less contrast than WCAG 2.2 AA requires."""
    return CONTRAST
