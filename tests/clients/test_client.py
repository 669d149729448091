"""Tests both Python clients against a running service."""

from __future__ import annotations

import copy
import inspect
import io
import json
from contextlib import suppress
from pathlib import Path

import httpx
import pydantic
import pytest

import aiderm_client
from aiderm_api.errors import problems as api_problems
from aiderm_client import AidermError, AsyncClient, Client, Decision, ProblemError, Retry, UnexpectedAnswer, client_errors
from aiderm_client import response_models as client_models

OPENAPI = Path(__file__).parents[2] / "clients" / "openapi.json"


@pytest.mark.parametrize("decision", list(Decision))
def test_predict(client, pictures, decision):
    answer = client.predict(pictures[decision], explain=True, request_id=f"test-{decision}")
    assert answer.decision is decision
    assert answer.request_id == f"test-{decision}"
    assert "not a medical device" in answer.disclaimer
    if decision is Decision.REJECTED:
        assert (answer.malignancy, answer.classes, answer.heatmap_png()) == (None, (), None)
    else:
        assert answer.malignancy.probability == pytest.approx(sum(item.probability for item in answer.classes if item.malignant))
        assert answer.heatmap_png().startswith(b"\x89PNG")


def test_a_picture_is_a_path_bytes_or_a_file(client, pictures):
    path = pictures["suspicious"]
    data = path.read_bytes()
    with path.open("rb") as file:
        for picture in (path, str(path), data, bytearray(data), memoryview(data), file, io.BytesIO(data)):
            assert client.predict(picture).decision == "suspicious"


@pytest.mark.parametrize("wrong", [io.StringIO("text"), 7, None])
def test_anything_else_is_not(client, wrong):
    with pytest.raises(TypeError, match=f"binary mode. Received: {type(wrong).__name__}"):
        client.predict(wrong)


def test_batch(client, pictures):
    items = client.predict_batch([pictures["suspicious"], b"%PDF-1.7\n", pictures["rejected"]], explain=True)
    assert [item.index for item in items] == [0, 1, 2]
    assert items[0].result().decision == "suspicious"
    assert items[2].result().decision == "rejected"
    with pytest.raises(aiderm_client.UnsupportedType, match="PDF") as error:
        items[1].result()
    assert error.value.problem == items[1].problem
    with pytest.raises(ValueError, match="at least one file"):
        client.predict_batch([])


def test_several_images_of_one_lesion(client, pictures):
    answer = client.predict_lesion([pictures["suspicious"], pictures["rejected"]], explain=True)
    assert (answer.decision, answer.counted, answer.disagreement) == (Decision.SUSPICIOUS, (0,), None)
    assert [(item.index, item.reasons[0].code) for item in answer.left_out] == [(1, "novelty")]
    assert answer.images[0].result().heatmap_png()


def test_two_images_of_one_lesion_are_compared(client, pictures):
    answer = client.compare(pictures["suspicious"], pictures["low_suspicion"], explain=True)
    assert (answer.result, answer.growth, answer.overlay_png()) == ("not_comparable", None, None)
    assert answer.reasons[0].code == "no_outline"  # the tests' model draws no outline
    assert [image.decision for image in answer.images] == [Decision.SUSPICIOUS, Decision.LOW_SUSPICION]
    with pytest.raises(aiderm_client.EmptyFile, match="index 1"):
        client.compare(pictures["suspicious"], b"")


def test_refusals_are_typed_by_their_code(client, pictures):
    with pytest.raises(aiderm_client.EmptyFile):
        client.predict(b"")
    with pytest.raises(aiderm_client.InvalidParameter, match="thorough"):
        client.predict(pictures["suspicious"], thorough=True)
    with pytest.raises(aiderm_client.UnknownModel, match="moles") as error:
        client.predict(pictures["suspicious"], model="moles", request_id="abc.1")
    assert error.value.problem.request_id == "abc.1"
    assert error.value.retry_after is None
    with pytest.raises(aiderm_client.UnknownModel):
        client.report("moles")
    with pytest.raises(ProblemError):
        client.model("../health")


def test_health_models_model_and_report(client):
    health = client.health()
    assert (health.status, health.models["melanoma"].state) == ("ok", "serving")
    listed = client.models()
    [summary] = listed.models
    assert (listed.default, summary.name, summary.default) == ("melanoma", "melanoma", True)
    detail = client.model(listed.default)
    assert detail.metrics["test"]["auc"].ci95 == (0.88, 0.92)
    assert detail.card.startswith("# melanoma 1")
    assert client.report(listed.default)["roc"]["test"]


def test_a_service_that_asks_for_keys(make_client, keyed, pictures):
    url, key, slow_key = keyed
    assert make_client(url, api_key=key).predict(pictures["suspicious"]).decision == "suspicious"
    for nobody in (make_client(url), make_client(url, api_key="wrong")):
        with pytest.raises(aiderm_client.Unauthorized, match="Bearer"):
            nobody.predict(pictures["suspicious"])
        assert nobody.health().status == "ok"
    slow = make_client(url, api_key=slow_key)
    with suppress(aiderm_client.RateLimited):  # the test of the other client may have used up its one image
        slow.predict(pictures["suspicious"])
    with pytest.raises(aiderm_client.RateLimited) as error:
        slow.predict(pictures["suspicious"])
    assert error.value.retry_after > 60  # which is why the client did not wait


