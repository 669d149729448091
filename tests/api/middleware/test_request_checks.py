"""Host names, control characters in paths, and the headers of every response."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_api.auth.keys import Rate, changing, new_key
from aiderm_api.middleware.request_checks import RequestChecks
from aiderm_api.settings import Settings


def answer(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return int(data.split(b" ")[1]), data


def ask(running, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    with running.connect() as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + body)
        return answer(connection)


@pytest.mark.parametrize(
    "path", ["/predict%0a", "/predict%0d", "/predict%00", "/%0apredict", "/health%0A", "/predict%c2%85", "/%7f"]
)
def test_control_characters_in_paths_are_refused(service, path):
    for prefix in ("", "/api"):
        status, data = ask(service, prefix + path, "Host: a", method="POST")
        assert status == 400
        assert b'"malformed_request"' in data
        assert b"control characters" in data


@pytest.fixture(scope="module")
def limited(models_root, tmp_path_factory, serve_once):
    """A service whose only key may send one image, and no other for the next 1,000 seconds."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    key, secret = new_key("one", rate=Rate(per_second=0.001, burst=1))
    with changing(file) as keys:
        keys.append(key)
    running = serve_once(keys_file=file)
    return running, f"Authorization: Bearer {secret}"


def respell(path: str, encoded: list[bool], lower: bool) -> str:
    spelled = "".join(f"%{ord(c):02x}" if flag else c for c, flag in zip(path, encoded, strict=False)) + path[len(encoded) :]
    return spelled.lower() if lower else spelled


SPELLINGS = st.builds(
    lambda path, encoded, lower, before, after: before + respell(path, encoded, lower) + after,
    st.sampled_from(["/predict", "/predict/batch", "/predict/lesion", "/compare"]),
    st.lists(st.booleans(), max_size=8),
    st.booleans(),
    st.sampled_from(["", "", "/", "/.", "/x/..", "/api", "//api", "http://a", "http://a/api"]),
    st.sampled_from(
        ["", "", "/", "?", "?x=1", "?explain=true", "%0a", "%0d%0a", "%00", "%20", "/.", ";a", "%3f", "%23", "#a", "%e2%80%a8"]
    ),
)


@given(spelling=SPELLINGS)
@settings(max_examples=120, deadline=None)
def test_any_spelling_of_a_path_costs_or_fails(limited, forms, spelling):
    """The first request uses up the key's only image, so any later request that reaches a model has bypassed the rate limit."""
    running, key = limited
    body = forms.multipart(("file", "a.png", forms.png_of(200)), ("files", "a.png", forms.png_of(200)))
    form = "Content-Type: multipart/form-data; boundary=frontier"
    if not spelling.isascii() or " " in spelling:
        return
    ask(running, "/predict", "Host: a", key, form, method="POST", body=body)
    status, _ = ask(running, spelling, "Host: a", key, form, method="POST", body=body)
    assert status in (400, 404, 405, 429), spelling


def test_only_known_hosts_are_answered(serve):
    running = serve(hosts=("clinic.example",))
    for host in (
        "localhost",
        "127.0.0.1",
        f"127.0.0.1:{running.port}",
        "[::1]:80",
        "LOCALHOST:1",
        "clinic.example",
        "clinic.example.",
    ):
        assert ask(running, "/health/live", f"Host: {host}")[0] == 200, host
    for host in (
        "evil.example",
        "clinic.example.evil.example",
        "127.0.0.1.nip.io",
        "10.0.0.1",
        "localhost@evil",
        "",
        "a b",
        "[::2]",
    ):
        status, data = ask(running, "/health/live", f"Host: {host}")
        assert status == 421, host
        assert b'"unknown_host"' in data
        assert b"AIDERM_HOSTS" in data
    assert ask(running, "/health/live")[0] == 400
    assert ask(running, "/health/live", "Host: localhost", "Host: localhost")[0] == 400


def test_any_host_is_answered_where_that_is_allowed(service):
    assert ask(service, "/health/live", "Host: evil.example")[0] == 200
    assert ask(service, "/health/live", method="GET")[0] == 200


def test_all_names_below_a_domain():
    checks = RequestChecks(Settings(hosts="*.clinic.example").allowed_hosts)
    for host, known in (
        ("a.clinic.example", True),
        ("a.b.clinic.example:80", True),
        ("clinic.example", False),
        ("aclinic.example", False),
    ):
        assert (checks.refusal({"path": "/", "headers": [(b"host", host.encode())]}) is None) == known, host


def test_the_bound_address_is_a_known_host():
    checks = RequestChecks(Settings(host="192.0.2.7").allowed_hosts)
    assert checks.refusal({"path": "/", "headers": [(b"host", b"192.0.2.7:8000")]}) is None
    assert checks.refusal({"path": "/", "headers": [(b"host", b"192.0.2.8:8000")]}) is not None


@pytest.mark.parametrize(
    "path", ["/health", "/models", "/nothing", "/predict", "/openapi.json", "/metrics", "/docs", "/predict%0a"]
)
def test_every_answer_carries_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
