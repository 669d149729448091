"""The embeddable element in a page of another origin, and the page for developers."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.ci]
HOST = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Clinic</title>
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'self' {server}; connect-src {server}; img-src blob: data:; style-src 'none'">
<script type="module" src="{server}/embed/lesion-check.js"></script><script type="module" src="host.js"></script>
<lesion-check endpoint="{endpoint}" heatmap="true" {more}></lesion-check></html>"""
LISTENER = """window.seen = [];
for (const type of ['picture', 'progress', 'assessment', 'problem'])
  document.addEventListener(`lesion-${type}`, (event) => window.seen.push([type, event.detail]));
"""


class Quiet(SimpleHTTPRequestHandler):
    """A web server that writes no log."""

    def log_message(self, *_: object) -> None:
        """Discards the message."""


@pytest.fixture
def website(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A website at another origin: its address and the folder that it serves."""
    folder = tmp_path / "clinic"
    folder.mkdir()
    (folder / "host.js").write_text(LISTENER)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, website: tuple[str, Path]) -> Iterator[Visit]:
    """Returns a function that opens the other origin's page with the element in it."""
    contexts = []

    def go(server: str, endpoint: str, more: str = "") -> Page:
        address, folder = website
        (folder / "index.html").write_text(HOST.format(server=server, endpoint=endpoint, more=more))
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_text("Choose a picture").or_(page.get_by_text("Bild auswählen"))).to_be_visible()
        return page

    yield go
    for context in contexts:
        context.close()


def test_element_judges_on_a_page_of_another_origin(
    start_service, make_bundle, tmp_path, website, visit: Visit, plain, upload
) -> None:
    make_bundle(tmp_path / "models")
    with start_service(tmp_path / "models", tmp_path / "log", AIDERM_CORS_ORIGINS=website[0]) as service:
        page = visit(service.url, f"{service.url}/api")
        expect(page.get_by_text("Not a medical device. Not a diagnosis.").first).to_be_visible()
        expect(page.locator("lesion-check")).to_contain_text("It is not stored and not logged.")
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if "/predict" in request.url else None)
        page.set_input_files("lesion-check input[type=file]", upload(plain(red=230)))
        go = page.get_by_role("button", name="Assess this picture")
        expect(go).to_be_focused()
        expect(go).to_have_accessible_description(re.compile("It is not stored and not logged."))
        expect(page.locator("lesion-check .photo")).to_be_visible()
        assert sent == []  # choosing a file sends nothing
        go.click()
        expect(page.get_by_role("heading", name="Suspicious")).to_be_focused()
        expect(page.locator("lesion-check .lines")).to_be_visible()
        expect(page.get_by_text("see a doctor whatever this says").first).to_be_visible()
        # the element's styles apply although the page's policy allows none of its own
        assert page.locator("lesion-check .verdict").evaluate("e => getComputedStyle(e).borderTopWidth") == "5px"
        seen = page.evaluate("() => window.seen")
        kinds = [kind for kind, _ in seen]
        assert kinds[0] == "picture"
        assert "progress" in kinds
        assert kinds[-1] == "assessment"
        assert seen[-1][1]["decision"] == "suspicious"
        page.set_input_files("lesion-check input[type=file]", upload(b"x", "a.pdf", "application/pdf"))
        expect(page.get_by_role("heading", name="This kind of file cannot be assessed")).to_be_visible()
        assert page.evaluate("() => window.seen.at(-1)[1].code") == "unsupported_type"
        page.set_input_files("lesion-check input[type=file]", upload(plain(red=230, blue=220)))
        page.get_by_role("button", name="Assess this picture").click()
        expect(page.get_by_role("heading", name="Not assessed")).to_be_visible()
        assert page.locator("lesion-check derm-scale").count() == 0


def test_element_says_when_the_origin_is_not_allowed(service, website, visit: Visit, plain, upload) -> None:
    page = visit(service.url, f"{service.url}/api", 'lang="en"')
    page.set_input_files("lesion-check input[type=file]", upload(plain(red=230)))
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("heading", name="This website may not use the service")).to_be_visible()
    expect(page.locator("lesion-check derm-problem")).to_contain_text("AIDERM_CORS_ORIGINS")
    expect(page.locator("lesion-check derm-problem")).to_contain_text(website[0])
    assert page.evaluate("() => window.seen.at(-1)[1].code") == "origin_not_allowed"


def test_each_element_speaks_its_own_language_and_fits_a_narrow_column(
    start_service, make_bundle, tmp_path, website, visit: Visit, plain, upload
) -> None:
    make_bundle(tmp_path / "models")
    with start_service(tmp_path / "models", tmp_path / "log", AIDERM_CORS_ORIGINS=website[0]) as service:
        page = visit(service.url, f"{service.url}/api", 'lang="de"')
        page.locator("lesion-check").evaluate(
            """first => { const second = first.cloneNode(); second.lang = 'es'; second.id = 'second';
              document.body.append(second); first.id = 'first';
              for (const [name, value] of [['display', 'block'], ['width', '320px']]) first.style.setProperty(name, value); }"""
        )
        first, second = page.locator("#first"), page.locator("#second")
        expect(second.locator(".whole")).to_have_attribute("lang", "es")
        expect(first.locator(".whole")).to_have_attribute("lang", "de")
        first.locator("input[type=file]").set_input_files(upload(plain(red=230)))
        first.locator(".button.primary").click()
        expect(first.get_by_role("heading", name="Verdächtig")).to_be_focused()
        expect(second.locator(".verdict")).to_have_count(0)
        # text that is added later is in the element's language too, such as the slider's percentage
        expect(first.get_by_role("slider").first).to_have_attribute("aria-valuetext", "100\u00a0%")
        # no text is squeezed into a narrow column beside another
        narrow = first.locator(".legend dd").evaluate_all("all => Math.min(...all.map((e) => e.getBoundingClientRect().width))")
        assert narrow > 200
        first.evaluate("e => { e.lang = 'ar'; }")
        expect(first.locator(".whole")).to_have_attribute("dir", "rtl")
        expect(first.locator(".verdict")).to_have_count(1)
        expect(second.locator(".whole")).to_have_attribute("lang", "es")


def test_developers_page_calls_this_server(page: Page, service, plain, upload) -> None:
    page.evaluate("() => { location.hash = 'integrate'; }")
    expect(page.get_by_role("region", name="curl")).to_contain_text(f"{service.url}/api/predict?explain=true")
    expect(page.get_by_role("region", name="Python")).to_contain_text(f'httpx.post("{service.url}/api/predict"')
    expect(page.get_by_role("region", name="HTML")).to_contain_text(f'src="{service.url}/embed/lesion-check.js"')
    page.set_input_files("lesion-check input[type=file]", upload(plain(red=230)))
    page.get_by_role("button", name="Assess this picture").click()
    expect(page.get_by_role("log")).to_contain_text("lesion-assessment")


def test_python_example_runs(page: Page, plain, tmp_path: Path) -> None:
    page.evaluate("() => { location.hash = 'integrate'; }")
    program = page.get_by_role("region", name="Python").inner_text()
    (tmp_path / "lesion.jpg").write_bytes(plain(red=230, suffix=".jpg"))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0] == "suspicious", done.stderr
