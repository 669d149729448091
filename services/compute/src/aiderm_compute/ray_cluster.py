"""Connects to a Ray cluster, lists its nodes and calls a function on each. Ray is an optional extra, imported when needed."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESSES = "auto (this machine is a node of the cluster), HOST:PORT (it is, and that is the head), ray://HOST:PORT (it is none)"
_CLIENT = "ray://"


class ClusterError(ValueError):
    """A cluster that cannot be reached or used."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive.

    Attributes:
        id: Ray's name of it, hexadecimal.
        address: its IP address.
        cpus: cores that it offers.
        gpus: GPUs that it offers.
    """

    id: str
    address: str
    cpus: float
    gpus: float


@contextmanager
def connect(address: str, *, seconds: float = 20) -> Iterator[None]:
    """Connects this process to a running cluster; when the block ends, everything that it started there is stopped.

    No cluster is started, no usage statistics are sent, and what the nodes' processes print stays in the nodes' logs.

    Args:
        address: ``auto``, ``HOST:PORT`` of the head node, or ``ray://HOST:PORT`` of its client server.
        seconds: to wait for an answer.

    Raises:
        ClusterError: the address has another form, nothing answers there, this process is connected already, or Ray is missing
            or of another version than there.
    """
    place = _place(address)
    ray = _ray()
    if ray.is_initialized():
        raise ClusterError("this process is connected to a Ray cluster already; it takes one at a time")
    if place is not None:
        _reach(address, *place, seconds)
    if not address.startswith(_CLIENT) and not _node_here():
        raise ClusterError(
            f"no connection to the Ray cluster at {address}: no node of a cluster runs on this machine. From here it is reached "
            "by its head's client server: ray://HOST:10001"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except Exception as error:
        raise ClusterError(f"no connection to the Ray cluster at {address}: {_sentence(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """The nodes that are alive, sorted by address; call ``connect`` first."""
    found = [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            float(node["Resources"].get("CPU", 0)),
            float(node["Resources"].get("GPU", 0)),
        )
        for node in _ray().nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.address, node.id))


def on_every_node(function: Callable[..., Any], *arguments: Any, seconds: float = 60) -> dict[Node, Any]:
    """Calls a function once on each node at the same time, each in its own process, even if the node is busy.

    Args:
        function: defined in an installed module, or self-contained.
        arguments: passed to the function.
        seconds: to wait for all.

    Returns:
        By node, the result or an exception: the one that the function raised, or a ClusterError if there was no answer in time.
        Nodes that were lost meanwhile are left out.
    """
    ray = _ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    remote = ray.remote(max_calls=1)(_call)  # the process, with all that the function imports, ends after the answer
    for node in nodes():
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked[node] = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(function, *arguments)
    ready, late = ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds) if asked else ([], [])
    for reference in late:
        ray.cancel(reference, force=True)
    answered, alive = set(ready), {node.id for node in nodes()}
    return {
        node: _answer(ray, reference) if reference in answered else ClusterError(f"no answer within {seconds:g} s")
        for node, reference in asked.items()
        if node.id in alive
    }


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; Ray does not accept builtin functions directly."""
    return function(*arguments)


def _answer(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else ClusterError(_sentence(error))
    except ray.exceptions.RayError as error:
        return ClusterError(_sentence(error))


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"a cluster needs Ray, an extra of this package: pip install 'aiderm-compute[cluster]' ({error})"
        ) from error
    return ray


def _place(address: str) -> tuple[str, int] | None:
    """Host and port of an address; None for ``auto``."""
    if address == "auto":
        return None
    host, separator, port = address.removeprefix(_CLIENT).rpartition(":")
    if not (host and separator and port.isascii() and port.isdecimal() and 0 < int(port) < 65536) or "/" in host:
        raise ClusterError(f"no address of a cluster. Received: {address!r}. Allowed: {ADDRESSES}")
    return host.strip("[]"), int(port)


def _reach(address: str, host: str, port: int, seconds: float) -> None:
    """Raises an error if no Ray answers; Ray itself would try for minutes and then end this process."""
    try:
        with socket.create_connection((host, port), seconds):
            pass
    except OSError as error:
        raise ClusterError(f"nothing answers at {address}: {error.strerror or error}. Allowed: {ADDRESSES}") from error
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # only Ray has the certificates to connect there
    import grpc

    with grpc.insecure_channel(f"{host}:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError as error:
            raise ClusterError(f"what answers at {address} is no Ray (within {seconds:g} s). Allowed: {ADDRESSES}") from error


def _node_here() -> bool:
    """Whether this process reaches the socket of a Ray node on this machine; if it does not, Ray would end the process."""
    try:
        sockets = Path("/proc/net/unix").read_text().splitlines()
    except OSError:
        return True  # not Linux; leave it to Ray
    paths = (line.rpartition(" ")[2] for line in sockets)
    return any(re.search(r"/sockets/raylet(\.\d+)?$", path) and Path(path).exists() for path in paths)


def _sentence(error: BaseException) -> str:
    """Ray's error message on one line of at most about 400 characters: its beginning and its end, which often names the cause."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:200]} … {text[-200:]}"
