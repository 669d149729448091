"""Ray nodes as machines: each in namespaces of its own, joined by a bridge that is in another one.

Nothing of them is seen by the machine's own network, and all their processes end with the process that started them. They share
the machine's files, as nodes with a shared file system do.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "taskset")
# 198.18.0.0/15 is set aside for tests. In the namespaces it meets no other network.
SUBNET = "198.18.100"
GATEWAY = 254
PORT, CLIENT_PORT = 6379, 10001
PREFIX = "aiderm-ray-"
# Ends with its parent, whatever ends that.
BOUND = ("setpriv", "--pdeathsig", "KILL")
RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {
    "RAY_TMPDIR": "/mnt",  # of the node alone, see below; a longer path would leave too little for the names of sockets
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # what else runs on this machine must not end a node's work
    # A lost node is noticed after some seconds, not after a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
# Ray is the first process of its own process namespace, so that with it everything of the node ends at once.
MACHINE = """
set -e
mount --bind "$folder" /mnt
mount -t tmpfs -o size=2g tmpfs /dev/shm
[ -z "$hidden" ] || mount -t tmpfs tmpfs "$hidden"
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$gateway"  # leads nowhere; by it Ray finds the node's own address
exec "$@"
"""


def need_namespaces() -> None:
    """Skips a test that cannot have namespaces here."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")