def test_an_unhealthy_service_is_an_answer(make_client):
    body = {"status": "unavailable", "models": {}, "version": "0.1.0"}
    client = make_client("http://x", transport=httpx.MockTransport(lambda _: httpx.Response(503, json=body)))
    assert client.health().status == "unavailable"


def test_the_key_goes_as_bearer_and_nowhere_else(make_client, pictures):
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        document = {"title": "Unauthorized", "status": 401, "code": "unauthorized", "detail": "No.", "request_id": "r"}
        return httpx.Response(401, json=document, headers={"content-type": "application/problem+json"})

    seen: list[httpx.Request] = []
    client = make_client("http://x/api", api_key="secret-key", transport=httpx.MockTransport(answer))
    with pytest.raises(aiderm_client.Unauthorized) as error:
        client.predict(pictures["suspicious"])
    [request] = seen
    assert request.url == "http://x/api/predict"
    assert request.headers["authorization"] == "Bearer secret-key"
    assert b"suspicious.png" not in request.content  # a file's name may contain a patient's name
    assert "secret-key" not in str(error.value) + repr(client)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key):
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="printable ASCII") as error:
            kind("http://x", api_key=key)
        assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (httpx.Response(200, text="<html>"), "Received: text/plain"),
        (httpx.Response(502, text="<html>"), "status 502"),
        (httpx.Response(200, json={"default": "melanoma"}), "'models'"),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), "status 302"),
        (httpx.Response(404, json={"detail": "Not Found"}), "status 404"),
    ],
)
def test_what_is_no_answer_of_this_api_is_said_to_be_none(make_client, response, text):
    client = make_client("http://x", transport=httpx.MockTransport(lambda _: copy.deepcopy(response)))
    with pytest.raises(UnexpectedAnswer, match=text):
        client.models()


def test_both_clients_offer_the_same(service):
    names = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert names == {"predict", "predict_batch", "predict_lesion", "compare", "health", "models", "model", "report", "close"}
    for name in names - {"close"}:
        blocking, awaitable = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(blocking) == inspect.signature(awaitable)
        assert inspect.getdoc(blocking) == inspect.getdoc(awaitable) != ""
    with Client(service) as client:
        assert list(inspect.signature(client.predict).parameters) == ["file", "model", "explain", "thorough", "request_id"]


def test_every_code_of_the_api_has_its_class():
    ours = {kind.code for kind in vars(client_errors).values() if inspect.isclass(kind) and issubclass(kind, ProblemError)} - {""}
    theirs = {
        kind.code for kind in vars(api_problems).values() if inspect.isclass(kind) and issubclass(kind, api_problems.ProblemError)
    }
    # No client receives the first; the second belongs to the Open Inference Protocol, for which there are other clients.
    assert theirs - {"client_closed_request", "malformed_tensors"} <= ours
    assert {"unauthorized", "rate_limited", "method_not_allowed"} <= ours
    assert all(issubclass(getattr(aiderm_client, name), AidermError) for name in dir(aiderm_client) if name.endswith("Error"))


def test_an_unknown_code_is_still_a_problem():
    problem = aiderm_client.Problem(title="Teapot", status=418, code="teapot", detail="Short and stout.", request_id="r")
    assert type(ProblemError.of(problem)) is ProblemError


def test_models_hold_every_field_of_the_api_and_read_every_example():
    document = json.loads(OPENAPI.read_text("utf-8"))
    components = document["components"]["schemas"]
    renamed = {"ReasonOut": "Reason", "QualityWarningOut": "QualityWarning", "RegionOut": "Region", "ImageOut": "Image"}
    renamed |= {"NoveltyOut": "Novelty", "Novelty": "NoveltyRule", "MostLikelyOut": "MostLikely"}
    renamed |= {"SpreadOut": "Spread", "DisagreementOut": "Disagreement"}
    renamed |= {"ColoursOut": "Colours", "RegistrationOut": "Registration", "OutlinesOut": "Outlines"}
    renamed |= {"LesionOut": "Lesion", "MeasureOut": "Measure", "ColourOut": "Colour"}
    known = vars(client_models) | {"Problem": aiderm_client.Problem}
    for name, schema in components.items():
        if "properties" not in schema or name in ("Live", "Ready"):
            continue
        model = known[renamed.get(name, name)]
        assert issubclass(model, pydantic.BaseModel)
        assert set(model.model_fields) == set(schema["properties"]), name
    read = {"/predict": "Assessment", "/predict/batch": "BatchAnswer", "/health": "Health", "/models": "ModelList"}
    read |= {"/models/{name}": "ModelDetail", "/predict/lesion": "LesionAssessment", "/compare": "Comparison"}
    for path, name in read.items():
        for operation in document["paths"][path].values():
            for example in operation["responses"]["200"]["content"]["application/json"]["examples"].values():
                known[name].model_validate(example["value"])


def test_a_field_of_tomorrow_is_ignored_and_a_decision_of_tomorrow_is_not_guessed():
    document = json.loads(OPENAPI.read_text("utf-8"))
    example = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["examples"]["suspicious"]
    answer = example["value"]
    assert client_models.Assessment.model_validate(answer | {"new": 1}).decision is Decision.SUSPICIOUS
    with pytest.raises(pydantic.ValidationError, match="decision"):
        client_models.Assessment.model_validate(answer | {"decision": "benign"})


def test_a_service_that_is_not_there(make_client):
    client = make_client("http://127.0.0.1:1", retry=Retry(attempts=1))
    with pytest.raises(aiderm_client.ConnectionFailed, match="1 attempt"):
        client.health()
