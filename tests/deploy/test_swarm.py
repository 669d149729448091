"""The compose file on a Docker Swarm of three nodes: what it starts, and faults under steady load on all nodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
from tests.deploy.load import Load
from tests.deploy.swarm_cluster import SUBNET, TOOLS, Cluster, Node, cluster
from tests.machines import eventually, need_machines

from aiderm_trainer.data import synthetic

from .conftest import readable, run

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers

NAME = "aiderm"
API, FRONTEND = f"{NAME}_api", f"{NAME}_frontend"
# The new image is the old one with a label; the bad one never becomes healthy because its health check fails.
DOCKERFILES = {
    "old": "FROM {image}\n",
    "new": "FROM {image}\nLABEL aiderm.test=new\n",
    "bad": '{from_line}HEALTHCHECK --interval=1s --timeout=1s --start-period=3s --retries=2 CMD ["false"]\n',
}


@dataclass(frozen=True)
class Swarm:
    """The stack on the cluster."""

    cluster: Cluster
    environment: Mapping[str, str]
    tag: str

    def deploy(self, version: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, "AIDERM_VERSION": f"{self.tag}-{version}", "DOCKER_HOST": self.cluster.leader.host}
        command = ["deploy/swarm/stack.sh", "deploy", "--resolve-image", "never", "--quiet"]
        return run(command, environment, check=False, timeout=240)

    def load(self, picture: bytes, clients: int = 3) -> Load:
        """Starts load with clients of all nodes."""
        urls = [node.url for node in self.cluster.nodes]
        return Load(urls, picture, clients=clients, pause=0.1, timeout=20, prefix=self.cluster.enter)

    def versions(self) -> list[str]:
        """The image of each API replica."""
        images = [
            node.docker("inspect", "--format", "{{.Config.Image}}", container)
            for node in self.cluster.alive
            for container in node.containers(API)
        ]
        return [image.removeprefix(f"aiderm-api:{self.tag}-") for image in images]


@pytest.fixture(scope="module")
def picture() -> bytes:
    return cv2.imencode(".png", synthetic.lesion(7, malignant=True, size=200)[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def swarm(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    need_machines(*TOOLS)
    models = tmp_path_factory.mktemp("swarm") / "models"
    shutil.copytree(Path(project.environment["AIDERM_MODELS"]) / "melanoma", models / "melanoma")
    readable(models.parent)
    tag = f"{project.project}-swarm"
    images = [f"aiderm-{part}:{tag}-{version}" for part in ("api", "frontend") for version in DOCKERFILES]
    environment = {
        **project.environment,
        "AIDERM_STACK": NAME,
        "AIDERM_MODELS": str(models),
        "AIDERM_HTTP_ADDRESS": "0.0.0.0",  # addresses in namespaces that nothing else can reach
        "AIDERM_HTTP_PORT": "8080",
        "AIDERM_HOSTS": ",".join(f"{SUBNET}.{number}" for number in (1, 2, 3)),
        "AIDERM_RATE_LIMIT": "10000r/s",
        "AIDERM_RATE_BURST": "10000",
        "AIDERM_CONNECTIONS": "1000",
        "AIDERM_TOTAL_UPLOADS": "1000",
        "AIDERM_API_MEMORY": "512m",
        "AIDERM_API_CPUS": "1",
        "AIDERM_THREADS": "1",
        "AIDERM_UPDATE_MONITOR": "5s",
    }
    try:
        for part in ("api", "frontend"):
            for version, text in DOCKERFILES.items():
                source = f"aiderm-{part}:{project.environment['AIDERM_VERSION']}"
                if part == "frontend":  # only the API has a bad version
                    text = DOCKERFILES["old"]
                text = text.replace("{from_line}", DOCKERFILES["old"]).format(image=source)
                build = ["docker", "build", "--quiet", "--tag", f"aiderm-{part}:{tag}-{version}", "-"]
                subprocess.run(build, input=text, text=True, check=True, capture_output=True, timeout=120)
        with cluster(images) as machines:
            stack = Swarm(machines, environment, tag)
            started = stack.deploy("old")
            assert started.returncode == 0, started.stdout + started.stderr
            yield stack
    finally:
        for image in images:
            run(["docker", "image", "rm", image], check=False)


def facts(node: Node, service: str) -> dict[str, object]:
    """The engine's and the kernel's settings for the service's container on the node."""
    (container,) = node.containers(service)
    found = json.loads(node.docker("inspect", container))[0]
    status = node.docker("exec", container, "cat", "/proc/1/status")
    kernel = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {
        "read-only": found["HostConfig"]["ReadonlyRootfs"],
        "capabilities": int(kernel["CapBnd"], 16),
        "no new privileges": kernel["NoNewPrivs"],
        "root": kernel["Uid"].split()[0] == "0",
        "memory": found["HostConfig"]["Memory"],
        "processes": found["HostConfig"]["PidsLimit"],
    }


