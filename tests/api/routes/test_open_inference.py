"""The Open Inference Protocol over real HTTP, with Triton's client and with handwritten requests that no client would send."""

from __future__ import annotations

import base64
import json
import tracemalloc

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from aiderm_api.auth.keys import changing, new_key
from aiderm_api.errors.problems import MalformedTensors
from aiderm_api.open_inference import parse_request
from aiderm_core.bundle.manifest import Manifest

SIZE = 64
INFER = "/v2/models/melanoma/infer"


@pytest.fixture(scope="module")
def server(service):
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
        yield client


def image(*reds: int, blue: int = 10) -> np.ndarray:
    """For each red, an image for which the tests' model returns malignancy red/255 and novelty 10 * blue."""
    return np.stack([np.full((SIZE, SIZE, 3), (red, 100, blue), np.uint8) for red in reds])


def tensor(values: np.ndarray, name: str, kind: str, binary: bool) -> triton.InferInput:
    sent = triton.InferInput(name, list(values.shape), kind)
    sent.set_data_from_numpy(values, binary_data=binary)
    return sent


def test_state_and_metadata(server, client):
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    for version in ("", "1"):
        assert server.is_model_ready("melanoma", version)
        described = server.get_model_metadata("melanoma", version)
        assert (described["name"], described["versions"]) == ("melanoma", ["1"])
        assert {item["name"]: (item["datatype"], item["shape"]) for item in described["inputs"]} == {
            "image": ("UINT8", [-1, SIZE, SIZE, 3]),
            "file": ("BYTES", [-1]),
        }
        assert {item["name"]: item["shape"] for item in described["outputs"]}["probability"] == [-1, 7]
    assert not server.is_model_ready("melanoma", "2")
    for path in ("/v2/models/moles", "/v2/models/melanoma/versions/2", "/v2/nothing"):
        answer = client.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("wanted_binary", [True, False, None])
def test_tensors(server, sent_binary, wanted_binary):
    names = ("novelty", "malignancy", "probability", "heatmap")
    outputs = None if wanted_binary is None else [triton.InferRequestedOutput(name, wanted_binary) for name in names]
    inputs = [tensor(image(51, 204), "image", "UINT8", sent_binary)]
    answer = server.infer("melanoma", inputs, "1", outputs, request_id="mine")
    assert answer.as_numpy("malignancy") == pytest.approx([0.2, 0.8], abs=1e-4)
    assert answer.as_numpy("novelty") == pytest.approx([100, 100], abs=1e-2)
    assert answer.as_numpy("probability").sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert answer.as_numpy("heatmap").shape == (2, 8, 8)
    assert answer.as_numpy("decision") is None
    shown = answer.get_response()
    assert (shown["id"], shown["model_name"], shown["model_version"]) == ("mine", "melanoma", "1")
    if outputs:
        assert [item["name"] for item in shown["outputs"]] == list(names)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_files(server, client, forms, shape):
    files = [forms.png_of(51), forms.png_of(204)]
    inputs = [tensor(np.array(files, np.object_).reshape(shape), "file", "BYTES", True)]
    answer = server.infer("melanoma", inputs)
    assert answer.as_numpy("decision").tolist() == [b"low_suspicion", b"suspicious"]
    results = client.post("/predict/batch", files=[("files", file) for file in files]).json()["results"]
    expected = [item["assessment"]["malignancy"]["probability"] for item in results]
    assert answer.as_numpy("malignancy") == pytest.approx(expected, abs=1e-6)
    text = [base64.b64encode(file).decode() for file in files]
    data = text if len(shape) == 1 else [[each] for each in text]
    body = json.dumps({"inputs": [{"name": "file", "datatype": "BYTES", "shape": shape, "data": data}]}).replace("/", "\\/")
    outputs = client.post(INFER, content=body).json()["outputs"]
    assert {item["name"]: item["data"] for item in outputs}["decision"] == ["low_suspicion", "suspicious"]


def test_a_rejected_image_has_no_number_but_its_novelty(server, forms):
    files = np.array([forms.png_of(51), forms.png_of(51, blue=200)], np.object_)
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput(name, binary) for name in ("decision", "malignancy", "heatmap", "novelty")]
        answer = server.infer("melanoma", [tensor(files, "file", "BYTES", True)], outputs=outputs)
        assert answer.as_numpy("decision").tolist()[1] in (b"rejected", "rejected")
        assert np.isnan(answer.as_numpy("malignancy")).tolist() == [False, True]
        assert np.isnan(answer.as_numpy("heatmap")).all(axis=(1, 2)).tolist() == [False, True]
        assert answer.as_numpy("novelty") == pytest.approx([100, 2000], abs=0.1)


def test_a_file_that_cannot_be_assessed_is_named(server, forms):
    files = np.array([forms.png_of(51), b"%PDF-1.7\n"], np.object_)
    with pytest.raises(InferenceServerException, match="index 1: Received a PDF document") as caught:
        server.infer("melanoma", [tensor(files, "file", "BYTES", True)])
    assert caught.value.status() == "415"


def request(**changes) -> dict:
    return {"name": "image", "datatype": "UINT8", "shape": [1, SIZE, SIZE, 3], "data": image(51).ravel().tolist()} | changes


