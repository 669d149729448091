"""The OpenAPI document has an example for every response and every failure, and each matches its schema."""

from __future__ import annotations

import re

import jsonschema_rs
import pytest

from aiderm_api.app import create_app
from aiderm_api.openapi import openapi_document
from aiderm_api.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict:
    return openapi_document(create_app(Settings()))


def bodies(document):
    """Yields (operation, status, media type, media type object) of every response that is not binary."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media_type, content in response["content"].items():
                    if content["schema"].get("format") == "binary":
                        continue
                    yield f"{method.upper()} {path}", status, media_type, content


def errors(document, schema, value):
    validator = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    return [f"{list(error.instance_path)}: {error.message}" for error in validator.iter_errors(value)]


def test_every_answer_has_examples_that_keep_its_schema(document):
    seen = 0
    for operation, status, media_type, content in bodies(document):
        assert content.get("examples"), (operation, status, media_type)
        for name, example in content["examples"].items():
            assert errors(document, content["schema"], example["value"]) == [], (operation, status, name)
            seen += 1
    assert seen > 40
    for name, schema in document["components"]["schemas"].items():
        if "example" in schema:
            assert errors(document, {"$ref": f"#/components/schemas/{name}"}, schema["example"]) == [], name


def test_a_broken_example_would_be_found(document):
    found = errors(document, {"$ref": "#/components/schemas/Assessment"}, {"decision": "benign"})
    assert any("benign" in error for error in found)
    assert any("request_id" in error for error in found)


def test_every_problem_code_has_an_example_of_its_own(document):
    for operation, status, media_type, content in bodies(document):
        if media_type != "application/problem+json":
            continue
        described = document["paths"][operation.split()[1]][operation.split()[0].lower()]["responses"][status]["description"]
        assert set(content["examples"]) == set(re.findall(r"`(\w+)`", described)), operation
        for code, example in content["examples"].items():
            problem = example["value"]
            assert (problem["code"], str(problem["status"])) == (code, status)
            assert problem["detail"], f"{operation}: {code} has no example"
            assert ("retry_after" in problem) == (status in ("429", "503", "504"))


def test_each_decision_is_shown_with_and_without_its_number(document):
    shown = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(shown) == {"low_suspicion", "suspicious", "uncertain", "rejected"}
    for name, example in shown.items():
        value = example["value"]
        assert value["decision"] == name
        assert (value["malignancy"] is None) == (not value["classes"]) == (name == "rejected")
        if name != "rejected":
            malignancy = value["malignancy"]
            low, high = malignancy["uncertain"]
            inside = low <= malignancy["probability"] <= high
            assert inside == (name == "uncertain")
            assert (malignancy["probability"] >= malignancy["threshold"]) == (name != "low_suspicion")


def test_operations_have_short_names(document):
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
    assert {"predict", "predict_batch", "health", "models", "model", "report"} <= set(names)
