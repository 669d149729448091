"""Addresses in lists are read only if the operator allows it, and never lead to a private network indirectly."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiderm_scorer.addresses import AddressError, Allowed, fetch
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader

from .conftest import Remote


class Redirecting(http.server.BaseHTTPRequestHandler):
    target = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def redirect(remote: Remote) -> Iterator[str]:
    """An address that redirects to ``/a.png`` of ``remote``."""

    class Handler(Redirecting):
        target = f"{remote.address}/a.png"

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x"
    server.shutdown()
    server.server_close()


def test_a_private_address_is_read_only_where_it_is_named(remote: Remote) -> None:
    remote.files = {"a.png": b"abc"}
    address = f"{remote.address}/a.png"
    assert fetch(address, Allowed.parse([remote.address]), 10) == b"abc"
    assert fetch(address, Allowed.parse([remote.address]), 1) == b"ab"
    with pytest.raises(OSError, match="not public"):
        fetch(address, Allowed.parse(["http"]), 10)
    with pytest.raises(OSError, match="not public"):  # another port may be another service
        fetch(address, Allowed.parse(["http", "http://127.0.0.1:1"]), 10)


def test_a_name_that_resolves_to_a_private_address_is_refused(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.files = {"a.png": b"abc"}
    port = remote.server.server_address[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    with pytest.raises(OSError, match=r"images\.example\.org is at an address that is not public"):
        fetch(f"http://images.example.org:{port}/a.png", Allowed.parse(["http"]), 10)


def test_redirects_are_checked_like_addresses(remote: Remote, redirect: str) -> None:
    remote.files = {"a.png": b"abc"}
    assert fetch(redirect, Allowed.parse([redirect, remote.address]), 10) == b"abc"
    with pytest.raises(OSError, match="it redirects to"):
        fetch(redirect, Allowed.parse([redirect]), 10)
    with pytest.raises(OSError, match="not public"):
        fetch(redirect, Allowed.parse([redirect, "http"]), 10)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "::ffff:0:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b:1::a00:1",
        "fec0::1",
        "5f00::1",
        "ff02::1",
    ],
)
def test_private_addresses(ip: str) -> None:
    with pytest.raises(AddressError):
        Allowed().check_peer("http", "x", 80, ip)


@pytest.mark.parametrize("ip", ["93.184.215.14", "2606:2800:21f:cb07::1"])
def test_public_addresses(ip: str) -> None:
    Allowed().check_peer("http", "x", 80, ip)


def test_what_comes_with_a_redirect_is_not_read(remote: Remote) -> None:
    """The body of a redirect may never end."""
    remote.files = {"a.png": b"abc"}
    sent = threading.Event()

    class Endless(Redirecting):
        target = f"{remote.address}/a.png"

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", self.target)
            self.end_headers()
            try:
                for _ in range(1_000):
                    self.wfile.write(bytes(1_000_000))
                sent.set()
            except OSError:
                pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert fetch(f"{address}/x", Allowed.parse([address, remote.address]), 10) == b"abc"
    finally:
        server.shutdown()
        server.server_close()
    assert not sent.is_set()


def test_a_row_says_why(remote: Remote) -> None:
    address = f"{remote.address}/a.png"
    found = Reader(1000).read(Item(address, address, listed=address, allowed=Allowed.parse(["http"])))
    assert isinstance(found, ItemProblem)
    assert found.code == "unreadable"
    assert f"--allow {remote.address}" in found.detail


def test_a_list_at_an_address_may_name_what_lies_beside_it(remote: Remote) -> None:
    from aiderm_scorer.inputs import find

    remote.files = {"lists/a.txt": b"b.png\n../c.png\n", "lists/b.png": b"abc"}
    items = find([f"{remote.address}/lists/a.txt"]).items
    assert items[0].where == f"{remote.address}/lists/b.png"
    assert Reader(1000).read(items[0]) == b"abc"


def test_what_is_neither_scheme_nor_host(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--allow takes"):
        Allowed.parse(["/etc/passwd"])