def eventually(holds: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class RayNode:
    """One Ray node with its own network, processes, mounts and shared memory."""

    number: int  # 1 is the head
    folder: Path
    cpus: int
    memory: int
    core: int | None
    hidden: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    first: int = 0  # the first process of its namespace, `ray start`

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, switch: int) -> None:
        self.folder.mkdir()
        head = ["--head", f"--port={PORT}", f"--ray-client-server-port={CLIENT_PORT}", "--include-dashboard=false"]
        others = [f"--address={SUBNET}.1:{PORT}"]
        ray = [
            *(["taskset", "--cpu-list", str(self.core)] if self.core is not None else []),
            *(str(RAY), "start", "--block", "--disable-usage-stats"),
            *(f"--node-ip-address={self.address}", f"--num-cpus={self.cpus}", f"--object-store-memory={self.memory}"),
            *(head if self.number == 1 else others),
        ]
        environment = {
            "folder": str(self.folder),
            "address": self.address,
            "gateway": f"{SUBNET}.{GATEWAY}",
            "hidden": str(self.hidden or ""),
        }
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*BOUND, "unshare", *namespaces, "bash", "-c", MACHINE, "machine", *ray],
                env={**os.environ, **ENVIRONMENT, **environment},
                cwd="/",  # of its processes too: what they are to use must come with its whole path
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.first = only_child(self.process.pid)
        namespace = f"/proc/{self.first}/ns/net"
        # The child exists a moment before it is in its namespaces.
        eventually(lambda: Path(namespace).readlink() != Path("/proc/self/ns/net").readlink(), 10, "a network namespace")
        inside(switch, "ip", "link", "add", f"node{self.number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        inside(switch, "ip", "link", "set", f"node{self.number}", "master", "bridge0", "up")

    def wait(self) -> None:
        def started() -> bool:
            assert self.alive, f"node {self.number} ended\n{self.log.read_text()[-3000:]}"
            return "Ray runtime started" in self.log.read_text()

        eventually(started, 90, f"node {self.number} in the cluster")

    def stop(self) -> None:
        if self.process is not None and self.alive:
            os.kill(self.first, signal.SIGKILL)
            self.process.wait(30)


@dataclass
class RayCluster:
    """Several nodes, and the way to them."""

    folder: Path
    switch: subprocess.Popen[bytes]
    cpus: int
    memory: int
    cores: Sequence[int]
    nodes: list[RayNode] = field(default_factory=list)

    @property
    def address(self) -> str:
        """For a driver that runs on the head: HOST:PORT."""
        return f"{SUBNET}.1:{PORT}"

    @property
    def client(self) -> str:
        """For a driver that need not be on a node: ray://HOST:PORT."""
        return f"ray://{SUBNET}.1:{CLIENT_PORT}"

    def start(self, command: Sequence[object], *, outside: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Starts a process on the head; killed with the process that is returned.

        Args:
            command: the program and its arguments.
            outside: beside the nodes instead, where their network is reached and no Ray runs (for ``client``).
            options: of ``subprocess.Popen``; output is text and kept in a pipe, errors with it, unless they say otherwise.
        """
        cwd = options.pop("cwd", None) or Path.cwd()
        environment = {**os.environ, **ENVIRONMENT, **options.pop("env", {})}
        namespaces = (
            [f"--target={self.switch.pid}", "--net"]
            if outside
            else [f"--target={self.nodes[0].first}", "--net", "--mount", "--pid"]
        )
        return subprocess.Popen(
            [*BOUND, "nsenter", *namespaces, "env", f"--chdir={cwd}", *BOUND, *map(str, command)],
            env=environment,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )

    def run(self, command: Sequence[object], *, timeout: float = 120, check: bool = True, **options: Any) -> str:
        """Runs a process as ``start`` does, to its end, and returns what it said."""
        with self.start(command, **options) as process:
            try:
                said, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
                raise AssertionError(f"not within {timeout:.0f} s: {command}\n{said[-5000:]}") from None
        assert process.returncode == 0 or not check, said[-5000:]
        return said

    def python(self, program: str, **options: Any) -> str:
        """Runs a program in this Python on the head."""
        return self.run([sys.executable, "-c", program], **options)

    def add(self, *, hidden: Path | None = None) -> RayNode:
        """Starts one more node and waits until it has joined.

        Args:
            hidden: a folder in whose place the node has an empty one of its own.
        """
        node = self._new(self.cpus, hidden)
        node.wait()
        return node

    def kill(self, number: int) -> None:
        """Everything of a node at once; nobody is told. 1 is the head."""
        self.nodes[number - 1].stop()

    def node_of(self, process: int) -> RayNode | None:
        """The node that a process belongs to."""
        namespace = Path(f"/proc/{process}/ns/pid").readlink()
        return next(
            (node for node in self.nodes if node.alive and Path(f"/proc/{node.first}/ns/pid").readlink() == namespace), None
        )

    def _new(self, cpus: int, hidden: Path | None = None) -> RayNode:
        number = len(self.nodes) + 1
        core = self.cores[(number - 1) % len(self.cores)] if self.cores else None
        node = RayNode(number, self.folder / str(number), cpus, self.memory, core, hidden)
        self.nodes.append(node)
        node.start(self.switch.pid)
        return node


@contextmanager
def ray_cluster(
    nodes: int = 3, cpus: int = 1, *, head_cpus: int | None = None, cores: Sequence[int] = (), memory: int = 200_000_000
) -> Iterator[RayCluster]:
    """A cluster of so many nodes; nothing of it is left at the end.

    Args:
        nodes: the head is one of them.
        cpus: that each node offers.
        head_cpus: that the head offers, where it is to be another number; with 0 it gets no work.
        cores: of this machine; the nodes are tied to one each, in turn. Empty: to none.
        memory: of each node's object store, in bytes.
    """
    need_namespaces()
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    switch = subprocess.Popen([*BOUND, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    cluster = RayCluster(folder, switch, cpus, memory, cores)
    try:
        own = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(f"/proc/{switch.pid}/ns/net").readlink() != own, 10, "a network namespace")
        inside(switch.pid, "ip", "link", "set", "lo", "up")
        inside(switch.pid, "ip", "link", "add", "bridge0", "type", "bridge")
        inside(switch.pid, "ip", "address", "add", f"{SUBNET}.{GATEWAY}/24", "dev", "bridge0")
        inside(switch.pid, "ip", "link", "set", "bridge0", "up")
        cluster._new(cpus if head_cpus is None else head_cpus).wait()  # the others look for it
        for _ in range(nodes - 1):
            cluster._new(cpus)
        for node in cluster.nodes:
            node.wait()
        yield cluster
    finally:
        for node in cluster.nodes:
            node.stop()
        switch.kill()
        switch.wait()
        shutil.rmtree(folder)


def only_child(pid: int) -> int:
    children: list[str] = []

    def found() -> bool:
        children[:] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return bool(children)

    eventually(found, 10, f"a child of process {pid}")
    return int(children[0])


def inside(process: int, *command: str) -> None:
    """Runs a command in the network namespace of a process."""
    entered = ["nsenter", f"--net=/proc/{process}/ns/net", *command]
    done = subprocess.run(entered, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def remove_leftovers() -> None:
    """Of a run that was killed: its processes went with it, its files did not."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        process = int(folder.name.removeprefix(PREFIX).split("-")[0])
        if not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)
