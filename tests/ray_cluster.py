"""A Ray cluster of machines made of namespaces (``tests/machines.py``).

They share this machine's files, as nodes with a shared file system do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machines import BOUND, Machine, Switch, abandoned, eventually, need_machines, switch

SUBNET = "198.18.100"
PORT, CLIENT_PORT = 6379, 10001
PREFIX = "aiderm-ray-"
RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {
    "RAY_TMPDIR": "/mnt",  # private to each node, see below; a longer path would leave too little room for the names of sockets
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # other programs' memory use must not end a node's work
    # A lost node is noticed after seconds instead of a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
MACHINE = """
set -e
mount --bind "$folder" /mnt
mount -t tmpfs -o size=2g tmpfs /dev/shm
[ -z "$hidden" ] || mount -t tmpfs tmpfs "$hidden"
NETWORK
ip route add default via "$gateway"  # leads nowhere; by it Ray finds the node's own address
exec "$@"
"""


@dataclass
class RayNode(Machine):
    """One Ray node with its own shared memory; number 1 is the head."""

    cpus: int = 1
    memory: int = 0
    core: int | None = None
    hidden: Path | None = None

    def start(self, joined: Switch) -> None:
        self.folder.mkdir()
        head = ["--head", f"--port={PORT}", f"--ray-client-server-port={CLIENT_PORT}", "--include-dashboard=false"]
        others = [f"--address={SUBNET}.1:{PORT}"]
        ray = [
            *(["taskset", "--cpu-list", str(self.core)] if self.core is not None else []),
            *(str(RAY), "start", "--block", "--disable-usage-stats"),
            *(f"--node-ip-address={self.address}", f"--num-cpus={self.cpus}", f"--object-store-memory={self.memory}"),
            *(head if self.number == 1 else others),
        ]
        self.boot(joined, MACHINE, ray, {**ENVIRONMENT, "hidden": str(self.hidden or "")})

    def wait(self) -> None:
        def started() -> bool:
            assert self.alive, f"node {self.number} ended\n{self.log.read_text()[-3000:]}"
            return "Ray runtime started" in self.log.read_text()

        eventually(started, 90, f"node {self.number} in the cluster")


@dataclass
class RayCluster:
    """Several nodes, and the network through which they are reached."""

    folder: Path
    switch: Switch
    cpus: int
    memory: int
    cores: Sequence[int]
    nodes: list[RayNode] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The address for a driver that runs on the head: HOST:PORT."""
        return f"{SUBNET}.1:{PORT}"

    @property
    def client(self) -> str:
        """The address for a driver that need not run on a node: ray://HOST:PORT."""
        return f"ray://{SUBNET}.1:{CLIENT_PORT}"

    def start(self, command: Sequence[object], *, outside: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Starts a process on the head, which ends when the returned process is killed.

        Args:
            command: the program and its arguments.
            outside: runs it outside the nodes instead, where no Ray runs but their network can be reached (for ``client``).
            options: options of ``subprocess.Popen``; by default output and errors are text in one pipe.
        """
        cwd = options.pop("cwd", None) or Path.cwd()
        environment = {**os.environ, **ENVIRONMENT, **options.pop("env", {})}
        namespaces = (
            [f"--target={self.switch.process.pid}", "--net"]
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
        """Runs a process like ``start``, waits for its end and returns its output."""
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
        """Runs Python code on the head with this interpreter."""
        return self.run([sys.executable, "-c", program], **options)

    def add(self, *, hidden: Path | None = None) -> RayNode:
        """Starts one more node and waits until it has joined.

        Args:
            hidden: a folder that appears empty on the node.
        """
        node = self._new(self.cpus, hidden)
        node.wait()
        return node

    def kill(self, number: int) -> None:
        """Kills all processes of a node at once, without notice. 1 is the head."""
        self.nodes[number - 1].stop()

    def node_of(self, process: int) -> RayNode | None:
        """The node on which a process runs."""
        namespace = Path(f"/proc/{process}/ns/pid").readlink()
        return next(
            (node for node in self.nodes if node.alive and Path(f"/proc/{node.first}/ns/pid").readlink() == namespace), None
        )

    def _new(self, cpus: int, hidden: Path | None = None) -> RayNode:
        number = len(self.nodes) + 1
        core = self.cores[(number - 1) % len(self.cores)] if self.cores else None
        node = RayNode(number, self.folder / str(number), SUBNET, cpus=cpus, memory=self.memory, core=core, hidden=hidden)
        self.nodes.append(node)
        node.start(self.switch)
        return node


@contextmanager
def ray_cluster(
    nodes: int = 3, cpus: int = 1, *, head_cpus: int | None = None, cores: Sequence[int] = (), memory: int = 200_000_000
) -> Iterator[RayCluster]:
    """Runs a Ray cluster; removes everything at the end.

    Args:
        nodes: the number of nodes, including the head.
        cpus: the number of CPUs that each node offers.
        head_cpus: the number that the head offers, if different; with 0 it gets no work.
        cores: cores of this machine, to which the nodes are pinned in turn; if empty, none is pinned.
        memory: the size of each node's object store, in bytes.
    """
    need_machines("taskset")
    for _, left in abandoned(Path(tempfile.gettempdir()), PREFIX):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    with switch(SUBNET) as joined:
        cluster = RayCluster(folder, joined, cpus, memory, cores)
        try:
            cluster._new(cpus if head_cpus is None else head_cpus).wait()  # the others connect to it
            for _ in range(nodes - 1):
                cluster._new(cpus)
            for node in cluster.nodes:
                node.wait()
            yield cluster
        finally:
            for node in cluster.nodes:
                node.stop()
            shutil.rmtree(folder)
