import json
import socket

import pytest

from aiderm_api.http_protocol import MAX_HEAD_BYTES

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
BLOCK = b"y" * 8192


def answer(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def send_endlessly(connection: socket.socket, block: bytes) -> int:
    """Until the server no longer takes it, or far beyond the bound."""
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
    ("sent", "received"),
    [
        pytest.param(GET + b"X-Long: " + b"y" * (MAX_HEAD_BYTES - len(GET)), "more than 65,536 bytes of headers", id="long head"),
        pytest.param(b"\x16\x03\x01 hello\r\n\r\n", "no HTTP/1.1 request", id="no HTTP"),
        pytest.param(b"BREW /predict HTTP/1.1\r\nHost: a\r\n\r\n", "no HTTP/1.1 request", id="no method of HTTP"),
    ],
)
def test_what_no_route_can_answer_is_answered_with_a_problem(service, sent, received):
    with service.connect() as connection:
        connection.sendall(sent)
        head, _, body = answer(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert received in problem["detail"]
    assert problem["request_id"].encode() in head


def test_long_headers_pass_again_and_again_on_one_connection(service):
    request = GET + b"X-Long: " + b"y" * (MAX_HEAD_BYTES // 2) + b"\r\n"
    with service.connect() as connection:
        for _ in range(4):  # together beyond the bound
            connection.sendall(request + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(request + b"Connection: close\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 200 ")
