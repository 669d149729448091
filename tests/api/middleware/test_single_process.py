"""One process serves both the page and the API."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiderm_api.middleware.single_process import read_headers

CONF = """
# a comment: add_header Commented "no" always;
add_header Content-Security-Policy "default-src 'none'; img-src 'self' data:" always;
add_header X-Frame-Options DENY always;
    add_header Referrer-Policy 'no-referrer';
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "js").mkdir(parents=True)
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx" / "security-headers.conf").write_text(CONF)
    (tmp_path / "secret.txt").write_text("secret")
    (public / "index.html").write_text("<!doctype html><title>page</title>")
    (public / "js" / "app.js").write_text("export {};\n")
    (public / "health").write_text("a file that must not hide the API\n")
    return public


def test_headers_of_nginx_are_read(site):
    assert read_headers(site.parent / "nginx" / "security-headers.conf") == [
        (b"content-security-policy", b"default-src 'none'; img-src 'self' data:"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
    ]
    assert read_headers(site / "nothing.conf") == []


def test_page_and_api_side_by_side(serve, site, forms):
    client = serve(frontend_dir=site).client
    page = client.get("/")
    assert page.status_code == 200
    assert "<title>page" in page.text
    assert page.headers["content-security-policy"] == "default-src 'none'; img-src 'self' data:"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    script = client.get("/js/app.js")
    assert "javascript" in script.headers["content-type"]
    assert script.headers["referrer-policy"] == "no-referrer"
    for prefix in ("", "/api"):
        assert client.get(f"{prefix}/health").json()["status"] == "ok"
        answer = client.post(f"{prefix}/predict", files={"file": forms.png_of(230)})
        assert answer.json()["decision"] == "suspicious"
        assert client.post(f"{prefix}/predict/batch", files={"files": forms.png_of(9)}).status_code == 200
        assert client.get(f"{prefix}/models/melanoma").status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["paths"].keys() >= {"/predict", "/health"}
        docs = client.get(f"{prefix}/docs")
        assert "openapi.json" in docs.text
        assert docs.headers["content-security-policy"] != page.headers["content-security-policy"]
        wrong = client.get(f"{prefix}/predict")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_unknown_paths_are_problems(serve, site):
    client = serve(frontend_dir=site).client
    for path in (
        "/nothing.html",
        "/api",
        "/api/",
        "/api/index.html",
        "/api/nothing",
        "/js",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//predict",
        "//index.html",
        "/js//app.js",
        "/api//predict",
    ):
        answer = client.get(f"{client.base_url}".rstrip("/") + path)  # the whole URL, because httpx would drop a slash
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        assert answer.json()["code"] == "not_found"
    assert client.post(f"{client.base_url}".rstrip("/") + "//predict").status_code == 404
    answer = client.post("/index.html")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    metrics = client.get("/metrics").text
    assert 'route="page",status="404"' in metrics


def test_an_unchanged_page_is_not_sent_again(serve, site):
    client = serve(frontend_dir=site).client
    etag = client.get("/").headers["etag"]
    assert client.get("/", headers={"If-None-Match": etag}).status_code == 304


def test_cors_only_where_it_is_set(serve):
    origin = {"Origin": "https://a.example"}
    assert "access-control-allow-origin" not in serve().client.get("/health", headers=origin).headers
    allowed = serve(cors_origins=("https://a.example",)).client
    assert allowed.get("/health", headers=origin).headers["access-control-allow-origin"] == "https://a.example"
    other = allowed.get("/health", headers={"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers
