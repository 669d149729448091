"""Runs schemathesis against the service with valid and broken images, valid and broken requests, and all checks."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import StopReason, events, from_schema

VALID = ("jpeg", "png", "webp", "rotated", "cmyk", "greyscale", "16_bit", "alpha", "animated_gif")
# A well-formed request may be refused because of its image, as documented; a malformed request must never succeed.
SETTINGS = {
    "seed": 4,
    "phases": {"stateful": {"enabled": False}},
    "checks": {
        "positive_data_acceptance": {"expected-statuses": ["2xx", 404, 413, 415, 422]},
        "negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 415, 422]},
    },
}


@pytest.mark.filterwarnings("default")  # schemathesis emits warnings of its own
@pytest.mark.parametrize(
    ("examples", "cases"),
    [
        pytest.param(20, 80, id="80"),
        pytest.param(95, 500, id="500", marks=pytest.mark.soak),
        pytest.param(1300, 5000, id="5000", marks=pytest.mark.soak),
    ],
)
def test_the_service_keeps_its_contract(service, pictures, examples, cases):
    usual = [pictures[name] for name in pictures if name != "12_megapixel"]
    valid = st.sampled_from([pictures[name] for name in VALID])
    schemathesis.openapi.format("binary", valid | st.sampled_from(usual) | st.binary(max_size=300))
    base = f"http://127.0.0.1:{service.port}"
    config = SchemathesisConfig.from_dict(
        SETTINGS | {"base-url": base, "generation": {"mode": "all", "max-examples": examples, "deterministic": True}}
    )
    document = schemathesis.openapi.from_url(f"{base}/openapi.json", config=config)

    seen: Counter[tuple[str, int]] = Counter()
    failures, errors = set(), []
    finished = None
    for event in from_schema(document).execute():
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            for key, interaction in recorder.interactions.items():
                response = interaction.response
                assert response is not None, recorder.label
                seen[recorder.label, response.status_code] += 1
                assert response.headers["x-request-id"], recorder.label
                if response.status_code >= 400:
                    assert response.headers["content-type"] == ["application/problem+json"], (recorder.label, response.content)
                for check in recorder.checks.get(key, ()):
                    if check.failure_info is not None:
                        failures.add((recorder.label, check.name, str(check.failure_info.failure)))
        elif isinstance(event, events.NonFatalError | events.FatalError):
            errors.append(event)
        elif isinstance(event, events.EngineFinished):
            finished = event.stop_reason
    assert failures == set()
    assert errors == []
    assert finished is StopReason.COMPLETED
    assert seen.total() >= cases, seen
    # Valid and broken images and requests were really sent; a short run need not include every kind of broken one.
    for path in ("/predict", "/predict/batch", "/predict/lesion", "/compare"):
        sent = {status for label, status in seen if label == f"POST {path}"}
        assert {200, 404} <= sent
        assert cases < 500 or {400, 422} <= sent
    assert cases < 500 or seen["POST /predict", 415] > 0
    assert {label for label, _ in seen} == {
        "POST /predict",
        "POST /predict/batch",
        "POST /predict/lesion",
        "POST /compare",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /models",
        "GET /models/{name}",
        "GET /models/{name}/report",
        "GET /metrics",
    }
    assert not [status for _, status in seen if status >= 500]
    assert service.client.get("/health").json()["status"] == "ok"
