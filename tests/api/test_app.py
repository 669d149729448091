"""The OpenAPI document, and the entry point."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def document(client) -> dict:
    return client.get("/openapi.json").json()


def operations(document):
    return {(method, path): item for path, methods in document["paths"].items() for method, item in methods.items()}


def test_every_call_of_the_contract_is_described(document):
    assert set(operations(document)) == {
        ("post", "/predict"),
        ("post", "/predict/batch"),
        ("post", "/predict/lesion"),
        ("post", "/compare"),
        ("get", "/health"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
        ("get", "/models"),
        ("get", "/models/{name}"),
        ("get", "/models/{name}/report"),
        ("get", "/metrics"),
    }


def test_every_failure_is_a_problem_document(document):
    for (method, path), operation in operations(document).items():
        assert "500" in operation["responses"]
        for status, response in operation["responses"].items():
            if status < "400" or (path, status) == ("/health", "503"):
                continue
            assert list(response["content"]) == ["application/problem+json"], (method, path, status)
            assert response["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert "`" in response["description"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_predict_names_each_status_and_code(document):
    described = operations(document)["post", "/predict"]["responses"]
    assert set(described) == {"200", "400", "401", "403", "404", "406", "413", "415", "422", "429", "500", "503", "504"}
    text = " ".join(response["description"] for response in described.values())
    for code in (
        *("malformed_multipart", "missing_file", "unknown_model", "too_large", "unsupported_type", "empty_file", "undecodable"),
        *("truncated", "too_small", "too_many_pixels", "overloaded", "no_model", "deadline", "unauthorized"),
        *("rate_limited", "cross_site", "not_acceptable"),
    ):
        assert f"`{code}`" in text
    assert "Retry-After" in described["503"]["headers"]
    assert "Retry-After" in described["429"]["headers"]
    assert "WWW-Authenticate" in described["401"]["headers"]


def test_uploads_are_described_as_binary_form_parts(document):
    for path, field in (("/predict", "file"), ("/predict/batch", "files"), ("/predict/lesion", "files"), ("/compare", "files")):
        body = operations(document)["post", path]["requestBody"]
        assert body["required"] is True
        schema = body["content"]["multipart/form-data"]["schema"]
        assert schema["required"] == [field]


def test_unusable_settings_end_the_process_with_an_explanation():
    environment = os.environ | {"AIDERM_PORT": "no", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "aiderm_api"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "AIDERM_PORT" in done.stderr
    assert "Traceback" not in done.stderr
