"""Machines made of Linux namespaces. Each has its own network, processes and mounts; a bridge in another namespace joins them.

Nothing of them is seen by the real machine's network, and all their processes end with the process that started them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = ("unshare", "nsenter", "setpriv", "ip")
# 198.18.0.0/15 is reserved for tests. In the namespaces these addresses meet no other network.
GATEWAY = 254
# Ends with its parent, whatever ends that.
BOUND = ("setpriv", "--pdeathsig", "KILL")
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
# Runs in the first process of the machine's process namespace, so that with it everything of the machine ends at once.
NETWORK = """
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up
"""


def need_machines(*tools: str) -> None:
    """Skips a test that cannot have namespaces here, or lacks one of the tools."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if missing := [tool for tool in (*TOOLS, *tools) if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")


def eventually(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until a condition holds; fails if it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Switch:
    """The network namespace with the bridge."""

    subnet: str  # the first three numbers of the addresses
    process: subprocess.Popen[bytes]

    @property
    def enter(self) -> tuple[str, ...]:
        """Put before a command, it runs where all machines are reached."""
        return ("nsenter", f"--net=/proc/{self.process.pid}/ns/net")

    def run(self, *command: str, check: bool = True) -> None:
        """Runs a command in the namespace."""
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"

    def connect(self, number: int, namespace: str) -> None:
        """Lays a cable to a machine; there it is called eth0."""
        # The cable of an earlier machine with this number may still be there for some time.
        self.run("ip", "link", "delete", f"node{number}", check=False)
        self.run("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.run("ip", "link", "set", f"node{number}", "master", "bridge0", "up")

    def cut(self, number: int) -> None:
        """Cuts the cable; nobody is told."""
        self.run("ip", "link", "set", f"node{number}", "down")


@contextmanager
def switch(subnet: str) -> Iterator[Switch]:
    """Makes the bridge, with an address of its own so that it can reach the machines."""
    made = Switch(subnet, subprocess.Popen([*BOUND, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL))
    try:
        in_own_network(made.process.pid)
        made.run("ip", "link", "set", "lo", "up")
        made.run("ip", "link", "add", "bridge0", "type", "bridge")
        made.run("ip", "address", "add", f"{subnet}.{GATEWAY}/24", "dev", "bridge0")
        made.run("ip", "link", "set", "bridge0", "up")
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@dataclass
class Machine:
    """A machine that runs one program, and whatever that starts."""

    number: int  # the last one of its address
    folder: Path  # for its files
    subnet: str
    process: subprocess.Popen[bytes] | None = None
    first: int = 0  # the first process of its namespaces, as this machine counts

    @property
    def address(self) -> str:
        """Its address."""
        return f"{self.subnet}.{self.number}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """What its programs have written to the terminal."""
        return self.folder / "log"

    def boot(
        self, joined: Switch, script: str, command: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts the machine.

        Args:
            joined: the switch to which it is connected.
            script: for bash; mounts what the machine needs and ends with ``exec``. It has ``$folder``, ``$address``, ``$gateway``
                and ``$@``; a line ``NETWORK`` in it stands for what brings the network up.
            command: the arguments of the script.
            environment: variables beside those of this process.
        """
        own = {"folder": str(self.folder), "address": self.address, "gateway": f"{self.subnet}.{GATEWAY}"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*BOUND, "unshare", *NAMESPACES, "bash", "-c", script.replace("NETWORK\n", NETWORK), "machine", *command],
                env={**os.environ, **(environment or {}), **own},
                cwd="/",  # of its processes too: they need whole paths
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.first = only_child(self.process.pid)
        # The child exists for a moment before it is in its namespaces.
        in_own_network(self.first)
        joined.connect(self.number, f"/proc/{self.first}/ns/net")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends everything on it."""
        if self.process is not None and self.alive:
            os.kill(self.first, how)
            self.process.wait(60)
        self.process = None


def only_child(process: int) -> int:
    """The child of a process, as soon as there is one."""
    children: list[str] = []

    def found() -> bool:
        children[:] = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return bool(children)

    eventually(found, 10, f"a child of process {process}")
    return int(children[0])


def in_own_network(process: int) -> None:
    """Waits until a process has a network of its own."""
    own = Path("/proc/self/ns/net").readlink()
    eventually(lambda: Path(f"/proc/{process}/ns/net").readlink() != own, 10, "a network namespace")


def abandoned(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """Folders ``PREFIX<process>-…`` of runs that were killed: their processes went with them, their files did not."""
    for left in folder.glob(f"{prefix}*"):
        process = int(left.name.removeprefix(prefix).split("-")[0])
        if not Path(f"/proc/{process}").exists():
            yield process, left
