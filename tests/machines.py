"""Machines made of Linux namespaces. Each has its own network, processes and mounts; a bridge in another namespace joins them.

They are invisible to the real machine's network, and all their processes end with the process that started them.
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
# 198.18.0.0/15 is reserved for tests. Inside the namespaces, these addresses cannot conflict with other networks.
GATEWAY = 254
# Kills the process when its parent ends, for whatever reason.
BOUND = ("setpriv", "--pdeathsig", "KILL")
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
# Runs in the first process of the machine's process namespace, so that all the machine's processes end with it.
NETWORK = """
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$address/24" dev eth0
ip link set eth0 up
"""


def need_machines(*tools: str) -> None:
    """Skips the test if namespaces cannot be created here or a tool is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if missing := [tool for tool in (*TOOLS, *tools) if shutil.which(tool) is None]:
        pytest.skip(f"needs {', '.join(missing)}")


def eventually(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Waits until a condition holds; fails if that takes too long."""
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
        """The prefix that runs a command in the network namespace from which all machines can be reached."""
        return ("nsenter", f"--net=/proc/{self.process.pid}/ns/net")

    def run(self, *command: str, check: bool = True) -> None:
        """Runs a command in the namespace."""
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"

    def connect(self, number: int, namespace: str) -> None:
        """Connects a machine with a virtual cable, which it sees as eth0."""
        # The cable of an earlier machine with this number may still exist for a while.
        self.run("ip", "link", "delete", f"node{number}", check=False)
        self.run("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.run("ip", "link", "set", f"node{number}", "master", "bridge0", "up")

    def cut(self, number: int) -> None:
        """Cuts the cable without notice."""
        self.run("ip", "link", "set", f"node{number}", "down")


@contextmanager
def switch(subnet: str) -> Iterator[Switch]:
    """Creates the bridge, with an address from which the machines can be reached."""
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
    """A machine that runs one program and the processes that it starts."""

    number: int  # the last number of its address
    folder: Path  # the folder for its files
    subnet: str
    process: subprocess.Popen[bytes] | None = None
    first: int = 0  # the first process in its namespaces, by its id on the real machine

    @property
    def address(self) -> str:
        """The machine's address."""
        return f"{self.subnet}.{self.number}"

    @property
    def alive(self) -> bool:
        """Whether the machine is running."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """The file with the output of its programs."""
        return self.folder / "log"

    def boot(
        self, joined: Switch, script: str, command: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts the machine.

        Args:
            joined: the switch to which it is connected.
            script: a bash script that mounts what the machine needs and ends with ``exec``. It can use ``$folder``, ``$address``,
                ``$gateway`` and ``$@``; a line ``NETWORK`` is replaced by the commands that bring the network up.
            command: the arguments of the script.
            environment: variables in addition to those of this process.
        """
        own = {"folder": str(self.folder), "address": self.address, "gateway": f"{self.subnet}.{GATEWAY}"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*BOUND, "unshare", *NAMESPACES, "bash", "-c", script.replace("NETWORK\n", NETWORK), "machine", *command],
                env={**os.environ, **(environment or {}), **own},
                cwd="/",  # also for its processes, which therefore need absolute paths
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.first = only_child(self.process.pid)
        # The child exists for a moment before it enters its namespaces.
        in_own_network(self.first)
        joined.connect(self.number, f"/proc/{self.first}/ns/net")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends all processes of the machine."""
        if self.process is not None and self.alive:
            os.kill(self.first, how)
            self.process.wait(60)
        self.process = None


def only_child(process: int) -> int:
    """Waits for the first child of a process and returns its id."""
    children: list[str] = []

    def found() -> bool:
        children[:] = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return bool(children)

    eventually(found, 10, f"a child of process {process}")
    return int(children[0])


def in_own_network(process: int) -> None:
    """Waits until a process has its own network namespace."""
    own = Path("/proc/self/ns/net").readlink()
    eventually(lambda: Path(f"/proc/{process}/ns/net").readlink() != own, 10, "a network namespace")


def abandoned(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """Yields the folders ``PREFIX<process>-…`` of runs that were killed and so left their files behind."""
    for left in folder.glob(f"{prefix}*"):
        process = int(left.name.removeprefix(prefix).split("-")[0])
        if not Path(f"/proc/{process}").exists():
            yield process, left
