"""Malformed, oversized and endless uploads: memory stays flat and nothing is written to disk."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import python_multipart
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from aiderm_api import lifespan
from aiderm_api.errors.problems import (
    ClientClosedRequest,
    DeadlineExceeded,
    MalformedMultipart,
    MissingFile,
    Overloaded,
    TooLarge,
)
from aiderm_api.memory_budget import MemoryBudget
from aiderm_api.multipart import UploadLimits, boundary_of, read_uploads

TYPE = {"Content-Type": "multipart/form-data; boundary=frontier"}
ONE = UploadLimits("file", 10_000, 10_000, seconds=5)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["code"] == code
    return str(answer.json()["detail"])


def whole_answer(connection: socket.socket) -> bytes:
    """Reads headers and body, which may arrive apart; the connection stays open a while for the rest of an upload."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if end and length and len(body) >= int(length[1]):
            return received
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"the answer ended early. Received: {received!r}")
        received += chunk


def read(chunks: list[bytes], limits: UploadLimits = ONE, budget: MemoryBudget | None = None, end: bool = True, headers=TYPE):
    """Runs read_uploads on a request whose body arrives in these chunks; unless ``end`` is set, the client hangs up."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False} if end else {"type": "http.disconnect"})
    arriving = iter(messages)

    async def receive():
        return next(arriving)

    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "headers": raw}, receive)

    async def run():
        budget_ = budget or MemoryBudget(10**9)
        with budget_.lease() as lease:
            return await read_uploads(request, limits, lease)

    return asyncio.run(run())


def test_missing_part(client, forms):
    detail = refused(client.post("/predict", content=b"--frontier--\r\n", headers=TYPE), 400, "missing_file")
    assert "no parts" in detail


def test_wrong_field_name(client, forms):
    detail = refused(client.post("/predict", files={"image": forms.png_of(9)}), 400, "missing_file")
    assert "'image'" in detail
    assert "'file'" in detail


def test_plain_text_instead_of_a_file(client, forms):
    body = forms.multipart(("file", None, b"hello"))
    assert "text" in refused(client.post("/predict", content=body, headers=TYPE), 400, "missing_file")


def test_form_without_a_chosen_file(client, forms):
    body = forms.multipart(("file", "", b""))
    assert "no file chosen" in refused(client.post("/predict", content=body, headers=TYPE), 400, "missing_file")


def test_several_files(client, forms):
    detail = refused(client.post("/predict", files=[("file", forms.png_of(9))] * 2), 400, "malformed_multipart")
    assert "/predict/batch" in detail


def test_text_fields_beside_the_file_are_ignored_within_bounds(client, forms):
    assert client.post("/predict", files={"file": forms.png_of(9)}, data={"comment": "left arm"}).status_code == 200
    many = {f"field{n}": "x" for n in range(30)}
    refused(client.post("/predict", files={"file": forms.png_of(9)}, data=many), 400, "malformed_multipart")


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_no_closing_boundary(client, forms, pictures, name):
    body = forms.multipart(("file", "a.jpg", pictures[name]), close=False)
    assert "closing" in refused(client.post("/predict", content=body, headers=TYPE), 400, "malformed_multipart")
    # truncated in the middle of the file
    refused(client.post("/predict", content=body[: len(body) // 2], headers=TYPE), 400, "malformed_multipart")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=frontier"])
def test_no_boundary_or_another_type(client, forms, kind):
    body = forms.multipart(("file", "a.png", forms.png_of(9)))
    refused(client.post("/predict", content=body, headers={"Content-Type": kind}), 400, "malformed_multipart")


def test_another_boundary_than_the_header_names(client, forms):
    body = forms.multipart(("file", "a.png", forms.png_of(9)), boundary=b"other")
    refused(client.post("/predict", content=body, headers=TYPE), 400, "malformed_multipart")


def test_json_instead(client):
    assert "application/json" in refused(client.post("/predict", json={"file": "abc"}), 400, "malformed_multipart")


def test_no_body_at_all(client):
    refused(client.post("/predict"), 400, "malformed_multipart")
    refused(client.post("/predict", content=b"", headers=TYPE), 400, "malformed_multipart")


def test_part_without_a_name(client):
    body = b"--frontier\r\nContent-Type: image/png\r\n\r\nabc\r\n--frontier--\r\n"
    refused(client.post("/predict", content=body, headers=TYPE), 400, "malformed_multipart")


def answer_to_head(service, headers, body=b""):
    """The response to a request of which only the head and the beginning of the body are sent."""
    with service.connect() as connection:
        kind = b"Content-Type: multipart/form-data; boundary=frontier\r\n\r\n"
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + headers + kind + body)
        return whole_answer(connection)


def test_too_large_by_its_content_length(client, service):
    """Refused before a byte of the body has been sent."""
    answer = answer_to_head(service, b"Expect: 100-continue\r\nContent-Length: 30000000\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in answer
    assert b"30,000,000" in answer
    assert b"connection: close" in answer.lower()


def test_file_just_beyond_the_limit(serve, forms):
    running = serve(max_upload_bytes=20_000)
    refused(running.client.post("/predict", files={"file": bytes(20_001)}), 413, "too_large")
    refused(running.client.post("/predict", files={"file": bytes(20_000)}), 415, "unsupported_type")


def test_slow_uploads_are_cut_off(serve):
    running = serve(upload_seconds=0.2)
    answer = answer_to_head(running, b"Content-Length: 1000\r\n", b"--frontier\r\n")
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b'"deadline"' in answer


@pytest.fixture(scope="module")
def diskless(models_root: Path):
    """Runs the service in a process that the kernel does not let write to any file; yields its address and pid."""
    environment = os.environ | {
        "AIDERM_MODELS_DIR": str(models_root),
        "AIDERM_PORT": "0",
        "AIDERM_HOSTS": "*",
        "AIDERM_LOG_FORMAT": "json",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.Popen(
        ["bash", "-c", f'ulimit -f 0; exec "{sys.executable}" -m aiderm_api'], stderr=subprocess.PIPE, text=True, env=environment
    )
    for line in process.stderr:
        if found := re.search(r'"url": "(http://[^"]+)"', line):
            break
    else:
        raise RuntimeError("the service did not start")
    yield found[1], process.pid
    process.send_signal(signal.SIGTERM)
    log = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in (0, -signal.SIGTERM)
    assert "crash" not in log
    assert "secret-name" not in log


def peak_memory(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def open_files(pid: int) -> set[str]:
    return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_stream_of_100_mb_without_content_length(diskless, forms):
    url, pid = diskless
    assert httpx.post(f"{url}/predict", files={"file": forms.png_of(230)}, trust_env=False).status_code == 200
    before, files = peak_memory(pid), open_files(pid)
    address, port = url.removeprefix("http://").split(":")
    sent = 0
    with socket.create_connection((address, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=frontier\r\n\r\n"
        )
        head = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8\xff'
        pieces = itertools.chain([head], itertools.repeat(bytes(1_000_000), 100))
        for piece in pieces:
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            sent += len(piece)
        connection.sendall(b"0\r\n\r\n")
        answer = whole_answer(connection)
    assert sent > 100_000_000
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"too_large"' in answer
    assert peak_memory(pid) - before < 60_000_000
    assert not {name for name in open_files(pid) - files if not name.startswith(("socket:", "anon_inode:"))}
    assert httpx.get(f"{url}/health", trust_env=False).json()["status"] == "ok"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_answer_to_a_stream_comes_early(diskless):
    """A client that stops sending to read gets the refusal soon after the limit, not at the end of the upload."""
    url, _ = diskless
    address, port = url.removeprefix("http://").split(":")
    with socket.create_connection((address, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=frontier\r\n\r\n"
        )
        for _ in range(21):
            connection.sendall(b"f4240\r\n" + b"--frontier\r\n".ljust(1_000_000, b"x") + b"\r\n")
        assert whole_answer(connection).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))


def test_a_large_picture_is_judged_without_a_disk(diskless, forms):
    """The image is well above the size from which common form parsers spool to disk."""
    url, _ = diskless
    data = forms.png_of(230)
    padded = data[:-12] + b"".join(_padding_chunk() for _ in range(15)) + data[-12:]
    assert len(padded) > 15_000_000
    answer = httpx.post(f"{url}/predict", files={"file": ("secret-name.png", padded)}, timeout=30, trust_env=False)
    assert (answer.status_code, answer.json().get("decision")) == (200, "suspicious")


def _padding_chunk() -> bytes:
    content = b"teXtpadding\0" + bytes(1_000_000)
    kind, text = content[:4], content[4:]
    return struct.pack(">I", len(text)) + kind + text + struct.pack(">I", zlib.crc32(content))


@given(
    content=st.binary(max_size=600) | st.builds(lambda n: b"\r\n--fronti" * n, st.integers(1, 40)),
    cuts=st.lists(st.integers(0, 900), max_size=6),
    extra=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.none() | st.just("x.bin"), st.binary(max_size=30)), max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_the_chunks_of_the_network_do_not_matter(forms, content, cuts, extra):
    body = forms.multipart(*extra, ("file", "a.jpg", content))
    if b"--frontier" in content:
        return
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[start:end] for start, end in itertools.pairwise(edges)]
    for headers in (TYPE, TYPE | {"Content-Length": str(len(body))}):  # streamed; and buffered, as small bodies are
        [upload] = read(chunks, headers=headers)
        assert upload.data == content


@given(body=st.binary(max_size=300), cut=st.integers(0, 400))
@settings(max_examples=80, deadline=None)
def test_any_body_is_read_or_refused(forms, body, cut):
    for candidate in (body, forms.multipart(("file", "a", body))[:cut]):
        with suppress(MalformedMultipart, MissingFile, TooLarge):
            read([candidate])


USUAL = (
    b'Content-Disposition: form-data; name="file"; filename="a"',
    *(b"Content-Type: image/jpeg", b"\r\n\r\nabc", b"\r\n--frontier"),
)


@given(st.lists(st.sampled_from([b"--frontier", b"\r\n", b"--", b"\r", b" ", *USUAL, b"\0\xff"]), max_size=14))
@settings(max_examples=150, deadline=None)
def test_collected_and_streamed_bodies_are_read_alike(pieces):
    body = b"--frontier" + b"".join(pieces)
    found = []
    for headers in (TYPE, TYPE | {"Content-Length": str(len(body))}):
        try:
            found.append([upload.data for upload in read([body], headers=headers)])
        except (MalformedMultipart, MissingFile, TooLarge) as refusal:
            found.append(f"{type(refusal).__name__}: {refusal}")
    assert found[0] == found[1]


def test_the_usual_small_body_needs_no_parser(forms, monkeypatch):
    monkeypatch.setattr(python_multipart.MultipartParser, "write", lambda *_: pytest.fail("the streaming parser was used"))
    body = forms.multipart(("note", None, b"a"), ("file", "a.jpg", b"\r\n--frontie" + bytes(5000)))
    [upload] = read([body[:40], body[40:]], headers=TYPE | {"Content-Length": str(len(body))})
    assert upload.data == b"\r\n--frontie" + bytes(5000)


def test_a_small_body_counts_while_it_arrives(forms):
    body = forms.multipart(("file", "a", bytes(800)))
    budget = MemoryBudget(len(body) - 1)
    with pytest.raises(Overloaded):
        read([body[:500], body[500:]], budget=budget, headers=TYPE | {"Content-Length": str(len(body))})
    assert budget.held == 0


def test_memory_of_all_requests_is_bounded_and_given_back(forms):
    budget = MemoryBudget(1000)
    body = forms.multipart(("file", "a", bytes(800)))
    with budget.lease() as other:
        other.take(300)
        with pytest.raises(Overloaded) as caught:
            read([body], budget=budget)
        assert caught.value.retry_after
        assert budget.held == 300
    assert budget.held == 0
    assert len(read([body], budget=budget)[0].data) == 800
    assert budget.held == 0


def test_hanging_up_in_mid_upload(forms):
    with pytest.raises(ClientClosedRequest):
        read([forms.multipart(("file", "a", bytes(800)))[:400]], end=False)


def test_body_counted_whatever_its_parts(forms):
    with pytest.raises(TooLarge):
        read([forms.multipart(("other", "a", bytes(100_000)))])


def test_endless_preamble_is_refused():
    with pytest.raises((TooLarge, MalformedMultipart)):
        read([b"\r\n" * 50_000] * 2)


@pytest.mark.parametrize("headers", [b"X-A: 1\r\n" * 1000, b"X-A: " + b"a" * 100_000 + b"\r\n", b"a" * 100_000])
def test_a_part_with_endless_headers_is_refused(headers):
    roomy = UploadLimits("file", 10**7, 10**7, 10)
    with pytest.raises(MalformedMultipart):
        read([b"--frontier\r\n" + headers], roomy)


def test_endless_empty_parts_are_refused():
    part = b'--frontier\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    with pytest.raises(MalformedMultipart, match="Too many other parts"):
        read([part * 1000], UploadLimits("file", 10**7, 10**7, 10))


@pytest.mark.parametrize("declared", ["-5", "abc", "1_000", "²"])
def test_nonsense_content_length_is_left_to_counting(forms, declared):
    body = forms.multipart(("file", "a", b"abc"))
    assert read([body], headers=TYPE | {"Content-Length": declared})[0].data == b"abc"


def test_boundary_parameter():
    assert boundary_of('multipart/form-data; charset=utf-8; boundary="a b"') == b"a b"
    with pytest.raises(MalformedMultipart, match="'text/plain'"):
        boundary_of("text/plain")


@pytest.mark.parametrize(
    "disposition",
    [
        b"form-data; name=\"file\"; filename*=UTF-8''mole%20%E2%82%AC.jpg",
        b"form-data; filename*=iso-8859-1'en'a.jpg; name=file",
        b"form-data; name=\"file\" ; FileName* = utf-8''a",
    ],
)
def test_a_part_with_only_an_extended_filename_is_a_file(disposition):
    """RFC 5987: for non-ASCII names some HTTP libraries send no other parameter."""
    body = b"--frontier\r\nContent-Disposition: " + disposition + b"\r\n\r\nabc\r\n--frontier--\r\n"
    assert read([body])[0].data == b"abc"


@pytest.mark.parametrize(
    "disposition", [b'form-data; name="file"; x="; filename*=UTF-8\'\'a.jpg"', b"form-data; name=file; xfilename*=a"]
)
def test_what_only_looks_like_an_extended_filename_is_none(disposition):
    body = b"--frontier\r\nContent-Disposition: " + disposition + b"\r\n\r\nabc\r\n--frontier--\r\n"
    with pytest.raises(MissingFile, match="text"):
        read([body])


def test_an_extended_filename_over_http(client, forms):
    part = b"--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''a.png\r\n\r\n"
    body = part + forms.png_of(230) + b"\r\n--frontier--\r\n"
    assert client.post("/predict", content=body, headers=TYPE).json()["decision"] == "suspicious"


def test_batches_may_name_their_parts_with_brackets(client, forms):
    """PHP forms and many JavaScript libraries do so."""
    answer = client.post("/predict/batch", files=[("files[]", forms.png_of(230)), ("files", forms.png_of(9))])
    assert [item["assessment"]["decision"] for item in answer.json()["results"]] == ["suspicious", "low_suspicion"]
    refused(client.post("/predict", files={"file[]": forms.png_of(9)}), 400, "missing_file")


def test_a_stalled_upload_gives_its_memory_back_long_before_its_time_is_over(serve, monkeypatch):
    monkeypatch.setattr(lifespan, "UPLOAD_WINDOW_SECONDS", 1.0)
    running = serve(min_upload_rate=1_000_000, upload_seconds=120)
    with running.connect() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n"
            b"Content-Type: multipart/form-data; boundary=frontier\r\n\r\n"
            b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(3_000_000)
        )
        started = time.monotonic()
        answer = whole_answer(connection)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b"stalled" in answer
    assert time.monotonic() - started < 60
    assert running.services.budget.held == 0


def test_a_slow_upload_above_the_least_rate_arrives(forms):
    limits = UploadLimits("file", 10_000, 10_000, seconds=60, window_seconds=0.5, window_bytes=10)
    body = forms.multipart(("file", "a", bytes(100)))
    pieces = [body[start : start + 40] for start in range(0, len(body), 40)]

    async def run():
        async def receive():
            await asyncio.sleep(0.15)
            chunk = pieces.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(pieces)}

        request = Request({"type": "http", "headers": [(b"content-type", TYPE["Content-Type"].encode())]}, receive)
        with MemoryBudget(10_000).lease() as lease:
            return await read_uploads(request, limits, lease)

    assert asyncio.run(run())[0].data == bytes(100)


def test_deadline_names_its_limit(forms):
    async def never():
        await asyncio.sleep(30)

    raw = [(b"content-type", TYPE["Content-Type"].encode())]

    async def run():
        with MemoryBudget(1000).lease() as lease:
            await read_uploads(Request({"type": "http", "headers": raw}, never), UploadLimits("file", 9, 9, 0.05), lease)

    with pytest.raises(DeadlineExceeded, match=re.escape("0.05 s")):
        asyncio.run(run())
