"""Responses to requests whose body has not been read."""

from __future__ import annotations

import asyncio

from aiderm_api.middleware.unread_body import UnreadBody


async def refuse(scope, receive, send):
    await send({"type": "http.response.start", "status": 413, "headers": [(b"connection", b"keep-alive")]})
    await send({"type": "http.response.body", "body": b"no"})


async def read_all(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await refuse(scope, receive, send)


def answer(app, chunks, headers, **options):
    """Runs an application; returns what it sent and how many chunks it left unread."""
    arriving = iter(chunks)
    left = len(chunks)
    sent = []

    async def receive():
        nonlocal left
        for chunk in arriving:
            left -= 1
            return {"type": "http.request", "body": chunk, "more_body": left > 0}
        await asyncio.sleep(60)
        raise AssertionError("unreachable")

    async def send(message):
        sent.append(message)

    asyncio.run(UnreadBody(app, **options)({"type": "http", "headers": headers}, receive, send))
    return sent, left


def test_the_rest_is_dropped_after_the_answer():
    sent, left = answer(refuse, [b"x" * 10] * 5, [(b"transfer-encoding", b"chunked")])
    assert left == 0
    assert sent[0]["headers"] == [(b"connection", b"close")]
    assert sent[1] == {"type": "http.response.body", "body": b"no", "more_body": True}
    assert sent[2]["more_body"] is False


def test_a_body_that_was_read_keeps_the_connection():
    sent, _ = answer(read_all, [b"x"] * 3, [(b"content-length", b"3")])
    assert sent[0]["headers"] == [(b"connection", b"keep-alive")]
    assert len(sent) == 2


def test_no_body_keeps_the_connection():
    for headers in ([], [(b"content-length", b"0")]):
        sent, _ = answer(refuse, [], headers)
        assert sent[0]["headers"] == [(b"connection", b"keep-alive")]


def test_an_endless_body_is_cut_off():
    _, left = answer(refuse, [b"x" * 10] * 100, [(b"content-length", b"1000")], count=50)
    assert left == 95


def test_a_client_that_sends_nothing_more_is_not_waited_for_long():
    sent, _ = answer(refuse, [], [(b"content-length", b"1000")], seconds=0.05)
    assert sent[-1]["more_body"] is False