WRONG = {
    "no JSON": (b"<x/>", {}, 400, "Open Inference Protocol"),
    "another document": (b"[]", {}, 400, "Open Inference Protocol"),
    "no inputs": ({"inputs": []}, {}, 400, "no inputs"),
    "two inputs": ({"inputs": [request()] * 2}, {}, 400, "one of image UINT8 [N, 64, 64, 3]"),
    "another name": ({"inputs": [request(name="input_1")]}, {}, 400, "input_1 UINT8"),
    "another type": ({"inputs": [request(datatype="FP32")]}, {}, 400, "image FP32"),
    "another size": ({"inputs": [request(shape=[1, 32, 32, 3])]}, {}, 400, "[1, 32, 32, 3]"),
    "too many": ({"inputs": [request(shape=[17, SIZE, SIZE, 3])]}, {}, 400, "N from 1 to 16"),
    "none": ({"inputs": [request(shape=[0, SIZE, SIZE, 3], data=[])]}, {}, 400, "N from 1 to 16"),
    "too few values": ({"inputs": [request(data=[1, 2])]}, {}, 400, "2 values. Allowed: 12,288"),
    "values beyond a byte": ({"inputs": [request(data=[256] * (SIZE * SIZE * 3))]}, {}, 400, "from 0 to 255"),
    "fractions": ({"inputs": [request(data=[0.5] * (SIZE * SIZE * 3))]}, {}, 400, "whole numbers"),
    "texts": ({"inputs": [request(data=["a"] * (SIZE * SIZE * 3))]}, {}, 400, "from 0 to 255"),
    "no data": ({"inputs": [request(data=None)]}, {}, 400, "there is no shared memory"),
    "no base64": ({"inputs": [request(name="file", datatype="BYTES", shape=[1], data=["a"])]}, {}, 400, "not base64"),
    "fewer files": ({"inputs": [request(name="file", datatype="BYTES", shape=[2], data=["YQ=="])]}, {}, 400, "Allowed: 2"),
    "more files": ({"inputs": [request(name="file", datatype="BYTES", shape=[1], data=["YQ=="] * 9)]}, {}, 400, "more than 1"),
    "an unknown output": ({"inputs": [request()], "outputs": [{"name": "decision"}]}, {}, 400, "probability, malignancy"),
    "classification": (
        {"inputs": [request()], "outputs": [{"name": "probability", "parameters": {"classification": 2}}]}, {}, 400, "binary_data"
    ),
    "long JSON": ({"inputs": [request()], "parameters": {"x": [[]] * 30_000}}, {}, 400, "besides data"),
    "a length beyond the body": (b"{}", {"Inference-Header-Content-Length": "3"}, 400, "the body's 2 bytes"),
    "a negative length": (b"{}", {"Inference-Header-Content-Length": "-1"}, 400, "-1"),
    "a compressed body": (b"{}", {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "large JSON": (b" " * 16_000_001, {}, 413, "16,000,000"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_errors_say_what_was_received_and_what_is_allowed(client, what):
    body, headers, status, said = WRONG[what]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(INFER, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "behind", "said"),
    [
        (4, b"\4\0\0\0", "received 4 bytes for the file at index 0. Allowed: 8"),
        (5, b"\1\0\0\0a", "received 5 bytes behind"),
        (10, b"\1\0\0\0a" * 2, "received more than 1 files"),
        (2, b"\0\0", "received 2 bytes for the file"),
        (0, b"", "received 0 files"),
    ],
)
def test_binary_files_whose_lengths_do_not_fit(client, size, behind, said):
    declared = size + 1 if said == "received 5 bytes behind" else size
    parameters = {"binary_data_size": declared}
    head = json.dumps({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "parameters": parameters}]}).encode()
    answer = client.post(INFER, content=head + behind, headers={"Inference-Header-Content-Length": str(len(head))})
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.parametrize("inside", [b"[],", b"{},", b'"",', b"0,", b"1e9,", b"[[0,", b"999,"])
@pytest.mark.parametrize("place", [b'"data":[', b'"parameters":{"x":['])
def test_hostile_json_takes_a_few_times_its_size(models_root, inside, place):
    text = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,64,64,3],' + place + inside * (1_000_000 // len(inside))
    manifest = Manifest.load(models_root / "melanoma" / "1")
    tracemalloc.start()
    with pytest.raises(MalformedTensors):
        parse_request(text + b"]}]}", memoryview(b""), manifest, 16, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(text)


def test_it_is_admitted_and_recorded_as_predictions_are(serve, tmp_path):
    keys, trail = tmp_path / "keys.json", tmp_path / "audit"
    key, secret = new_key("triton")
    with changing(keys) as stored:
        stored.append(key)
    running = serve(keys_file=keys, key_rate=0.001, key_burst=3, audit=str(trail))
    client, mine = running.client, {"Authorization": f"Bearer {secret}"}
    body = json.dumps({"inputs": [request(shape=[2, SIZE, SIZE, 3], data=image(51, 204).tolist())]})
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for answer in (client.get("/v2"), client.get("/v2/models/melanoma"), client.post(INFER, content=body)):
        assert (answer.status_code, list(answer.json())) == (401, ["error"])
        assert "WWW-Authenticate" in answer.headers
    foreign = client.post(INFER, content=body, headers={**mine, "Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, list(foreign.json())) == (403, ["error"])
    assert [client.post(INFER, content=body, headers=mine).status_code for _ in range(3)] == [200, 200, 429]
    running.stop()
    events = [json.loads(line) for line in trail.read_text().splitlines()]
    tensors = sorted((event["index"], event["outputs"]["malignancy"]) for event in events if event["event"] == "tensor")
    assert tensors == [(0, pytest.approx(0.2))] * 2 + [(1, pytest.approx(0.8))] * 2


def test_what_is_too_large_or_too_much_is_refused_before_it_is_read(serve):
    running = serve()
    with running.connect() as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 60100000\r\n\r\n".encode())
        answer = connection.recv(65536)
        while b"}" not in answer:  # head and body may arrive apart
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'{"error":"Received: a body of 60,100,000 bytes. Allowed: 60,000,000' in answer
    running.services.pool.close(0)
    answer = running.client.post(INFER, content=b"no JSON")
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    assert "Retry-After" in answer.headers
