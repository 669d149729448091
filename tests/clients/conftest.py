"""A running service, an image for each decision, and both Python clients behind one interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio.from_thread
import cv2
import numpy as np
import pytest

from aiderm_api.auth.keys import Rate, changing, new_key
from aiderm_api.server import make_server
from aiderm_api.settings import Settings
from aiderm_client import AsyncClient, Client

Make = Callable[..., Any]
Npm = Callable[..., subprocess.CompletedProcess[str]]
PACKAGE = Path(__file__).parents[2] / "clients" / "typescript"
INSTALL = "Node.js 20.3 or newer with npm is missing: install it (from Debian 13 on: `sudo apt-get install nodejs npm`)"


@contextmanager
def running(**settings: Any) -> Iterator[str]:
    """Runs a service with these settings; yields its address."""
    server = make_server(Settings(port=0, **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    assert server.started
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="session")
def models_dir(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that assesses each of ``pictures`` with the decision after which it is named."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[str]:
    with running(models_dir=models_dir) as url:
        yield url


@pytest.fixture(scope="session")
def keyed(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """A service that requires API keys: its address, a key, and a key that may send one image per 1,000 seconds."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    key, secret = new_key("clinic", rate=Rate(per_second=1000, burst=1000))
    slow, slow_secret = new_key("slow", rate=Rate(per_second=0.001, burst=1))
    with changing(path) as keys:
        keys += [key, slow]
    with running(models_dir=models_dir, keys_file=path) as url:
        yield url, secret, slow_secret


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images by the decision that they get: red controls the malignancy, blue the novelty."""
    folder = tmp_path_factory.mktemp("pictures")
    colours = {"low_suspicion": (25, 10), "suspicious": (230, 10), "uncertain": (128, 10), "rejected": (230, 200)}
    for name, (red, blue) in colours.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((120, 160, 3), (blue, 100, red), np.uint8))
    return {name: folder / f"{name}.png" for name in colours}


class Blocking:
    """An ``AsyncClient`` whose calls block until they return, so that one test covers both clients."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, client: AsyncClient) -> None:
        self._portal, self._client = portal, client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._portal.call(partial(method, *args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Returns a function that makes clients, synchronous or asynchronous ones by the fixture's parameter."""
    with ExitStack() as stack:
        if request.param == "sync":
            yield lambda *args, **kwargs: stack.enter_context(Client(*args, **kwargs))
            return
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal())

        def make(*args: Any, **kwargs: Any) -> Blocking:
            client = AsyncClient(*args, **kwargs)
            stack.callback(lambda: portal.call(client.close))
            return Blocking(portal, client)

        yield make


@pytest.fixture
def client(make_client: Make, service: str) -> Any:
    return make_client(service)


@pytest.fixture(scope="session")
def npm() -> Npm:
    """Returns a function that runs npm for the TypeScript client, installed by package-lock.json and compiled with its tests."""
    node, program = shutil.which("node"), shutil.which("npm")

    def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *command],
            cwd=PACKAGE,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    if node is None or program is None:
        pytest.skip(INSTALL)
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) < (20, 3):
        pytest.skip(f"{INSTALL}; this is {version.strip()}")
    lock, installed = PACKAGE / "package-lock.json", PACKAGE / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = run("ci", "--ignore-scripts", "--no-audit", "--no-fund")
        if done.returncode:
            pytest.skip(f"`npm ci` in clients/typescript failed; does it reach an npm registry? {done.stderr[-500:]}")
    compiled = run("run", "--silent", "build")
    assert compiled.returncode == 0, compiled.stdout
    return run
