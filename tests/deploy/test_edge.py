"""The shipped configuration in a real nginx, before an API that records what reaches it: limits, origins, hosts, headers."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.nginx import FOLDER, run_nginx, run_script
from tests.servers import Server

KEY = "aiderm_00000000_" + "0" * 64
TEMPLATE = (FOLDER / "default.conf.template").read_text("utf-8")
MIB = 1 << 20
INFER = "/api/v2/models/melanoma/infer"


@dataclass
class Api:
    """Answers everything with 200 and records each request as (method, path, headers)."""

    server: ThreadingHTTPServer
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return self.server.server_port


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            known.hold.wait(30)
            self.send_response(200)
            for name in ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"):
                self.send_header(name, "of-the-api")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Patient(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 200

    server = Patient(("127.0.0.1", 0), Handler)
    known = Api(server)
    known.hold.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield known
    server.shutdown()
    server.server_close()


Front = Callable[..., Server]


@pytest.fixture(scope="module")
def front(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Returns a function that starts an nginx with given settings."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(run_nginx(tmp_path_factory.mktemp("nginx"), api.port, KEY, **options))


@pytest.fixture(scope="module")
def open_front(front: Front) -> Server:
    """A shared nginx whose limits no test reaches."""
    return front(rate="10000r/s", burst=10000, AIDERM_CORS_ORIGINS="https://Clinic.example, https://other.example:8443")


def raw(nginx: Server, method: str, target: str, host: str | None = "127.0.0.1", version: str = "1.1", body: bytes = b"x") -> int:
    """Sends a request verbatim, which no HTTP library would do, and returns the status."""
    head = f"{method} {target} HTTP/{version}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=30) as connection:
        connection.sendall(head.encode("latin-1") + (f"Host: {host}\r\n" if host else "").encode() + b"\r\n" + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return int(received.split(b" ", 2)[1])


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Checks a problem document and returns its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    found = answer.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["request_id"] == answer.headers["x-request-id"]
    return str(found["detail"])


# --- limits ---------------------------------------------------------------------------------------------------------

WRITTEN = r"""
    /api/predict /api/predict/ //api//predict /api/./predict /./api/predict /x/../api/predict /api/predict/. /api/y/../predict
    /api/predict;a=b /api;x/predict /api/predict? /api/predict?a=%0a /api/predict# /api/predict%23 /api/predict%3f /api/predict.
    /api/%70redict /%61pi/predict /api%2fpredict /api%2Fpredict /api/predict%2f /api/predict%2e /api/%2e/predict /api/predict%5c
    /api/%2e%2e/api/predict /api/predict%252f /api/predict%250a /%2561pi/predict /api/predict%c0%8a /api/predict%e2%80%a8
    /API/predict /api/Predict /api/PREDICT /api/predict\ /api\predict /api/predict%u000a /api/api/predict /api//api/predict
    /predict /api/predict/batch /api/predict/batch/ /api/predict%0a/batch /api/predict/batch%0a //api/predict/./batch
    /api/%70redict/b%61tch http://127.0.0.1/api/predict http://127.0.0.1//api/predict%0a http://localhost/api/predict/batch
    /api/predict.. /api/predict... /api/predict/... /api/predict;jsessionid=1 /api;/predict /api/;/predict /.;/api/predict
    /api/predict%ef%bc%8f /api/%ef%bd%90redict /api/predict%00.jpg /api/%2570redict /api/predict%2500 /api%c0%afpredict
    /api/predict%e0%80%8a /api/predict%0d%0a /api/predict%20HTTP/1.1 /api///predict/// /api/%2e/predict/%2e
    /api/predict/lesion /api/predict/lesion/ /api/predict/lesion%0a /api/predict%2flesion /api/x/../predict/%6cesion
    /api/compare /api/compare/ //api//compare /api/compare%0a /api%2fcompare /api/%63ompare /api/x/../compare /compare
    /api/predict&x /api/predict=x /api/predict+ /api/predict* /api/predict~ /api/predict/%2e%2e/predict
    /api/v2/models/m/infer /api/v2/models/m/versions/1/infer /api/v2/models/m/infer/ //api//v2/models/m/infer
    /api/v2/models/m/infer%0a /api/v2/models/m%0a/infer /api/v2/models/m%2f/infer /api/v2/models/../models/m/infer
    /api/v2/models/%6d/inf%65r /v2/models/m/infer /api/v2%2fmodels/m/infer /api/v2/models/a%20b/infer
    /api/v2/models/m/infer;a /api/v2/models/m/versions/%0a/infer /api/V2/models/m/infer
