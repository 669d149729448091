"""The HTTP protocol on the API's own port: limits on headers, connections and pipelining, and headers that are ignored."""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from tests.hostile_load import service as shipped_service

from aiderm_api import http_protocol
from aiderm_api.http_protocol import MAX_HEAD_BYTES, MAX_PIPELINED

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
BREW = b"BREW /predict HTTP/1.1\r\nHost: a\r\n\r\n"
BLOCK = b"y" * 8192


def answer(connection: socket.socket) -> bytes:
    """Reads everything until the server closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def send_endlessly(connection: socket.socket, block: bytes) -> int:
    """Sends a block repeatedly until the server stops accepting it, or until far beyond the limit."""
    sent = 0
    try:
        while sent < 100 * MAX_HEAD_BYTES:
            sent += connection.send(block)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "block"),
    [
        pytest.param(GET + b"X-Long: ", BLOCK, id="one header"),
        pytest.param(GET, b"X-Many: y\r\n" * 500, id="many headers"),
        pytest.param(b"GET /", BLOCK, id="path"),
        pytest.param(POST + b"0\r\n", b"X-Trailer: y\r\n" * 500, id="trailers"),
        pytest.param(POST[:-6] + b"1;", BLOCK, id="chunk extension"),
    ],
)
def test_an_endless_head_ends_the_connection(service, start, block):
    with service.connect() as connection:
        connection.sendall(start)
        assert send_endlessly(connection, block) < 100 * MAX_HEAD_BYTES
    assert service.client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("sent", "status", "code", "received"),
    [
        pytest.param(
            GET + b"X-Long: " + b"y" * (MAX_HEAD_BYTES - len(GET)),
            431,
            "headers_too_large",
            "more than 65,536 bytes of headers",
            id="long head",
        ),
        pytest.param(b"\x16\x03\x01 hello\r\n\r\n", 400, "malformed_request", "no HTTP/1.1 request", id="no HTTP"),
        pytest.param(BREW, 400, "malformed_request", "no HTTP/1.1 request", id="no method of HTTP"),
    ],
)
def test_what_no_route_can_answer_is_answered_with_a_problem(service, sent, status, code, received):
    with service.connect() as connection:
        connection.sendall(sent)
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert received in problem["detail"]
    assert problem["request_id"].encode() in head


def test_long_headers_pass_again_and_again_on_one_connection(service):
    request = GET + b"X-Long: " + b"y" * (MAX_HEAD_BYTES // 2) + b"\r\n"
    with service.connect() as connection:
        for _ in range(4):  # together above the limit
            connection.sendall(request + b"\r\n")
            received = connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            while not received.endswith(b"}"):
                received += connection.recv(65536)
        connection.sendall(request + b"Connection: close\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.fixture
def hasty(serve, monkeypatch):
    """A service that waits half a second for a request's head, and a second between requests."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    return serve(keep_alive_seconds=1)


def seconds_open(connection: socket.socket, dribble: bytes = b"") -> float:
    """How long the server keeps a connection open on which nothing, or repeatedly ``dribble``, arrives."""
    connection.settimeout(0.2)
    started = time.monotonic()
    while time.monotonic() - started < 20:
        try:
            if dribble:
                connection.sendall(dribble)
            if not connection.recv(65536):
                return time.monotonic() - started
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - started
    raise AssertionError("the connection is still open")


def test_a_connection_without_a_request_is_closed(hasty):
    with hasty.connect() as connection:
        seconds_open(connection)


def test_a_dribbled_head_is_ended_with_a_problem(hasty):
    with hasty.connect() as connection:
        connection.sendall(GET + b"X-Slow: ")
        received = b""
        connection.settimeout(0.1)
        started = time.monotonic()
        while b"\r\n\r\n" not in received and time.monotonic() - started < 20:
            connection.sendall(b"a")
            try:
                received += connection.recv(65536)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in received


def test_an_idle_connection_is_closed_also_when_it_dribbles_between_requests(hasty):
    for dribble in (b"", b"G"):
        with hasty.connect() as connection:
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(dribble)
            seconds_open(connection)


