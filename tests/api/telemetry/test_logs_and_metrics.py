"""Request ids, metrics and logs, none of which contains any trace of an image."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest
import structlog

from aiderm_api.telemetry.logging import configure_logging


@pytest.mark.parametrize("given", ["abc", "A-1_2.3", "x" * 64])
def test_an_acceptable_request_id_is_kept(client, given):
    assert client.get("/health/live", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<script>", "a\tb"])
def test_any_other_request_id_is_replaced(client, given):
    returned = client.get("/nope", headers={"X-Request-ID": given})
    assert returned.headers["x-request-id"] != given
    assert re.fullmatch(r"[0-9a-f]{32}", returned.headers["x-request-id"])
    assert returned.json()["request_id"] == returned.headers["x-request-id"]


def test_request_ids_differ(client):
    assert len({client.get("/health/live").headers["x-request-id"] for _ in range(20)}) == 20


def test_the_assessment_carries_the_request_id(client, forms):
    answer = client.post("/predict", files={"file": forms.png_of(9)}, headers={"X-Request-ID": "mine"})
    assert answer.json()["request_id"] == "mine"


def test_metrics(serve, forms):
    client = serve().client
    client.post("/predict", files={"file": forms.png_of(230)})
    client.post("/predict", files={"file": b"nothing"})
    client.get("/models/melanoma")
    client.get("/some/random/path")
    client.request("BREW", "/health")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = set(answer.text.splitlines())
    assert 'aiderm_decisions_total{decision="suspicious",model="melanoma",version="1"} 1.0' in lines
    assert 'aiderm_requests_total{method="POST",route="/predict",status="200"} 1.0' in lines
    assert 'aiderm_requests_total{method="POST",route="/predict",status="415"} 1.0' in lines
    assert 'aiderm_requests_total{method="GET",route="/models/{name}",status="200"} 1.0' in lines
    assert 'aiderm_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert 'aiderm_problems_total{code="unsupported_type"} 1.0' in lines
    assert "aiderm_queue_depth 0.0" in lines
    assert "aiderm_queue_limit 128.0" in lines
    assert "aiderm_inflight_bytes 0.0" in lines
    assert "aiderm_models_serving 2.0" in lines
    for stage in ("receive", "queue", "decode", "quality", "forward", "respond", "total"):
        # Both images arrived; the second was refused.
        assert f'aiderm_stage_seconds_count{{stage="{stage}"}} {2.0 if stage == "receive" else 1.0}' in lines
    info = 'architecture="steerable",default="true",model="melanoma",precision="f32",runtime="openvino",version="1"'
    assert f"aiderm_model_info{{{info}}} 1.0" in lines
    assert "BREW" not in answer.text
    assert "random" not in answer.text


def test_each_app_has_a_registry_of_its_own(serve, forms):
    first, second = serve().client, serve().client
    first.post("/predict", files={"file": forms.png_of(230)})
    assert 'decision="suspicious"' in first.get("/metrics").text
    assert 'decision="suspicious"' not in second.get("/metrics").text


def test_metrics_and_docs_can_be_switched_off(serve):
    client = serve(metrics=False, docs=False).client
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 404


@pytest.fixture
def logged(monkeypatch):
    """Captures everything that is logged as text; restores the logging configuration afterwards."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging("debug", "json")
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_logs_are_json_and_hold_nothing_of_the_picture(serve, forms, logged):
    client = serve().client
    client.post(
        "/predict?model=melanoma", files={"file": ("patient-jane-doe.png", forms.png_of(230))}, headers={"X-Request-ID": "rid7"}
    )
    client.post("/predict", files={"file": ("patient-jane-doe.pdf", b"%PDF-1.7 secret content")})
    text = logged.getvalue()
    records = [json.loads(line) for line in text.splitlines()]
    [line] = [record for record in records if record["event"] == "request" and record.get("request_id") == "rid7"]
    assert (line["status"], line["route"], line["method"]) == (200, "/predict", "POST")
    assert line["ms"] > 0
    assert {"level", "timestamp"} <= set(line)
    assert any(record.get("code") == "unsupported_type" for record in records)
    for secret in ("jane", "secret content", "PNG\\r"):
        assert secret not in text


def test_a_crash_is_logged_with_its_cause_and_request_id(serve, logged):
    running = serve()

    async def crash() -> None:
        raise RuntimeError("the cause")

    running.server.config.app.add_api_route("/crash", crash)
    running.client.get("/crash", headers={"X-Request-ID": "rid8"})
    records = [json.loads(line) for line in logged.getvalue().splitlines()]
    [line] = [record for record in records if record["event"] == "crash"]
    assert line["request_id"] == "rid8"
    assert "RuntimeError: the cause" in line["exception"]