"""
SPELLINGS = [
    *WRITTEN.split(),
    *(f"/api/predict%{code:02x}" for code in (*range(0x21), 0x7F, 0x85, 0xA0)),
    *(f"/api%{code:02x}/predict" for code in (0x09, 0x0A, 0x0D)),
]


TAKES_IMAGES = re.compile(r"/predict(/batch|/lesion)?|/compare|/v2/models/[^/]+(/versions/[^/]+)?/infer")


@dataclass
class Limited:
    """An nginx that lets its only client send four requests and then one per minute, and the number that passed so far."""

    nginx: Server
    api: Api
    started: float
    passed: int = 0

    def check(self) -> None:
        """Counts the requests that reached the API and may carry an image, by method or path, and asserts the limit."""
        for method, path, _ in self.api.seen:
            takes_image = TAKES_IMAGES.fullmatch(unquote(path.split("?")[0]).strip())
            self.passed += takes_image is not None or method not in {"GET", "HEAD", "OPTIONS"}
        self.api.seen.clear()
        assert self.passed <= 4 + (time.monotonic() - self.started) / 60


@pytest.fixture(scope="module")
def limited(front: Front, api: Api) -> Limited:
    limited = Limited(front(rate="1r/m", burst=3), api, time.monotonic())
    api.seen.clear()
    assert [raw(limited.nginx, "POST", "/api/predict") for _ in range(6)] == [200] * 4 + [429] * 2
    limited.check()
    return limited


def test_300_of_300_with_a_line_break_are_refused(front: Front, api: Api) -> None:
    nginx = front(rate="5r/s", burst=20)
    api.seen.clear()
    assert [raw(nginx, "POST", "/api/predict%0a") for _ in range(300)] == [400] * 300
    assert api.seen == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_spelling_of_a_path_passes_the_rate_limit(limited: Limited, method: str) -> None:
    limited.api.seen.clear()
    for spelling in SPELLINGS:
        raw(limited.nginx, method, spelling)
        limited.check()


def test_a_body_that_comes_with_a_question_is_limited_too(limited: Limited) -> None:
    """Otherwise it could hold as much memory as an upload."""
    limited.api.seen.clear()
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in ("/api/predict", "/api/predict/batch", "/api/predict/lesion", "/api/compare"):
            raw(limited.nginx, method, path)
            limited.check()
        assert raw(limited.nginx, method, "/api/models", body=bytes(17_000)) == 413


START = b"POST /api/predict HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
ONE = b"Content-Length: 1\r\n\r\nx"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK = b"\r\n1\r\nx\r\n0\r\n\r\n"
SHAPES = {
    "chunked": START + HOST + CHUNKED + CHUNK,
    "chunked with trailers": START + HOST + CHUNKED + CHUNK[:-2] + b"X-Forwarded-For: 192.0.2.1\r\n\r\n",
    "chunked with a length": START + HOST + CHUNKED + b"Content-Length: 3\r\n" + CHUNK,
    "a folded header": START + HOST + CHUNKED.replace(b" ", b"\r\n ") + CHUNK,
    "two lengths": START + HOST + b"Content-Length: 2\r\n" + ONE,
    "a space before the colon": START + HOST + ONE.replace(b":", b" :"),
    "HTTP/1.0 without a host": START.replace(b"1.1", b"1.0") + ONE,
    "HTTP/1.0, chunked": START.replace(b"1.1", b"1.0") + HOST + CHUNKED + CHUNK,
    "HTTP/0.9": b"POST /api/predict\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "h2c": START + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQA\r\n" + ONE,
    "lines before it": b"\r\n\r\n\n" + START + HOST + ONE,
    "line feeds alone": (START + HOST + ONE).replace(b"\r", b""),
    "tabs": START.replace(b" ", b"\t") + HOST + ONE,
    "a tab behind": b"POST /api/predict\t HTTP/1.1\r\n" + HOST + ONE,
    "spaces": START.replace(b" ", b"   ") + HOST + ONE,
    "overlong letters": b"POST /api/\xc1\xb0redict HTTP/1.1\r\n" + HOST + ONE,
    "an overlong slash": b"POST /api\xc0\xafpredict HTTP/1.1\r\n" + HOST + ONE,
    "full width": "POST /api/ｐredict HTTP/1.1\r\n".encode() + HOST + ONE,
    "another method in a header": START.replace(b"POST", b"GET") + HOST + b"X-HTTP-Method-Override: POST\r\n" + ONE,
    "another path in a header": START.replace(b"/api/predict", b"/healthz") + HOST + b"X-Original-URL: /api/predict\r\n" + ONE,
    "small letters": START.replace(b"POST", b"post") + HOST + ONE,
    "a method of its own": START.replace(b"POST", b"PREDICT") + HOST + ONE,
    "an address with a port": b"POST http://localhost:1/api/predict HTTP/1.1\r\n" + HOST + ONE,
    "an address with a user": b"POST http://a:b@localhost/api/predict HTTP/1.1\r\n" + HOST + ONE,
    "a foreign address": b"POST https://example.org/api/predict HTTP/1.1\r\n" + HOST + ONE,
    "two hosts": START + HOST + b"Host: 127.0.0.1\r\n" + ONE,
    "forged addresses": START + HOST + b"X-Forwarded-For: 192.0.2.9, 2001:db8::9\r\nTrue-Client-IP: 192.0.2.9\r\n" + ONE,
    "the proxy protocol": b"PROXY TCP4 192.0.2.9 127.0.0.1 1 80\r\n" + START + HOST + ONE,
    "a request in the body": START + HOST + b"Content-Length: 65\r\n\r\n" + (START + HOST + ONE)[:65],
    "many at once": (START + HOST + ONE) * 50,
    "many, of which some only ask": (
        START.replace(b"POST", b"GET") + HOST + b"\r\n" + START.replace(b"/api/", b"//api/./") + HOST + ONE
    ) * 20,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_request_passes_the_rate_limit(limited: Limited, shape: str) -> None:
    """Requests that are unusual in anything but their path; each is sent several times."""
    limited.api.seen.clear()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", limited.nginx.port), timeout=30) as connection:
            connection.sendall(SHAPES[shape])
            connection.settimeout(0.1)
            with suppress(ConnectionResetError, TimeoutError):
                while connection.recv(65536):
                    pass
        limited.check()


PARTS = r"""
    /api /predict /batch / // /. /.. /%2e%2e /x %0a %0D %09 %00 %7f %20 %85 %2f %5c %250a %252f ;a=b ? # \ . ~ * %c2%85 %e2%80%a8
    %c0%af api predict PREDICT : @ % & =