def test_a_busy_connection_is_kept(hasty, forms):
    with hasty.blocked() as gate, hasty.connect() as connection:
        body = forms.multipart(("file", "a.png", forms.png_of(200)))
        head = (
            "POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
        )
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        forms.wait_until(lambda: hasty.services.pool.depth == 1)
        time.sleep(3)
        gate.set()
        assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_waiting_connections_make_room_for_others(serve):
    """At the connection limit, new requests are still answered: connections that send nothing, or dribble, are closed first."""
    running = serve(limit_concurrency=10)
    with ExitStack() as stack:
        dribbling = [stack.enter_context(running.connect()) for _ in range(9)]
        for connection in dribbling:
            connection.sendall(b"GET /health HTT")
        assert running.client.get("/health").status_code == 200  # by now the server has read these bytes
        for _ in range(30):
            stack.enter_context(running.connect())
        for path in ("/health", "/models", "/health/live"):
            with running.connect() as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                assert answer(connection).startswith(b"HTTP/1.1 200 "), path
        for connection in dribbling:
            told = answer(connection)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b'"overloaded"' in told


def test_at_the_limit_a_request_is_told_so_and_health_is_answered(serve, forms):
    running = serve(limit_concurrency=4, workers=1, queue_size=10)
    body = forms.multipart(("file", "a.png", forms.png_of(200)))
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
    post = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with running.blocked(), ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(running.connect()).sendall(post)
        forms.wait_until(lambda: running.services.pool.depth == 4)
        with running.connect() as connection:
            connection.sendall(post)
            refused = answer(connection)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b'"overloaded"' in refused
        assert b"retry-after:" in refused.lower()
        with running.connect() as connection:
            connection.sendall(GET + b"Connection: close\r\n\r\n")
            assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_up_to_a_bound(service):
    for count in (1, MAX_PIPELINED, 2000):
        with service.connect() as connection:
            connection.sendall((GET + b"\r\n") * count)
            answers = 0
            while answers < min(count, MAX_PIPELINED + 1):
                data = connection.recv(65536)
                if not data:
                    break
                answers += data.count(b"HTTP/1.1 200 ")
            assert answers == min(count, MAX_PIPELINED + 1)
            if count > MAX_PIPELINED:  # the rest is dropped and the connection closed
                rest = []
                with suppress(ConnectionResetError):
                    while data := connection.recv(65536):
                        rest.append(data)
                assert b"HTTP/1.1" not in b"".join(rest)
    assert service.client.get("/health").status_code == 200


@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
@pytest.mark.parametrize("path", ["/health", "/openapi.json"])
def test_150_connections_of_pipelined_requests_take_no_gigabyte(forms, capsys, path):
    """The clients do not read the responses, which once piled up to 4.4 GB."""
    block = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 2000
    with shipped_service() as (url, memory), ExitStack() as stack:
        assert httpx.post(f"{url}/predict", files={"file": forms.png_of(200)}, trust_env=False).status_code == 200
        idle, refused = memory.now(), 0
        port = int(url.rpartition(":")[2])
        with memory.watched():
            open_ones = []
            for _ in range(150):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                connection.setblocking(False)
                open_ones.append(connection)
            end = time.monotonic() + 5
            while open_ones and time.monotonic() < end:
                for connection in list(open_ones):
                    try:
                        connection.send(block)
                    except BlockingIOError:
                        continue  # the buffer is full: the server accepts no more
                    except OSError:
                        refused += 1
                        open_ones.remove(connection)
                time.sleep(0.05)
            # Other clients are answered meanwhile and afterwards.
            assert httpx.get(f"{url}/health", timeout=60, trust_env=False).status_code == 200
            assert httpx.post(f"{url}/predict", files={"file": forms.png_of(200)}, timeout=60, trust_env=False).status_code == 200
        stack.close()
        after = memory.settled(1.1 * idle)
        with capsys.disabled():
            figures = f"idle {idle / 1e6:.0f} MB, peak {memory.peak / 1e6:.0f}, afterwards {after / 1e6:.0f}; {refused} ended"
            sys.stderr.write(f"\n150 pipelines of {path}: {figures}\n")
        assert memory.peak < 1_000_000_000
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        assert httpx.post(f"{url}/predict", files={"file": forms.png_of(200)}, trust_env=False).status_code == 200


@pytest.mark.parametrize("framing", ["length", "chunked", "split"])
def test_an_upgrade_is_ignored_and_the_body_is_read(service, forms, framing):
    """The request is like that of `curl --http2`."""
    body = forms.multipart(("file", "a.png", forms.png_of(230)))
    head = (
        "POST /predict HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        "Content-Type: multipart/form-data; boundary=frontier\r\n"
    )
    if framing == "chunked":
        whole = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    else:
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with service.connect() as connection:
        if framing == "split":
            connection.sendall(whole[:300])
            time.sleep(0.2)
            whole = whole[300:]
        connection.sendall(whole)
        first = connection.recv(65536)
        assert first.startswith(b"HTTP/1.1 200 ")
        connection.sendall(GET + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert b"HTTP/1.1 200 " in answer(connection)
