"""API keys in the containers: created by the keys command, required by the API, and added by nginx from a secret."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import pytest

from aiderm_trainer.data import synthetic

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def keyed(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str]]:
    """A stack that requires keys, and a client's key; it uses the images of ``project``."""
    folder: Path = tmp_path_factory.mktemp("keys")
    folder.chmod(0o777 | 0o1000)  # writable for whichever user the keys command runs as
    page = tmp_path_factory.mktemp("secret")
    page.chmod(0o755)
    environment = {
        **project.environment,
        "AIDERM_HTTP_PORT": "0",
        "AIDERM_KEYS_DIR": str(folder),
        "AIDERM_KEYS_FILE": "/keys/keys.json",
        "AIDERM_PAGE_KEY_FILE": str(page / "page.key"),
        "AIDERM_AUDIT": "stdout",
    }
    (page / "page.key").touch()
    stack = dataclasses.replace(project, project=f"{project.project}-keys", environment=environment)
    try:
        (page / "page.key").write_text(stack.compose("run", "--rm", "-T", "keys", "add", "page", "--unlimited").stdout)
        (page / "page.key").chmod(0o644)
        own = stack.compose("run", "--rm", "-T", "keys", "add", "clinic", "--rate", "0.01", "--burst", "2").stdout.strip()
        (folder / "keys.json").chmod(0o644)  # the API runs as another user
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "120")
        url = f"http://127.0.0.1:{stack.compose('port', 'frontend', '8080').stdout.strip().rsplit(':', 1)[1]}"
        yield dataclasses.replace(stack, url=url), own
    finally:
        stack.compose("--profile", "keys", "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


def test_nginx_adds_the_pages_key_and_passes_a_clients_own(keyed: tuple[Stack, str]) -> None:
    stack, own = keyed
    picture = cv2.imencode(".png", synthetic.lesion(3, malignant=True, size=200)[..., ::-1])[1].tobytes()
    with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as client:

        def predict(**headers: str) -> httpx.Response:
            return client.post("/api/predict", files={"file": ("a.png", picture)}, headers=headers)

        assert predict().status_code == 200
        assert client.get("/api/models").status_code == 200
        assert predict(Authorization="Basic dXNlcjpwYXNz").status_code == 200, "a password of the page is not the API's"
        assert predict(Authorization=f"{own[:-1]}x").status_code == 200, "no Bearer: not meant for the API"
        assert predict(Authorization=f"Bearer {own[:-2]}").status_code == 401
        assert [predict(Authorization=f"Bearer {own}").status_code for _ in range(3)] == [200, 200, 429]
        assert predict().status_code == 200, "the page has no part in a client's limit"
        # The page's key gives no access to the metrics, however the path is spelled.
        for path in ("/api/metrics", "/api/%6detrics", "/api//metrics", "/api/x/../metrics", "/api/metrics?a=b"):
            assert client.get(path).status_code in {401, 404}, path
        assert client.get("/api/metrics", headers={"Authorization": f"Bearer {own}"}).status_code == 200
    direct = f"http://{stack.address('api')}:8000"
    assert httpx.get(f"{direct}/models", trust_env=False).status_code == 401
    assert httpx.get(f"{direct}/health", trust_env=False).status_code == 200


def test_a_revoked_key_is_refused_without_a_restart(keyed: tuple[Stack, str]) -> None:
    stack, own = keyed
    headers = {"Authorization": f"Bearer {own}"}
    assert httpx.get(f"{stack.url}/api/models", headers=headers, trust_env=False).status_code == 200
    stack.compose("run", "--rm", "-T", "keys", "revoke", "clinic")
    for _ in range(100):
        status = httpx.get(f"{stack.url}/api/models", headers=headers, trust_env=False).status_code
        if status == 401:
            break
        stack.execute("api", "sleep", "0.2")
    assert status == 401


def test_the_audit_trail_is_alone_on_stdout(keyed: tuple[Stack, str]) -> None:
    stack, own = keyed
    logs = subprocess.run(["docker", "logs", stack.container("api")], capture_output=True, text=True, check=True)
    trail = [json.loads(line) for line in logs.stdout.splitlines()]
    answers = [event for event in trail if event["event"] == "answer"]
    assert len(answers) >= 4
    assert own.split("_")[1] in {event["key"] for event in answers}
    assert all(json.loads(line)["level"] for line in logs.stderr.splitlines())
    assert own not in logs.stdout + logs.stderr + stack.logs("frontend")