"""
PIECES = st.sampled_from(PARTS.split())


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """The path of predictions with random changes, or pieces of it in any order."""
    if draw(st.booleans()):
        return "/" + "".join(draw(st.lists(PIECES, max_size=8)))
    path = draw(st.sampled_from(["/api/predict", "/api/predict/batch", "/api/predict/lesion", "/api/compare", INFER]))
    written = ""
    for letter in path:
        written += draw(st.just("") | st.just("") | st.just("") | PIECES)
        way = draw(st.integers(0, 9))
        encoded = f"%{ord(letter):02x}"
        written += {0: encoded, 1: encoded.upper(), 2: "%25" + encoded[1:], 3: letter.swapcase()}.get(way, letter)
    return "/" + written.lstrip("/") + draw(st.just("") | PIECES | st.lists(PIECES, max_size=3).map("".join))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    target=spellings(), method=st.sampled_from(["POST", "POST", "PUT", "GET", "OPTIONS"]), version=st.sampled_from(["1.1", "1.0"])
)
def test_no_random_spelling_passes_the_rate_limit(limited: Limited, target: str, method: str, version: str) -> None:
    limited.api.seen.clear()
    raw(limited.nginx, method, target, version=version)
    limited.check()


def test_no_regular_expression_stops_before_a_line_break() -> None:
    """No pattern uses ``$`` as an anchor, because in nginx it also matches before a line break at the end."""
    for file in FOLDER.glob("*"):
        for line in file.read_text("utf-8").splitlines():
            code = line.split("#", 1)[0]
            for pattern in re.findall(r'"~\*?([^"]*)"|\s~\*?\s+"?([^"\s{]+)|^\s*rewrite (\S+)', code):
                assert not re.search(r"\$(?![a-z_{])", "".join(pattern)), f"{file.name}: {line}"


def test_ipv6_clients_are_limited_by_network(front: Front, api: Api) -> None:
    nginx = front(rate="1r/m", burst=1, AIDERM_REAL_IP_FROM="127.0.0.0/8, fd00::/8")

    def ask(address: str) -> int:
        return httpx.post(f"{nginx.url}/api/predict", headers={"X-Forwarded-For": address}, trust_env=False).status_code

    assert [ask(f"2001:db8:1:2:{n:x}::{n:x}") for n in range(1, 6)] == [200, 200, 429, 429, 429]
    assert [ask(f"2001:db8:1:3::{n:x}") for n in range(1, 4)] == [200, 200, 429]
    assert [ask(f"203.0.113.{n}") for n in range(1, 6)] == [200] * 5
    assert [ask(f"::ffff:198.51.100.{n}") for n in range(1, 6)] == [200] * 5
    assert [ask("::ffff:198.51.100.1"), ask("198.51.100.1")] == [200, 429], "one address, written in two ways"
    # Addresses that a client sends itself precede the one that the proxy adds.
    assert [ask(f"192.0.2.{n}, 203.0.113.77") for n in range(1, 5)] == [200, 200, 429, 429]


def test_without_a_named_proxy_nobody_chooses_an_address(limited: Limited) -> None:
    limited.api.seen.clear()
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        httpx.post(f"{limited.nginx.url}/api/predict", headers={name: "192.0.2.1"}, trust_env=False)
        limited.check()


@contextmanager
def open_requests(nginx: Server, count: int, head: str, address: Callable[[int], str]) -> Iterator[list[bytes]]:
    """Opens requests whose bodies never end; yields the responses that arrive nevertheless."""
    connections = []
    answers = []
    try:
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", nginx.port), timeout=30)
            connections.append(connection)
            connection.sendall(f"{head}\r\nHost: localhost\r\nX-Forwarded-For: {address(number)}\r\n\r\n".encode())
        time.sleep(1)
        for connection in connections:
            connection.setblocking(False)
            try:
                answers.append(connection.recv(65536))
            except BlockingIOError:
                answers.append(b"")
        yield answers
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("path", "at_once"),
    [
        ("/api/predict", 5),
        ("/api/predict/batch", 3),
        ("/api/predict/lesion", 3),
        ("/api/compare", 3),
        (INFER, 3),
        ("/api/anything", 5),
    ],
)
def test_uploads_of_all_clients_together_are_limited(front: Front, path: str, at_once: int) -> None:
    nginx = front(AIDERM_REAL_IP_FROM="127.0.0.1", AIDERM_TOTAL_UPLOADS="5", AIDERM_TOTAL_BATCHES="3")
    head = f"POST {path} HTTP/1.1\r\nContent-Length: 15000"
    with open_requests(nginx, 12, head, lambda number: f"192.0.2.{number}") as answers:
        assert [answer[9:12] for answer in answers] == [b""] * at_once + [b"429"] * (12 - at_once)
        refusal = json.loads(answers[-1].split(b"\r\n\r\n", 1)[1])
        assert list(refusal) == ["error"] if path == INFER else refusal["code"] == "rate_limited"
        assert httpx.get(f"{nginx.url}/", trust_env=False).status_code == 200, "the page still comes"
        assert httpx.get(f"{nginx.url}/api/health", trust_env=False).status_code == 200


def test_one_client_does_not_take_all_uploads(front: Front) -> None:
    nginx = front(AIDERM_REAL_IP_FROM="127.0.0.1", AIDERM_CONNECTIONS="3")
    head = "POST /api/predict HTTP/1.1\r\nContent-Length: 15000"
    with open_requests(nginx, 8, head, lambda number: f"2001:db8::{number + 1:x}") as answers:
        assert [answer[9:12] for answer in answers] == [b""] * 3 + [b"429"] * 5
        other = httpx.post(f"{nginx.url}/api/predict", headers={"X-Forwarded-For": "2001:db8:1::1"}, trust_env=False)
        assert other.status_code == 200


def test_requests_of_all_clients_together_are_limited(front: Front, api: Api) -> None:
    nginx = front(AIDERM_REAL_IP_FROM="127.0.0.1", AIDERM_TOTAL_CONNECTIONS="20")
    api.hold.clear()
    try:
        with open_requests(nginx, 30, "GET /api/health HTTP/1.1", lambda number: f"192.0.2.{number}") as answers:
            assert sorted(answer[9:12] for answer in answers) == [b""] * 20 + [b"429"] * 10
            assert httpx.get(f"{nginx.url}/js/main.js", trust_env=False).status_code == 429
    finally:
        api.hold.set()


def defaults() -> dict[str, str]:
    """The default values in the image."""
    text = (FOLDER.parent / "Dockerfile").read_text("utf-8")
    return dict(re.findall(r"(AIDERM_[A-Z_]+)=(\S+)", text))


def test_all_bodies_and_answers_that_are_let_in_fit_into_the_container() -> None:
    def size(text: str) -> int:
        return int(text[:-1]) * {"k": 1024, "m": MIB}[text[-1]]

    def setting(name: str, location: str = "") -> str:
        text = TEMPLATE.split(f"location {location} {{", 1)[1] if location else TEMPLATE
        found = re.search(rf"^ +{name} (.+);", text, re.M)
        assert found
        return found[1]

    def answer(location: str = "") -> int:
        count, each = setting("proxy_buffers", location).split()
        return int(count) * size(each) + size(setting("proxy_buffer_size"))

    total = {name: int(defaults()[f"AIDERM_TOTAL_{name}"]) for name in ("CONNECTIONS", "UPLOADS", "BATCHES")}
    one, batch = "= /api/predict", r"~ ^/api/(?:predict/(?:batch|lesion)|compare)\z"
    needed = (
        (total["UPLOADS"] - total["BATCHES"]) * (size(setting("client_body_buffer_size", one)) + answer(one))
        + total["BATCHES"] * (size(setting("client_body_buffer_size", batch)) + answer(batch))
        + total["CONNECTIONS"] * (size(setting("client_body_buffer_size")) + answer())
    )
    compose = (FOLDER.parents[1] / "docker-compose.yml").read_text("utf-8")
    limit = re.search(r"AIDERM_FRONTEND_MEMORY:-(\d+m)", compose)
    assert limit
    assert needed < size(limit[1]) - 64 * MIB, f"{needed / MIB:.0f} MiB of bodies and answers"


@pytest.mark.parametrize(("size", "status"), [(65 * MIB, 413), (30 * MIB, 200)])
def test_the_open_inference_protocol_has_the_limit_of_a_batch_and_its_own_errors(
    open_front: Server, size: int, status: int
) -> None:
    answer = httpx.post(f"{open_front.url}{INFER}", content=bytes(size), timeout=60, trust_env=False)
    assert answer.status_code == status
    if status == 413:
        assert (answer.headers["content-type"], list(answer.json())) == ("application/json", ["error"])


# --- other sites ------------------------------------------------------------------------------------------------------

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://clinic.example.evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://clinic.example"},
    {"Origin": "https://clinic.example:444"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://localhost.evil.example"},
]


def own(nginx: Server) -> list[dict[str, str]]:
    host = nginx.url.removeprefix("http://")
    return [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": nginx.url},
        {"Sec-Fetch-Site": "none"},
        {"Origin": f"https://{host}"},  # TLS is terminated in front of nginx
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://clinic.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://other.example:8443"},
    ]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/api/predict", "/api/predict/batch", INFER, "/api/anything"])
def test_pages_of_other_sites_send_nothing(open_front: Server, api: Api, headers: dict[str, str], path: str) -> None:
    api.seen.clear()
    for keys in ({}, {"Authorization": f"Bearer {KEY}"}):
        answer = httpx.post(f"{open_front.url}{path}", content=b"x", headers=headers | keys, trust_env=False)
        assert "AIDERM_CORS_ORIGINS" in problem(answer, 403, "cross_site")
    assert api.seen == []
    # A GET passes, as following a link would, but without the page's key.
    assert httpx.get(f"{open_front.url}/api/models", headers=headers, trust_env=False).status_code == 200
    assert "authorization" not in api.seen[-1][2]


def test_the_page_and_named_sites_send_with_the_pages_key(open_front: Server, api: Api) -> None:
    for headers in own(open_front):
        for path in ("/api/predict", "/api/predict/batch", "/api/predict/lesion", "/api/compare"):
            assert httpx.post(f"{open_front.url}{path}", content=b"x", headers=headers, trust_env=False).status_code == 200, (
                headers
            )
            assert api.seen[-1][2]["authorization"] == f"Bearer {KEY}"


def test_the_pages_key_does_not_show_the_metrics(open_front: Server, api: Api) -> None:
    api.seen.clear()
    with httpx.Client(base_url=open_front.url, trust_env=False) as client:
        for path in (
            "/api/metrics",
            "/api/%6detrics",
            "/api//metrics",
            "/api/models/../metrics",
            "/api/metrics/",
            "/api/metrics?a",
        ):
            client.get(path)
        assert raw(open_front, "GET", "/api/models/%2e%2e/metrics") == 200
        assert [headers.get("authorization") for _, _, headers in api.seen] == [None] * 7
        for path in ("/api/models", "/api/models/melanoma/report", "/api/health"):
            client.get(path)
            assert api.seen[-1][2]["authorization"] == f"Bearer {KEY}"
        client.get("/api/metrics", headers={"Authorization": "Bearer own"})
        assert api.seen[-1][2]["authorization"] == "Bearer own"


# --- names of this server -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7", "[fe80::1]", 'a"b']
)
def test_other_names_for_this_machine_are_refused(open_front: Server, api: Api, host: str) -> None:
    api.seen.clear()
    for path in ("/", "/js/main.js", "/api/health", "/api/models", "/nothing"):
        answer = httpx.get(f"{open_front.url}{path}", headers={"Host": f"{host}:{open_front.port}"}, trust_env=False)
        assert "AIDERM_HOSTS" in problem(answer, 421, "unknown_host")
    assert raw(open_front, "POST", "/api/predict", host) == 421
    assert raw(open_front, "POST", f"http://{host}/api/predict", "localhost") in {400, 421}
    assert api.seen == []
    assert raw(open_front, "GET", "/healthz", host) == 200, "health checks call the server by its address"
    assert raw(open_front, "GET", "/healthz%0a", host) == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1:8080", "[::1]:9"])
def test_this_machine_answers_to_its_own_names(open_front: Server, host: str) -> None:
    assert raw(open_front, "GET", "/", host) == 200
    assert raw(open_front, "POST", "/api/predict", host) == 200


def test_a_request_without_a_name_is_refused(open_front: Server) -> None:
    assert raw(open_front, "POST", "/api/predict", None, version="1.0") == 421
    assert raw(open_front, "POST", "/api/predict", None) == 400


def test_names_can_be_set(front: Front) -> None:
    nginx = front(AIDERM_HOSTS="Skin.Hospital.example, *.clinic.example,[2001:db8::1], ::7")
    for host, status in {
        "skin.hospital.example": 200,
        "skin.hospital.example:8443": 200,
        "a.clinic.example": 200,
        "[2001:db8::1]": 200,
        "[::7]:8080": 200,
        "hospital.example": 421,
        "clinic.example.evil.example": 421,
        "127.0.0.1": 421,
    }.items():
        assert raw(nginx, "GET", "/", host) == status, host
    assert raw(front(AIDERM_HOSTS="*"), "GET", "/", "anything.example") == 200


NO_LISTS = {
    "AIDERM_HOSTS": ["a.example:8080", "http://a.example", 'a" 1; default "1', "a b", "-a", "a..b", "a\nb c"],
    "AIDERM_CORS_ORIGINS": ["*", "a.example", "https://a.example/", "https://a.example;", 'https://"', "https://a\nx"],
    "AIDERM_REAL_IP_FROM": ["all", "10.0.0.0/8;", "10.0.0.0/8 1", "unix:", "10.0.0.0/8\ninclude x"],
}


@pytest.mark.parametrize(("setting", "value"), [(name, value) for name, values in NO_LISTS.items() for value in values])
def test_settings_that_are_not_lists_stop_the_start(tmp_path: Path, setting: str, value: str) -> None:
    result = run_script("17-site.sh", tmp_path, {setting: value})
    assert result.returncode == 1
    assert setting in result.stderr
    assert "Received: " in result.stderr
    assert list(tmp_path.iterdir()) == []


# --- headers ---------------------------------------------------------------------------------------------------------


HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}


def test_every_answer_carries_the_headers_once(open_front: Server, front: Front) -> None:
    host = {"Host": "evil.example"}
    asked = [
        (open_front, "GET", path, {})
        for path in (
            "/",
            "/js/main.js",
            "/css/base.css",
            "/nothing",
            "/healthz",
            "/api/health",
            "/api/models",
            "/api/predict%0a",
            "/js/no",
        )
    ] + [
        (open_front, "POST", "/api/predict", {}),
        (open_front, "POST", "/api/predict", {"Sec-Fetch-Site": "cross-site"}),
        (open_front, "POST", "/", {}),
        (open_front, "GET", "/", host),
        *[(front(rate="1r/m", burst=1), "POST", "/api/predict", {})] * 3,
    ]
    statuses = set()
    for nginx, method, path, headers in asked:
        answer = httpx.request(method, f"{nginx.url}{path}", headers=headers, trust_env=False)
        statuses.add(answer.status_code)
        for name, value in {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }.items():
            assert answer.headers.get_list(name) == [value], f"{method} {path}: {name}"
    assert statuses == {200, 400, 403, 404, 405, 421, 429}
    with socket.create_connection(("127.0.0.1", open_front.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert connection.recv(65536).lower().count(b"x-frame-options: deny") == 1, "also where the request is none"
