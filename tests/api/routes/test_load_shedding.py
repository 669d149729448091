"""Overload: refusing a request is cheap, and its connection stays open."""

from __future__ import annotations

import socket


def post(forms, size: int = 0) -> bytes:
    body = forms.multipart(("file", "a.png", forms.png_of(200) + bytes(size)))
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=frontier\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return head.lower(), body


def test_a_refusal_keeps_the_connection_and_the_next_picture_is_served(serve, forms):
    running = serve(workers=1, queue_size=1)
    with running.blocked() as gate, running.connect() as waiting, running.connect() as refused:
        waiting.sendall(post(forms))
        forms.wait_until(lambda: running.services.pool.depth == 1)
        refused.sendall(post(forms))
        head, body = answer(refused)
        assert head.startswith(b"http/1.1 503")
        assert b"\r\nretry-after:" in head
        assert b"connection: close" not in head
        assert b'"overloaded"' in body
        shed = running.client.get("/metrics").text
        assert 'aiderm_shed_total{reason="overloaded"} 1.0' in shed
        assert 'aiderm_requests_total{method="POST",route="/predict",status="503"} 1.0' in shed
        waiting.close()
        forms.wait_until(lambda: running.services.pool.depth == 0)
        refused.sendall(post(forms))
        forms.wait_until(lambda: running.services.pool.depth == 1)
        gate.set()
        assert answer(refused)[0].startswith(b"http/1.1 200")


def test_a_large_picture_is_refused_before_it_has_arrived(serve, forms):
    running = serve(workers=1, queue_size=1)
    with running.blocked(), running.connect() as waiting, running.connect() as refused:
        waiting.sendall(post(forms))
        forms.wait_until(lambda: running.services.pool.depth == 1)
        refused.sendall(post(forms, 5_000_000)[:70_000])
        head, _ = answer(refused)
        assert head.startswith(b"http/1.1 503")
        assert b"connection: close" in head


def test_other_calls_are_not_refused(serve, forms):
    running = serve(workers=1, queue_size=1)
    with running.blocked(), running.connect() as waiting:
        waiting.sendall(post(forms))
        forms.wait_until(lambda: running.services.pool.depth == 1)
        assert running.client.get("/health").status_code == 200
        assert running.client.post("/elsewhere").status_code == 404
