"""The real stack: images built from the Dockerfiles and started by docker compose on the engine that DOCKER_HOST names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
from tests.servers import free_port

from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.decision import Decision
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data import synthetic

ROOT = Path(__file__).parents[2]
HOW_TO = (
    "needs a Docker engine with Compose v2: start one (and set DOCKER_HOST if it is not the default), "
    "then run: python -m pytest -m containers"
)


@dataclass(frozen=True)
class Stack:
    """A separate compose project, so that it does not conflict with other stacks on this machine."""

    project: str
    environment: Mapping[str, str]
    url: str = ""

    def compose(self, *arguments: str, check: bool = True, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs `docker compose …` for this project."""
        command = ["docker", "compose", "--project-name", self.project, *arguments]
        return run(command, self.environment, check, timeout)

    def containers(self, service: str) -> list[str]:
        """The ids of the service's containers, including stopped ones."""
        return self.compose("ps", "--all", "--quiet", service).stdout.split()

    def container(self, service: str) -> str:
        """The id of the service's container."""
        identifier = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        assert identifier, f"no container of {service}"
        return identifier

    def inspect(self, service: str) -> dict[str, Any]:
        """The output of `docker inspect` for the service's container."""
        return json.loads(docker("inspect", self.container(service)))[0]

    def execute(self, service: str, *command: str) -> str:
        """Runs a command inside the running container."""
        return docker("exec", self.container(service), *command)

    def logs(self, service: str) -> str:
        """The unmodified output of the service's container."""
        result = run(["docker", "logs", self.container(service)])
        return result.stdout + result.stderr

    def address(self, service: str) -> str:
        """The container's address in the internal network, which this host can reach too."""
        return self.inspect(service)["NetworkSettings"]["Networks"][f"{self.project}_internal"]["IPAddress"]


def run(
    command: list[str], environment: Mapping[str, str] | None = None, check: bool = True, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )
    if check and result.returncode:
        output = result.stdout + result.stderr
        raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{output[-4000:]}")
    return result


def until(true: Callable[[], Any], what: str, seconds: float = 90) -> None:
    """Waits until ``true`` returns something true; fails with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.2)


def docker(*arguments: str, timeout: float = 300) -> str:
    """Runs `docker …` and returns its standard output."""
    return run(["docker", *arguments], timeout=timeout).stdout


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips the test if no engine answers."""
    if shutil.which("docker") is None:
        pytest.skip(HOW_TO)
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            answer = run(command, check=False, timeout=30)
        except subprocess.TimeoutExpired:
            pytest.skip(HOW_TO)
        if answer.returncode:
            pytest.skip(f"{HOW_TO} ({answer.stderr.strip()[-200:]})")
    for base in base_images():
        provide(base)


def base_images() -> set[str]:
    """The base images of the Dockerfiles."""
    files = [ROOT / "frontend" / "Dockerfile", ROOT / "services" / "Dockerfile"]
    return {name for file in files for name in re.findall(r"^(?:FROM |ARG NGINX_IMAGE=)(\S+:\S+)", file.read_text("utf-8"), re.M)}


def provide(base: str) -> None:
    """Makes a base image available: pulls it or, if no registry can be reached, uses another tag of the same image."""

    def there() -> bool:
        return run(["docker", "image", "inspect", base], check=False).returncode == 0

    if there() or run(["docker", "pull", "--quiet", base], check=False, timeout=600).returncode == 0:
        return
    name, _, tag = base.partition(":")
    suffix = tag.rpartition("-")[2]
    tags = docker("image", "ls", "--format", "{{.Tag}}", name).split()
    others = [other for other in tags if other.endswith(suffix)]
    assert others, f"{base} is not on this machine, its registry is not reached, and there is no other {name}:*{suffix}"
    docker("tag", f"{name}:{max(others)}", base)