def test_each_node_runs_a_hardened_replica_and_its_own_nginx(swarm: Swarm) -> None:
    safe = {"read-only": True, "capabilities": 0, "no new privileges": "1", "root": False}
    for node in swarm.cluster.nodes:
        assert facts(node, API) == {**safe, "memory": 512 << 20, "processes": 256}
        assert facts(node, FRONTEND) == {**safe, "memory": 1536 << 20, "processes": 64}
        # The API can only be reached through nginx: it has no published port and no external network.
        assert node.docker("port", node.containers(API)[0]) == ""
    assert (
        swarm.cluster.leader.docker("network", "inspect", f"{NAME}_internal", "--format", "{{.Driver}} {{.Internal}}")
        == "overlay true"
    )


def deploy_without_loss(swarm: Swarm, picture: bytes, version: str) -> subprocess.CompletedProcess[str]:
    """Deploys a version under load and asserts that no request is lost."""
    with swarm.load(picture) as load:
        time.sleep(2)
        updated = swarm.deploy(version)
        time.sleep(2)
        report = load.stop()
    assert len(report.requests) > 50
    assert not report.failures
    return updated


def test_a_rolling_update_loses_nothing(swarm: Swarm, picture: bytes) -> None:
    updated = deploy_without_loss(swarm, picture, "new")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert swarm.versions() == ["new"] * 3


@pytest.mark.soak
def test_an_image_that_never_gets_healthy_is_rolled_back_and_loses_nothing(swarm: Swarm, picture: bytes) -> None:
    before = swarm.versions()
    updated = deploy_without_loss(swarm, picture, "bad")
    assert updated.returncode == 1, updated.stdout + updated.stderr
    assert API in updated.stderr
    assert "rollback" in updated.stderr
    assert swarm.versions() == before


def test_a_lost_node_takes_only_what_it_had_in_hand(swarm: Swarm, picture: bytes) -> None:
    """Loses the worst node: the leading manager, with a replica and an nginx that clients use."""
    node = swarm.cluster.leader
    details = [json.loads(node.docker("inspect", container))[0] for container in node.containers(API)]
    replicas = [detail["NetworkSettings"]["Networks"][f"{NAME}_internal"]["IPAddress"] for detail in details]
    assert replicas
    with swarm.load(picture, clients=6) as load:
        time.sleep(4)
        before, moment = swarm.cluster.lose(node)
        # Waits until the remaining managers have elected a leader and noticed the loss.
        eventually(
            lambda: "Down" in swarm.cluster.alive[0].docker("node", "ls", "--format", "{{.Status}}", check=False), 60, "Down"
        )
        time.sleep(3)
        report = load.stop()
    for request in report.failures:
        times = f"{request.started - moment:+.3f} s to {request.ended - moment:+.3f} s; the cut took {moment - before:.3f} s"
        print(f"lost: through {request.url}, from {times}")  # noqa: T201  (as the load does)
    in_hand = {request.identifier for request in report.in_flight(moment)}
    print(f"{len(in_hand)} were in flight when the node was lost")  # noqa: T201  (as the load does)
    assert len(report.requests) > 50
    assert [len(other.containers(API)) for other in swarm.cluster.alive] == [1, 1]
    assert {request.identifier for request in report.failures} <= in_hand
    # Of the requests that another node's nginx had accepted, only those passed to the lost node's replica may fail.
    log = "\n".join(other.docker("logs", container) for other in swarm.cluster.alive for container in other.containers(FRONTEND))
    entries = {
        entry["request_id"]: entry for entry in map(json.loads, filter(lambda line: line.startswith("{"), log.splitlines()))
    }
    for request in report.failures:
        if request.url != node.url:
            assert entries[request.identifier]["upstream"].split(":")[0] in replicas
    after = [request for request in report.requests if request.started > moment + 1 and request.url != node.url]
    assert {request.url for request in after} == {other.url for other in swarm.cluster.alive}
