"""Every failure is a problem document, wherever it was raised."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter

from aiderm_api.errors.handlers import from_image_error
from aiderm_api.errors.problems import NoModel, Overloaded, TooLarge
from aiderm_api.errors.responses import responses
from aiderm_core.imaging.errors import ImageError


def check(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "code", "detail", "request_id"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_unknown_path(client):
    assert "/nowhere" in check(client.get("/nowhere"), 404, "not_found")["detail"]
    check(client.post("/predict/"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST"}),
        ("HEAD", "/predict", {"POST"}),
        ("DELETE", "/health", {"GET", "HEAD"}),
        ("OPTIONS", "/models", {"GET", "HEAD"}),
        ("PURGE", "/predict", {"POST"}),
    ],
)
def test_wrong_method(client, method, path, allowed):
    answer = client.request(method, path)
    assert set(answer.headers["allow"].split(", ")) == allowed
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (405, b"")
    else:
        assert method in check(answer, 405, "method_not_allowed")["detail"]


def test_head_answers_like_get_without_a_body(client):
    head, get = client.head("/health"), client.get("/health")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_a_crash_tells_the_client_nothing(serve, caplog):
    running = serve()
    router = APIRouter()

    @router.get("/crash")
    async def crash() -> None:
        raise RuntimeError("password=hunter2")

    running.server.config.app.include_router(router)
    answer = running.client.get("/crash", headers={"X-Request-ID": "abc.1"})
    body = check(answer, 500, "internal_error")
    assert body["request_id"] == "abc.1"
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert running.client.get("/health").status_code == 200
    assert 'aiderm_problems_total{code="internal_error"} 1.0' in running.client.get("/metrics").text


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("empty_file", 422),
        ("unsupported_type", 415),
        ("undecodable", 422),
        ("truncated", 422),
        ("too_small", 422),
        ("too_many_pixels", 422),
        ("too_large", 413),
    ],
)
def test_refused_pictures_keep_their_code(code, status):
    problem = from_image_error(ImageError(code, "Received x; allowed y.")).problem("id")
    assert (problem.status, problem.code, problem.detail) == (status, code, "Received x; allowed y.")


def test_retry_after_is_at_least_a_second():
    assert Overloaded("x", retry_after=0.01).problem("id").retry_after == 1
    assert Overloaded("x", retry_after=2.2).problem("id").retry_after == 3


def test_openapi_fragment_merges_codes_of_one_status():
    found = responses(Overloaded, NoModel, TooLarge)
    assert set(found) == {413, 500, 503}
    assert "`overloaded`, `no_model`" in found[503]["description"]
    assert list(found[503]["content"]) == ["application/problem+json"]
