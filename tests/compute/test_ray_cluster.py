"""Connecting to a Ray cluster that is not there fails soon, with a clear message.

tests/trainer/study/test_study_cluster.py tests connections that succeed.
"""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aiderm_compute.ray_cluster import ClusterError, connect


@contextmanager
def listener() -> Iterator[int]:
    """A port that accepts connections but never answers: the kernel accepts them and no program reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "address", ["", "local", "head", "head:", ":6379", "head:0", "head:65536", "head:port", "http://head:8265", "ray://head"]
)
def test_what_is_no_address_is_told_with_what_is(address: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"Received: .*Allowed: auto .*HOST:PORT .*ray://HOST:PORT") as caught,
        connect(address),
    ):
        pass
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_at_the_address(scheme: str) -> None:
    with listener() as port:
        pass
    with pytest.raises(ClusterError, match=r"nothing answers at .*refused"), connect(f"{scheme}127.0.0.1:{port}"):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_somebody_else_at_the_address(scheme: str) -> None:
    began = time.monotonic()
    with listener() as port, pytest.raises(ClusterError, match="no Ray"), connect(f"{scheme}127.0.0.1:{port}", seconds=1):
        pass
    assert time.monotonic() - began < 20


def test_auto_where_this_machine_is_no_node(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path_factory.mktemp("ray")))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="at auto: no node of a cluster runs on this machine"), connect("auto"):
        pass


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'aiderm-compute\[cluster\]'"), connect("auto"):
        pass
