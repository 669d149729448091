"""Runs `make rollout` and `make rollback` under steady load through nginx, with three replicas."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import pytest
from tests.deploy.load import Load

from aiderm_trainer.data import synthetic

from .conftest import docker, run

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers


@pytest.fixture
def steady(fleet: Stack) -> Iterator[Load]:
    picture = cv2.imencode(".png", synthetic.lesion(7, malignant=True, size=300)[..., ::-1])[1].tobytes()
    with Load([fleet.url], picture, clients=3, pause=0.25) as load:
        time.sleep(1)
        yield load


def make(fleet: Stack, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**fleet.environment, "COMPOSE_PROJECT_NAME": fleet.project, **settings}
    result = run(["make", *arguments], environment, check=False, timeout=400)
    sys.stdout.write(result.stdout + result.stderr)
    return result


def images(fleet: Stack) -> dict[str, str]:
    """The image of every replica; asserts that there are exactly three, all running and healthy."""
    found = {}
    for container in fleet.containers("api"):
        state, image = docker("inspect", "--format", "{{.State.Status}}/{{.State.Health.Status}} {{.Image}}", container).split()
        assert state == "running/healthy"
        found[container] = image
    assert len(found) == 3
    return found


def tagged(fleet: Stack) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", f"aiderm-api:{fleet.environment['AIDERM_VERSION']}").strip()


def nothing_lost(load: Load) -> None:
    time.sleep(1)
    report = load.stop()
    assert len(report.requests) >= 10
    assert not report.failures, f"{report}: {report.failures[:3]}"


def test_rollout_and_rollback_lose_nothing(fleet: Stack, steady: Load) -> None:
    before = images(fleet)
    [old] = set(before.values())
    result = make(fleet, "rollout", AIDERM_REVISION="another")
    assert result.returncode == 0, result.stderr
    after = images(fleet)
    assert not set(before) & set(after)
    [new] = set(after.values())
    assert new != old
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    assert docker("image", "inspect", "--format", label, new).strip() == "another"

    result = make(fleet, "rollback")
    assert result.returncode == 0, result.stderr
    assert set(images(fleet).values()) == {old}
    assert tagged(fleet) == old, "what is started later is the older one too"
    nothing_lost(steady)
    # Replicas that are up to date are not restarted.
    running = images(fleet)
    fleet.compose("up", "--detach", "--no-build", "api")
    assert images(fleet) == running


@pytest.mark.parametrize(
    ("command", "said"),
    [("exec sleep 600", "not healthy after 12s"), ("echo out of order >&2; exit 3", "out of order")],
    ids=["never-healthy", "crashes"],
)
def test_an_image_that_does_not_work_is_taken_back(fleet: Stack, steady: Load, command: str, said: str) -> None:
    before, image = images(fleet), f"aiderm-api:{fleet.environment['AIDERM_VERSION']}"
    recipe = f'FROM {image}\nCMD ["sh", "-c", "{command}"]\n'
    subprocess.run(["docker", "build", "--quiet", "--tag", image, "-"], input=recipe, text=True, check=True, timeout=120)
    result = make(fleet, "rollout", AIDERM_ROLLOUT_BUILD="no", AIDERM_ROLLOUT_SECONDS="12")
    assert result.returncode != 0
    assert "FAILED" in result.stderr
    assert said in result.stderr
    assert images(fleet) == before, "the old replicas serve, and were never touched"
    assert {tagged(fleet)} == set(before.values()), "the bad image would be started next time"
    nothing_lost(steady)


def test_rollout_says_what_it_lacks(fleet: Stack) -> None:
    nobody = make(fleet, "rollout", COMPOSE_PROJECT_NAME=f"{fleet.project}-nobody")
    assert nobody.returncode != 0
    assert "start it with make up" in nobody.stderr
    bare = make(fleet, "rollout", AIDERM_ROLLOUT_SECONDS="soon")
    assert bare.returncode != 0
    assert "must be a whole number. Received: soon" in bare.stderr
    unreachable = make(fleet, "rollback", DOCKER_HOST="unix:///nowhere.sock")
    assert unreachable.returncode != 0
    assert "engine does not answer" in unreachable.stderr
