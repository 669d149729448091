"""The optimisations that keep a request cheap: one test for each, so that none is lost unnoticed."""

from __future__ import annotations

import asyncio
import gc

import pytest
from fastapi import APIRouter
from prometheus_client import Counter

from aiderm_api import lifespan
from aiderm_api.middleware.direct_routes import DirectRoutes
from aiderm_api.telemetry.prometheus_metrics import Metrics


@pytest.fixture
def unfrozen():
    yield
    gc.unfreeze()


def test_garbage_is_looked_for_among_new_objects_only(serve, unfrozen):
    gc.unfreeze()
    serve()
    assert gc.get_freeze_count() > 50_000


def test_at_rest_garbage_is_looked_for_everywhere(unfrozen):
    """A model that has been replaced may be among the frozen objects, which garbage collection skips."""
    cycle = Cycle()
    cycle.itself = cycle
    gc.collect()
    gc.freeze()
    Cycle.dropped = 0
    del cycle
    gc.collect()
    assert Cycle.dropped == 0
    lifespan._settle()
    assert Cycle.dropped == 1


class Cycle:
    dropped = 0

    def __del__(self) -> None:
        Cycle.dropped += 1


@pytest.fixture
def post(service, forms):
    """Returns a function that sends a small prediction in one piece and returns the status line."""

    def send(path: str = "/predict") -> bytes:
        body = forms.multipart(("file", "a.png", forms.png_of(230)))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
        with service.connect() as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return connection.recv(65536).partition(b"\r\n")[0]

    return send


def test_a_prediction_passes_by_the_routers(service, post, monkeypatch):
    async def broken(*_):
        raise RuntimeError("routed")

    monkeypatch.setattr(APIRouter, "__call__", broken)
    assert post() == b"HTTP/1.1 200 OK"
    assert post("/predict?explain=false") == b"HTTP/1.1 500 Internal Server Error"  # a query string goes through FastAPI's router


def test_a_prediction_crosses_three_layers_at_most(service):
    app = service.server.config.app
    layer, crossed = app.middleware_stack, []
    while not isinstance(layer, DirectRoutes):
        crossed.append(type(layer).__name__)
        layer = layer.app
    assert crossed == ["RequestContext"]  # API keys, or the page in the same process, add one layer each


def test_a_direct_route_answers_as_a_routed_one(client, forms):
    """A query string without effect sends a request through the router."""
    for files in (
        {"file": ("a.png", b"none")},
        {"file": ("a.png", b"")},
        {"other": ("a.png", b"x")},
        {"file": forms.png_of(230)},
    ):
        direct, routed = (client.post(path, files=files) for path in ("/predict", "/predict?explain=false"))
        assert direct.status_code == routed.status_code
        assert set(direct.json()) == set(routed.json())
        assert direct.headers.keys() == routed.headers.keys()


def test_a_prediction_takes_one_task_and_no_other_timer_than_its_deadline(service, post, monkeypatch):
    for name in ("wait", "timeout", "timeout_at", "ensure_future", "create_task"):
        monkeypatch.setattr(asyncio, name, lambda *_, name=name, **__: pytest.fail(f"asyncio.{name} was used"))
    assert post() == b"HTTP/1.1 200 OK"


def test_labels_are_looked_up_once(monkeypatch):
    metrics = Metrics()
    first = metrics.labelled(metrics.stages, "decode")
    monkeypatch.setattr(Counter, "labels", lambda *_: pytest.fail("looked up again"))
    assert metrics.labelled(metrics.stages, "decode") is first is metrics.stages.labels("decode")
    assert metrics.labelled(metrics.stages, "forward") is not first
