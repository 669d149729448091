"""Restricts what a list may reach: paths and s3:// by default, other addresses only if the operator names them.

A list often comes from somebody else and must not use the scorer to reach into the network in which it runs.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any, Self
from urllib.parse import urlsplit

SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressError(OSError):
    """An address that a list may not reach."""


@dataclass(frozen=True)
class Allowed:
    """The addresses that lists may name.

    Attributes:
        schemes: allowed on any public host.
        hosts: ``scheme://host:port`` that may be reached even if they are private.
    """

    schemes: frozenset[str] = frozenset({"s3"})
    hosts: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, named: Sequence[str]) -> Self:
        """Adds to the defaults what the operator names: schemes (``https``) or hosts (``https://images.example.org``).

        Raises:
            ValueError: a name is neither of these.
        """
        allowed = cls()
        for text in named:
            if "://" in text:
                allowed = allowed.with_host(text)
            elif text.isascii() and text.replace("+", "").isalnum():
                allowed = replace(allowed, schemes=allowed.schemes | {text.lower()})
            else:
                raise ValueError(f"--allow takes a scheme (https) or a host (https://images.example.org). Received: {text!r}")
        return allowed

    def with_host(self, address: str) -> Self:
        """Returns a copy that also allows the host of an address."""
        return replace(self, hosts=self.hosts | {_host(address)})

    def refusal(self, address: str) -> str | None:
        """Why an address may not be reached; None if it may. Chained addresses (``zip://a::https://b``) need every scheme."""
        for link in address.split("::"):
            scheme = link.partition("://")[0].lower()
            if scheme not in self.schemes and not ("::" not in address and _host(address) in self.hosts):
                named = ", ".join(sorted([*self.schemes, *self.hosts]))
                return f"Lists may not name {scheme} addresses here; allowed: paths, {named}. --allow {scheme} allows it."
        return None

    def check_peer(self, scheme: str, host: str, port: int, ip: str) -> None:
        """Refuses addresses of private networks, unless the operator named the host.

        Raises:
            AddressError: the address is not public.
        """
        if f"{scheme}://{host.lower()}:{port}" in self.hosts:
            return
        if not _is_public(ip):
            raise AddressError(f"{host} is at an address that is not public; --allow {scheme}://{host}:{port} allows it")


def fetch(address: str, allowed: Allowed, most: int) -> bytes:
    """Reads an http(s) address of a list, at most ``most`` + 1 bytes; each redirect is checked like the first address.

    Raises:
        OSError: it cannot be read, or a redirect leads to an address that is not allowed.
    """
    opener = urllib.request.OpenerDirector()  # not build_opener, which adds proxies, ftp and file
    handlers = [urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _Redirects(allowed)]
    for handler in [*handlers, _Checked(allowed), urllib.request.UnknownHandler()]:
        opener.add_handler(handler)
    request = urllib.request.Request(address, headers={"User-Agent": "aiderm-score"})  # noqa: S310 (checked)
    answer: IO[bytes]
    with opener.open(request, timeout=SECONDS) as answer:
        return answer.read(most + 1)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if refusal := self._allowed.refusal(newurl):
            raise AddressError(f"it redirects to {newurl[:200]}: {refusal}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        """Follows a redirect without reading its body; ``urllib`` would read all of it."""
        fp.close()
        return super().http_error_302(req, io.BytesIO(), code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Checked(urllib.request.AbstractHTTPHandler):
    """Opens connections to allowed addresses only."""

    def __init__(self, allowed: Allowed) -> None:
        super().__init__()
        self._allowed = allowed

    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(self._connect, http.client.HTTPConnection, "http"), req)

    def https_open(self, req: Any) -> Any:
        return self.do_open(partial(self._connect, http.client.HTTPSConnection, "https"), req)

    def _connect(self, kind: Any, scheme: str, host: str, **options: Any) -> Any:
        return _checked(kind(host, **options), scheme, self._allowed)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


def _checked(connection: Any, scheme: str, allowed: Allowed) -> Any:
    """Makes a connection check the addresses that its host name resolves to, and connect to one of these."""

    def connect(place: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
        host, port = place
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, peer in found:
            allowed.check_peer(scheme, host, port, str(peer[0]))
        error: OSError = OSError(f"{host} has no address")
        for *_, peer in found:
            try:
                return socket.create_connection((str(peer[0]), port), *arguments, **options)
            except OSError as failure:
                error = failure
        raise error

    connection._create_connection = connect
    return connection


def _host(address: str) -> str:
    parts = urlsplit(address)
    scheme = parts.scheme.lower()
    try:
        port = parts.port or _PORTS.get(scheme, 0)
    except ValueError:
        port = 0
    return f"{scheme}://{(parts.hostname or '').lower()}:{port}"


def _is_public(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inside is not None:
            return inside.is_global
        if ip not in _GLOBAL_UNICAST:  # Python calls much of the rest global, for instance fec0::/10 and ::10.0.0.1
            return False
    return ip.is_global and not ip.is_multicast
