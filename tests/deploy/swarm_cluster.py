"""A Docker Swarm of machines made of namespaces (``tests/machines.py``), each with its own engine."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines import Machine, Switch, abandoned, eventually, switch

from .conftest import run

TOOLS = ("dockerd", "containerd", "iptables")
SUBNET = "198.18.200"
ROOT_FOLDER = Path("/var/tmp")  # has space, and is on a file system that supports the engine's overlays
PREFIX = "aiderm-swarm-"
# The namespace also gets its own /sys, but keeps the cgroups.
MACHINE = """
set -e
mkdir -p "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$folder/cgroup" /sys/fs/cgroup
# Folders that dockerd would otherwise mount over themselves, without what is mounted in them.
mkdir -p "$folder/data/overlay2"
for mounted in "$folder/data" "$folder/data/overlay2"; do mount --bind "$mounted" "$mounted"; done
for layer in $layers; do
  mkdir -p "$folder/data/overlay2/${layer##*/}"
  mount --bind "$layer" "$folder/data/overlay2/${layer##*/}"
done
NETWORK
exec dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" --host "unix://$folder/socket" \
  --bip "198.18.$((200 + number)).1/24" --default-address-pool "base=198.18.$((210 + number)).0/24,size=26" \
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" --no-new-privileges --shutdown-timeout 5 --log-level warn
"""


@dataclass
class Node(Machine):
    """A machine that runs one engine."""

    layers: list[Path] = field(default_factory=list)  # image layers of another node

    @property
    def url(self) -> str:
        return f"http://{self.address}:8080"

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/socket"

    @property
    def cgroup(self) -> str:
        return f"{PREFIX}{os.getpid()}-{self.number}"

    def docker(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        return run(["docker", "--host", self.host, *arguments], check=check, timeout=timeout).stdout.strip()

    def containers(self, service: str) -> list[str]:
        """The ids of the service's running containers on this node."""
        return self.docker("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}").split()

    def start(self, joined: Switch) -> None:
        layers = " ".join(map(str, self.layers))
        self.boot(joined, MACHINE, environment={"number": str(self.number), "cgroup": self.cgroup, "layers": layers})

    def wait(self) -> None:
        command = ["docker", "--host", self.host, "info"]
        try:
            eventually(lambda: subprocess.run(command, capture_output=True).returncode == 0, 60, "an engine that answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.folder / 'log').read_text()[-3000:]}") from None


@dataclass
class Cluster:
    """A swarm of three managers, and the network through which they are reached."""

    nodes: list[Node]
    switch: Switch
    lost: set[int] = field(default_factory=set)

    @property
    def alive(self) -> list[Node]:
        return [node for node in self.nodes if node.number not in self.lost]

    @property
    def enter(self) -> tuple[str, ...]:
        """The prefix that runs a command in the network namespace from which the nodes can be reached."""
        return self.switch.enter

    @property
    def leader(self) -> Node:
        query = ("node", "inspect", "self", "--format", "{{.ManagerStatus.Leader}}")
        return next(node for node in self.alive if node.docker(*query) == "true")

    def lose(self, node: Node) -> tuple[float, float]:
        """Loses a node without notice: cuts its cable first, then kills all its processes at once.

        Returns:
            Times of ``time.monotonic()`` between which the cable was cut.
        """
        before = time.monotonic()
        self.switch.cut(node.number)
        after = time.monotonic()
        node.stop(signal.SIGKILL)
        self.lost.add(node.number)
        return before, after


@contextmanager
def cluster(images: list[str]) -> Iterator[Cluster]:
    """Starts the engines with images from this machine's engine and joins them; removes everything at the end."""
    for process, left in abandoned(ROOT_FOLDER, PREFIX):
        remove_cgroups(process)
        run(["rm", "-rf", str(left)])
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=ROOT_FOLDER))
    nodes = [Node(number, folder / str(number), SUBNET) for number in (1, 2, 3)]
    with switch(SUBNET) as joined:
        try:
            give_images(nodes, images, joined)
            for node in nodes:
                node.start(joined)
            for node in nodes:
                node.wait()
            first, *others = nodes
            first.docker("swarm", "init", "--advertise-addr", first.address, "--default-addr-pool", "198.18.128.0/18")
            token = first.docker("swarm", "join-token", "--quiet", "manager")
            for node in others:
                node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, first.address)
            yield Cluster(nodes, joined)
        finally:
            for node in nodes:
                node.stop()
            remove_cgroups(os.getpid())
            run(["rm", "-rf", str(folder)])


def give_images(nodes: list[Node], images: list[str], joined: Switch) -> None:
    """Provides images without a registry: the first node unpacks them, and the others share its layers, which never change."""
    first, *others = nodes
    for node in nodes:
        node.folder.mkdir()
    first.start(joined)
    first.wait()
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
        load = ["docker", "--host", first.host, "load", "--quiet"]
        subprocess.run(load, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True, timeout=180)
    assert saving.returncode == 0
    first.stop(signal.SIGTERM)
    unpacked = first.folder / "data" / "overlay2"
    for node in others:
        store = node.folder / "data" / "overlay2"
        store.mkdir(parents=True)
        run(["cp", "-a", f"{first.folder}/data/image", f"{node.folder}/data/"])
        run(["cp", "-a", f"{unpacked}/l", f"{store}/"])  # the layers' short names
        node.layers = [layer for layer in unpacked.iterdir() if layer.name != "l"]


def remove_cgroups(process: int) -> None:
    root = Path("/sys/fs/cgroup")
    name = f"{PREFIX}{process}-*"
    for top in (*root.glob(name), *root.glob(f"*/{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()
