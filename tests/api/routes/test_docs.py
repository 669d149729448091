"""/docs loads everything from this service, under a content security policy that allows nothing else."""

from __future__ import annotations

import re
import shutil

import pytest


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_documentation_ships_its_own_files(serve, tmp_path, prefix):
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    client = serve(frontend_dir=tmp_path).client
    page = client.get(f"{prefix}/docs")
    assert page.status_code == 200
    assert "http" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<script[^>]*>[^<]", page.text), "the policy would not run it"
    for name, kind in re.findall(r'(?:src|href)="(docs/[^"]+\.(js|css))"', page.text):
        part = client.get(f"{prefix}/{name}")
        assert part.status_code == 200, name
        assert {"js": "javascript", "css": "css"}[kind] in part.headers["content-type"]
        assert len(part.content) > 50
        if kind == "js":
            assert "//" not in client.get(f"{prefix}/docs/start.js").text


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
@pytest.mark.ci
def test_a_browser_shows_every_operation_and_asks_nobody_else(service):
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        base = f"http://127.0.0.1:{service.port}"
        page.goto(f"{base}/docs")
        page.wait_for_selector("#operations-predict-predict")
        page.click("#operations-predict-predict .opblock-summary-control")
        page.wait_for_selector("#operations-predict-predict .responses-table")
        document = service.client.get("/openapi.json").json()
        assert page.locator(".opblock").count() == sum(len(operations) for operations in document["paths"].values())
        assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []
        assert complaints == []
        browser.close()
