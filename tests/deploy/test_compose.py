"""The stack as users get it: built, started, queried through nginx, inspected through the engine, and stopped."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest

from aiderm_core.runtime.processor import has_integer_units
from aiderm_trainer.data import synthetic

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers

# The files that a container has open, including deleted ones, and those in its writable folders.
OPEN_FILES = "ls -l /proc/[0-9]*/fd 2>/dev/null | sed -n 's/.* -> //p'; true"
WRITTEN_FILES = "find /tmp /var/tmp /dev/shm -type f 2>/dev/null; true"
DISCLAIMER = "not a diagnosis"
BOUNDARY = "deploy-test-boundary"


def png(pixels: np.ndarray, level: int = 3) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert done
    return data.tobytes()


def heic() -> bytes:
    return b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + bytes(2000)


@pytest.fixture(scope="module")
def lesion() -> bytes:
    return png(synthetic.lesion(7, malignant=True, size=300))


@pytest.fixture(scope="module")
def big_picture() -> bytes:
    """A valid image of about 19 MB; noise does not compress."""
    data = png(np.random.default_rng(0).integers(0, 256, (2500, 2530, 3), dtype=np.uint8), level=0)
    assert 18_500_000 < len(data) < 20_000_000
    return data


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as client:
        yield client


def predict(client: httpx.Client, data: bytes, name: str = "lesion.png", **query: str) -> httpx.Response:
    return client.post("/api/predict", files={"file": (name, data, "application/octet-stream")}, params=query)


def multipart(picture: bytes, host: str) -> tuple[bytes, bytes]:
    """The head, without the request line, and the body of a request for a raw socket."""
    part = '\r\nContent-Disposition: form-data; name="file"; filename="slow.png"\r\nContent-Type: image/png\r\n\r\n'
    body = f"--{BOUNDARY}{part}".encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        f"Host: {host}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    return head.encode(), body


def read_all(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].split(";")[0] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"]
    assert problem["request_id"]
    return problem


def docker_diff(container: str) -> list[str]:
    return subprocess.run(["docker", "diff", container], capture_output=True, text=True, check=True).stdout.splitlines()


def test_page_comes_with_a_strict_policy(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(
        rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";") if " " in rule.strip()
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "nginx/" not in page.headers.get("server", "")
    for path in re.findall(r'(?:src|href)="([^"#:]+)"', page.text):
        assert client.get("/" + path.removeprefix("./").lstrip("/")).status_code == 200, path


def test_health_and_models_through_nginx(client: httpx.Client) -> None:
    health = client.get("/api/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    [model] = [entry for name, entry in health.json()["models"].items() if name == "melanoma"]
    assert model["state"] == "serving"
    assert (model["runtime"], model["precision"]) == ("openvino", "int8" if has_integer_units() else "f32")
    assert client.get("/api/models").json()["default"] == "melanoma"
    assert client.get("/api/docs").status_code == 200


def test_prediction_of_a_synthetic_lesion(client: httpx.Client, lesion: bytes) -> None:
    response = predict(client, lesion, explain="true")
    assert response.status_code == 200, response.text
    assessment = response.json()
    assert assessment["decision"] in {"low_suspicion", "suspicious", "uncertain", "rejected"}
    assert assessment["image"]["width"] == assessment["image"]["height"] == 300
    assert DISCLAIMER in assessment["disclaimer"]
    assert (assessment["malignancy"] is None) == (assessment["decision"] == "rejected")
    assert response.headers["x-request-id"] == assessment["request_id"]
    # The same bytes give the same numbers again.
    again = predict(client, lesion).json()
    assert again["malignancy"] == assessment["malignancy"]
    assert again["novelty"] == assessment["novelty"]


def test_batch_of_a_picture_and_something_else(client: httpx.Client, lesion: bytes) -> None:
    files = [("files", ("a.png", lesion, "image/png")), ("files", ("b.png", b"%PDF-1.7 no picture", "image/png"))]
    results = client.post("/api/predict/batch", files=files).json()["results"]
    assert [entry["index"] for entry in results] == [0, 1]
    assert results[0]["problem"] is None
    assert results[1]["problem"]["code"] == "unsupported_type"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (heic(), 415, "unsupported_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_type"),
        (b"", 422, "empty_file"),
        (png(np.zeros((1, 1, 3), np.uint8)), 422, "too_small"),
        (png(synthetic.lesion(1, malignant=False, size=200))[:-4000], 422, "truncated"),
    ],
    ids=["heic", "svg", "empty", "one-pixel", "truncated"],
)
def test_pictures_that_cannot_be_judged(client: httpx.Client, data: bytes, status: int, code: str) -> None:
    assert_problem(predict(client, data), status, code)


@pytest.mark.parametrize("size", [21_000_000, 25_000_000], ids=["refused-by-the-api", "refused-by-nginx"])
def test_too_large_uploads(client: httpx.Client, size: int) -> None:
    problem = assert_problem(predict(client, b"\xff\xd8\xff\xe0" + bytes(size)), 413, "too_large")
    assert "20" in problem["detail"], "the text must name what is allowed"


def test_other_mistakes_of_a_client(client: httpx.Client, lesion: bytes) -> None:
    assert_problem(client.post("/api/predict", json={"file": "x"}), 400, "malformed_multipart")
    assert_problem(client.post("/api/predict", files={"picture": lesion}), 400, "missing_file")
    assert_problem(predict(client, lesion, model="nobody"), 404, "unknown_model")
    assert_problem(client.get("/api/nothing"), 404, "not_found")
    assert_problem(client.get("/api/predict"), 405, "method_not_allowed")


def test_upload_touches_no_disk(stack: Stack, client: httpx.Client, big_picture: bytes) -> None:
    services = ("api", "frontend")

    def traces(service: str) -> set[str]:
        found = (stack.execute(service, "sh", "-c", OPEN_FILES) + stack.execute(service, "sh", "-c", WRITTEN_FILES)).splitlines()
        kinds = ("/tmp", "/var", "/dev/shm", "/run")
        return {re.sub(r"/proc/\d+/", "/proc/N/", path) for path in found if path.startswith(kinds) or "(deleted)" in path}

    assert predict(client, big_picture).status_code == 200  # files that stay open after the first request are open now
    before = {service: traces(service) for service in services}
    host, port = stack.url.removeprefix("http://").split(":")
    head, body = multipart(big_picture, f"{host}:{port}")

    def during(address: tuple[str, int], path: bytes) -> dict[str, set[str]]:
        """The traces while the end of the upload is still missing."""
        with closing(socket.create_connection(address, timeout=60)) as connection:
            connection.sendall(b"POST " + path + b" HTTP/1.1\r\n" + head + body[:-1_000_000])
            time.sleep(1)
            found = {service: traces(service) for service in services}
            connection.sendall(body[-1_000_000:])
            status, _ = read_all(connection)
        assert status == 200
        return found

    assert during((host, int(port)), b"/api/predict") == before
    # The same directly at the API, because nginx only passes on complete uploads.
    assert during((stack.address("api"), 8000), b"/predict") == before
    for service in services:
        # Mount points are the only difference from the image.
        changed = {line[2:] for line in docker_diff(stack.container(service)) if line.startswith("A ")}
        assert changed <= {"/models", "/keys", "/run/secrets", "/run/secrets/page_key"}


def test_logs_are_json_and_name_neither_file_nor_picture(stack: Stack, client: httpx.Client, lesion: bytes) -> None:
    assert predict(client, lesion, name="Jane-Doe-1970.png").status_code == 200
    assert predict(client, b"no picture", name="Jane-Doe-1970.png").status_code == 415
    time.sleep(0.5)
    logs = {service: stack.logs(service) for service in ("api", "frontend")}
    for text in logs.values():
        assert "/predict" in text
        assert "Jane-Doe" not in text
    for line in logs["api"].splitlines():
        json.loads(line)


@pytest.mark.parametrize("service", ["api", "frontend"])
def test_container_is_locked_down(stack: Stack, service: str) -> None:
    details = stack.inspect(service)
    host = details["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert 0 < host["PidsLimit"] <= 256
    assert host["LogConfig"]["Config"]["max-size"]
    assert details["State"]["Health"]["Status"] == "healthy"
    assert all(not mount["RW"] for mount in details["Mounts"])
    # The kernel confirms it:
    status = stack.execute(service, "cat", "/proc/1/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Uid:\s+[1-9]\d*\s", status, re.M)
    written = "touch /here 2>/dev/null || touch /usr/here 2>/dev/null || touch /models/here 2>/dev/null || echo refused"
    assert stack.execute(service, "sh", "-c", written).strip() == "refused"


def test_nginx_alone_can_be_reached_and_the_api_reaches_nothing(stack: Stack) -> None:
    published = {service: stack.inspect(service)["NetworkSettings"]["Ports"] for service in ("api", "frontend")}
    assert not [binding for binding in published["api"].values() if binding]
    assert [[entry["HostIp"] for entry in binding] for binding in published["frontend"].values() if binding] == [["127.0.0.1"]]
    routes = [line.split() for line in stack.execute("api", "cat", "/proc/net/route").splitlines()[1:]]
    assert routes
    assert not [route for route in routes if route[1] == "00000000"], "the API has a way out"


def test_api_image_holds_only_what_serving_needs(stack: Stack) -> None:
    modules = ["tensorflow", "keras", "pip", "pytest", "openvino_telemetry"]
    probe = f"import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"
    assert stack.execute("api", "/opt/aiderm/bin/python", "-I", "-c", probe).strip() == "[]"
    tools = stack.execute("api", "sh", "-c", "command -v gcc cc g++ make git; ls -d /build /tmp/* 2>/dev/null; true")
    assert not tools.strip()


def test_flood_from_one_address_is_slowed_down(stack: Stack, client: httpx.Client) -> None:
    answers = [client.post("/api/predict", files={"file": b"x"}) for _ in range(150)]
    assert {answer.status_code for answer in answers} <= {415, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert_problem(refused[0], 429, "rate_limited")
    assert int(refused[0].headers["retry-after"]) > 0
    assert client.get("/api/health").status_code == 200, "only predictions are limited"
    time.sleep(3)


def test_stop_lets_requests_in_progress_finish(stack: Stack, client: httpx.Client, lesion: bytes) -> None:
    address = stack.address("api")
    head, body = multipart(lesion, f"{address}:8000")
    with closing(socket.create_connection((address, 8000), timeout=60)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\n" + head + body[:-5000])
        time.sleep(0.5)
        command = ["docker", "stop", "--time", "30", stack.container("api")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stopping:
            time.sleep(2)
            with pytest.raises(OSError, match=r"refused|reset"):
                socket.create_connection((address, 8000), timeout=5).close()
            connection.sendall(body[-5000:])
            status, answer = read_all(connection)
            assert stopping.wait(timeout=60) == 0
    assert status == 200
    assert json.loads(answer)["decision"]
    state = stack.inspect("api")["State"]
    assert state["ExitCode"] == 0, "it had to be killed"
    assert not state["OOMKilled"]

    # Without the API, nginx still serves the page and returns problems in the API's format.
    assert client.get("/").status_code == 200
    problem = assert_problem(predict(client, lesion), 503, "no_model")
    assert problem["retry_after"] > 0

    stack.compose("up", "--detach", "--wait", "--wait-timeout", "120")
    assert predict(client, lesion).status_code == 200