@pytest.fixture(scope="session")
def served_models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models that the repository ships or, in a checkout without them, a bundle made for tests."""
    shipped = ROOT / "models"
    if (shipped / "melanoma" / "SERVING").is_file():
        return shipped
    folder = tmp_path_factory.mktemp("models")
    request.getfixturevalue("make_bundle")(folder)
    readable(folder)
    return folder


@pytest.fixture(scope="session")
def assessed_lesion(served_models: Path) -> bytes:
    """PNG of the first synthetic lesion that the served model does not reject, so that its assessment has a probability."""
    store = ModelStore(served_models)
    bundle = store.path("melanoma", store.serving("melanoma") or "")
    manifest = Manifest.load(bundle)
    runtime = load_runtime("openvino", bundle, threads=1)
    for seed in range(100):
        data = bytes(cv2.imencode(".png", synthetic.lesion(seed, malignant=True, size=300)[..., ::-1])[1].tobytes())
        answer = assess(data, manifest=manifest, runtime=runtime, rule=manifest.decision, limits=Limits())
        if answer.verdict.decision is not Decision.REJECTED:
            return data
    raise AssertionError("the served model rejects each of 100 synthetic lesions")


@pytest.fixture(scope="session")
def project(engine: None, served_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A project with its images built and nothing started; everything is removed at the end."""
    folder = tmp_path_factory.mktemp("stack")
    for name in ("data", "runs"):
        (folder / name).mkdir()
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIDERM_")} | {
        "AIDERM_VERSION": "test",
        "AIDERM_HTTP_PORT": str(port),
        "AIDERM_MODELS": str(served_models),
        "AIDERM_DATA": str(folder / "data"),
        "AIDERM_RUNS": str(folder / "runs"),
        "AIDERM_RATE_LIMIT": "20r/s",
        "AIDERM_RATE_BURST": "40",
        "COMPOSE_DISABLE_ENV_FILE": "1",
    }
    stack = Stack(f"aiderm-test-{os.getpid()}", environment, f"http://127.0.0.1:{port}")
    try:
        stack.compose("build", "api", "frontend")
        yield stack
    finally:
        stack.compose("--profile", "train", "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


@pytest.fixture(scope="session")
def stack(project: Stack) -> Stack:
    """nginx and the API, started by `docker compose up`."""
    try:
        project.compose("up", "--detach", "--wait", "--wait-timeout", "120")
    except AssertionError as error:
        logs = project.compose("logs", "--no-color", check=False).stdout
        raise AssertionError(f"{error}\n{logs[-4000:]}") from None
    return project


@pytest.fixture(scope="session")
def fleet(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three small API replicas behind nginx, with their own models and no rate limit. Tests must leave it intact."""
    models = tmp_path_factory.mktemp("fleet")
    name = "melanoma"
    source = Path(project.environment["AIDERM_MODELS"]) / name
    shutil.copytree(source, models / name)
    readable(models)
    stack = another(
        project,
        "fleet",
        AIDERM_MODELS=str(models),
        AIDERM_API_REPLICAS="3",
        AIDERM_API_MEMORY="512m",
        AIDERM_API_CPUS="1",
        AIDERM_THREADS="1",
        AIDERM_POLL_SECONDS="0.5",
        AIDERM_AUDIT="/tmp/audit.jsonl",  # so that a full disk matters
    )
    with running(stack) as started:
        yield started


def another(project: Stack, name: str, **environment: str) -> Stack:
    """A second project with its own tags for the same images, and without limits per client."""
    for image in ("aiderm-api", "aiderm-frontend"):
        docker("tag", f"{image}:{project.environment['AIDERM_VERSION']}", f"{image}:{project.project}-{name}")
    port = free_port()
    totals = {f"AIDERM_TOTAL_{name}": "1000" for name in ("CONNECTIONS", "UPLOADS", "BATCHES")}
    unlimited = {"AIDERM_RATE_LIMIT": "10000r/s", "AIDERM_RATE_BURST": "10000", "AIDERM_CONNECTIONS": "1000", **totals}
    own = {"AIDERM_VERSION": f"{project.project}-{name}", "AIDERM_HTTP_PORT": str(port)}
    return Stack(
        f"{project.project}-{name}", {**project.environment, **unlimited, **own, **environment}, f"http://127.0.0.1:{port}"
    )


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Starts a project and removes it at the end, including its tags."""
    try:
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "120", "--no-build")
        yield stack
    except AssertionError as error:
        logs = stack.compose("logs", "--no-color", "--tail", "40", check=False).stdout
        raise AssertionError(f"{error}\n{logs[-6000:]}") from None
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)
        for image in ("aiderm-api", "aiderm-frontend"):
            for tag in ("", "-previous"):
                run(["docker", "image", "rm", f"{image}:{stack.environment['AIDERM_VERSION']}{tag}"], check=False)


def readable(folder: Path) -> None:
    """Makes a temporary folder, which pytest makes private, readable for the containers' users."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
