"""Three Docker engines as three machines: each in namespaces of its own, joined by a bridge that is in another one.

Nothing of them is seen by the machine's own network or engine, and all processes end with the process that started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .conftest import run

TOOLS = ("dockerd", "containerd", "unshare", "nsenter", "setpriv", "ip", "iptables")
# 198.18.0.0/15 is set aside for tests. In the namespaces these meet no other network.
SUBNET = "198.18.200"
GATEWAY = 254
ROOT_FOLDER = Path("/var/tmp")  # large, and on a disk that the engine's overlays can use
PREFIX = "aiderm-swarm-"
# Ends with its parent, whatever ends that.
BOUND = ("setpriv", "--pdeathsig", "KILL")
# dockerd is the first process of its own process namespace, so that with it everything of the node ends at once. /sys is of the
# namespace too, but for the cgroups.
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
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
ip address add "$address/24" dev eth0
ip link set eth0 up
exec dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" --host "unix://$folder/socket" \
  --bip "198.18.$((200 + number)).1/24" --default-address-pool "base=198.18.$((210 + number)).0/24,size=26" \
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" --no-new-privileges --shutdown-timeout 5 --log-level warn
"""


def eventually(holds: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def only_child(pid: int) -> int:
    children: list[str] = []

    def found() -> bool:
        children[:] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return bool(children)

    eventually(found, 10, f"a child of process {pid}")
    return int(children[0])


@dataclass
class Node:
    """One engine with its own network, processes and mounts."""

    number: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    first: int = 0  # the first process of its namespace, dockerd
    layers: list[Path] = field(default_factory=list)  # of images, from another node

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

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
        """Ids of the running containers of a service on this node."""
        return self.docker("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}").split()

    def start(self, switch: int) -> None:
        environment = {
            **os.environ,
            "folder": str(self.folder),
            "address": self.address,
            "number": str(self.number),
            "cgroup": self.cgroup,
            "layers": " ".join(map(str, self.layers)),
        }
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*BOUND, "unshare", *namespaces, "bash", "-c", MACHINE],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.first = only_child(self.process.pid)
        namespace = f"/proc/{self.first}/ns/net"
        # The child exists a moment before it is in its namespaces.
        eventually(lambda: Path(namespace).readlink() != Path("/proc/self/ns/net").readlink(), 10, "a network namespace")
        # The cable of an engine that was here before goes only some time after it.
        run([*enter(switch), "ip", "link", "delete", f"node{self.number}"], check=False)
        inside(switch, "ip", "link", "add", f"node{self.number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        inside(switch, "ip", "link", "set", f"node{self.number}", "master", "bridge0", "up")

    def wait(self) -> None:
        command = ["docker", "--host", self.host, "info"]
        try:
            eventually(lambda: subprocess.run(command, capture_output=True).returncode == 0, 60, "an engine that answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{(self.folder / 'log').read_text()[-3000:]}") from None

    def stop(self, how: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            os.kill(self.first, how)
            self.process.wait(60)
        self.process = None


def inside(process: int, *command: str) -> str:
    """Runs a command in the network namespace of a process."""
    return run([*enter(process), *command], timeout=30).stdout


def enter(process: int) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{process}/ns/net")


@dataclass
class Cluster:
    """A swarm of three managers and the way to them."""

    nodes: list[Node]
    switch: subprocess.Popen[bytes]
    lost: set[int] = field(default_factory=set)

    @property
    def alive(self) -> list[Node]:
        return [node for node in self.nodes if node.number not in self.lost]

    @property
    def enter(self) -> tuple[str, ...]:
        """Put before a command, it runs where the nodes are reached."""
        return enter(self.switch.pid)

    @property
    def leader(self) -> Node:
        query = ("node", "inspect", "self", "--format", "{{.ManagerStatus.Leader}}")
        return next(node for node in self.alive if node.docker(*query) == "true")

    def lose(self, node: Node) -> tuple[float, float]:
        """The cable first, so that nobody is told; then all its processes at once.

        Returns:
            Times of ``time.monotonic()`` between which the cable was cut.
        """
        before = time.monotonic()
        inside(self.switch.pid, "ip", "link", "set", f"node{node.number}", "down")
        after = time.monotonic()
        node.stop(signal.SIGKILL)
        self.lost.add(node.number)
        return before, after


@contextmanager
def cluster(images: list[str]) -> Iterator[Cluster]:
    """Starts the engines with images of the machine's own engine, and joins them; nothing is left at the end."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=ROOT_FOLDER))
    nodes = [Node(number, folder / str(number)) for number in (1, 2, 3)]
    switch = subprocess.Popen([*BOUND, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    try:
        own = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(f"/proc/{switch.pid}/ns/net").readlink() != own, 10, "a network namespace")
        inside(switch.pid, "ip", "link", "set", "lo", "up")
        inside(switch.pid, "ip", "link", "add", "bridge0", "type", "bridge")
        inside(switch.pid, "ip", "address", "add", f"{SUBNET}.{GATEWAY}/24", "dev", "bridge0")
        inside(switch.pid, "ip", "link", "set", "bridge0", "up")
        give_images(nodes, images, switch.pid)
        for node in nodes:
            node.start(switch.pid)
        for node in nodes:
            node.wait()
        first, *others = nodes
        first.docker("swarm", "init", "--advertise-addr", first.address, "--default-addr-pool", "198.18.128.0/18")
        token = first.docker("swarm", "join-token", "--quiet", "manager")
        for node in others:
            node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, first.address)
        yield Cluster(nodes, switch)
    finally:
        for node in nodes:
            node.stop(signal.SIGKILL)
        switch.kill()
        switch.wait()
        remove_cgroups(os.getpid())
        run(["rm", "-rf", str(folder)])


def give_images(nodes: list[Node], images: list[str], switch: int) -> None:
    """Without a registry: the first node unpacks them; the others see its layers, which nobody changes."""
    first, *others = nodes
    for node in nodes:
        node.folder.mkdir()
    first.start(switch)
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
        run(["cp", "-a", f"{unpacked}/l", f"{store}/"])  # their short names
        node.layers = [layer for layer in unpacked.iterdir() if layer.name != "l"]


def remove_cgroups(process: int) -> None:
    root = Path("/sys/fs/cgroup")
    name = f"{PREFIX}{process}-*"
    for top in (*root.glob(name), *root.glob(f"*/{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()


def remove_leftovers() -> None:
    """Of a run that was killed: its processes went with it, its files did not."""
    for folder in ROOT_FOLDER.glob(f"{PREFIX}*"):
        process = int(folder.name.removeprefix(PREFIX).split("-")[0])
        if not Path(f"/proc/{process}").exists():
            remove_cgroups(process)
            run(["rm", "-rf", str(folder)])
