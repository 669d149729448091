"""The scripts in deploy/ without an engine: their locks, and what they refuse to publish."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT

# Answers the commands that rollout.sh runs before it locks; there are no replicas.
DOCKER = """#!/bin/sh
case "$*" in
"compose config") echo "name: aiderm" ;;
"compose config --images api") echo "aiderm-api:local" ;;
esac
"""


@pytest.fixture
def rollout(tmp_path: Path) -> Path:
    """A project with the script and a fake docker that has no containers."""
    (tmp_path / "project" / "deploy").mkdir(parents=True)
    script = tmp_path / "project" / "deploy" / "rollout.sh"
    shutil.copy(ROOT / "deploy" / "rollout.sh", script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    return script


def start(script: Path) -> subprocess.CompletedProcess[str]:
    folder = script.parents[2]
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "TMPDIR": f"{folder}/tmp"}
    return subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60)


def test_a_rollout_locks_inside_the_project(rollout: Path) -> None:
    lock = rollout.parents[1] / ".cache" / "rollout-aiderm"
    assert "no API runs in aiderm" in start(rollout).stderr
    assert not lock.exists(), "left behind"
    assert list((rollout.parents[2] / "tmp").iterdir()) == []

    lock.mkdir()
    (lock / "pid").write_text(str(os.getpid()))
    refused = start(rollout)
    assert refused.returncode == 1
    assert f"another rollout of aiderm is in progress ({lock})" in refused.stderr
    assert lock.exists(), "the lock of another"

    ended = subprocess.Popen(["true"])
    ended.wait()
    (lock / "pid").write_text(str(ended.pid))
    assert "no API runs in aiderm" in start(rollout).stderr, "the lock of a rollout that was killed holds nobody up"
    assert not lock.exists()


@pytest.mark.containers
@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({}, None),
        ({"AIDERM_HTTP_ADDRESS": "127.0.0.1"}, None),
        ({"AIDERM_HTTP_ADDRESS": "192.0.2.7"}, None),
        ({"AIDERM_HTTP_ADDRESS": "0.0.0.0"}, ["8080"]),
        ({"AIDERM_STACK_FILES": "deploy/swarm/tls.yml"}, ["8080", "8443"]),
    ],
    ids=str,
)
def test_a_swarm_publishes_with_tls_or_when_told_to(
    engine: None, tmp_path: Path, settings: dict[str, str], published: list[str] | None
) -> None:
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).write_text("not empty")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIDERM_")}
    environment = {**inherited, "COMPOSE_DISABLE_ENV_FILE": "1", "AIDERM_TLS_DIR": str(tmp_path), **settings}
    command = [ROOT / "deploy" / "swarm" / "stack.sh", "config"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    if published is None:
        assert result.returncode == 1
        assert "AIDERM_HTTP_ADDRESS=0.0.0.0" in result.stderr
        assert result.stdout == ""
    else:
        assert result.returncode == 0, result.stderr
        assert [line.split()[1] for line in result.stdout.splitlines() if line.strip().startswith("published:")] == published
        assert "x-http-address" not in result.stdout
