"""The scorer's image as README.md and docs/cluster.md use it: with compose on one machine, and as nodes of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pyarrow.parquet as pq
import pytest

from aiderm_trainer.data.synthetic import lesion

from .conftest import ROOT, docker, run

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = [pytest.mark.containers, pytest.mark.soak]
COUNT = 300
FOLDERS = ("data", "models", "scores")


@pytest.fixture(scope="module")
def scorer(project: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack with the scorer's image built, synthetic lesions, one broken image, and an ordinary user's empty scores folder."""
    root = tmp_path_factory.mktemp("archive")
    (root / "data").mkdir()
    (root / "scores").mkdir()
    for index in range(COUNT - 1):
        cv2.imwrite(str(root / "data" / f"{index:03d}.jpg"), lesion(index % 20, index % 2 == 0)[..., ::-1])
    (root / "data" / "broken.jpg").write_bytes(b"no picture")
    user, group = (1234, 1234) if os.getuid() == 0 else (os.getuid(), os.getgid())
    os.chown(root / "scores", user, group)
    for path in [root, root / "data", *(root / "data").iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    folders = {"AIDERM_DATA": str(root / "data"), "AIDERM_SCORES": str(root / "scores"), "AIDERM_MODELS": str(ROOT / "models")}
    stack = replace(project, environment={**project.environment, **folders, "AIDERM_UID": str(user), "AIDERM_GID": str(group)})
    stack.compose("build", "scorer")
    return stack


def rows(scorer: Stack, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(Path(scorer.environment["AIDERM_SCORES"]) / name).to_pylist()
    return found


@pytest.fixture(scope="module")
def alone(scorer: Stack) -> list[dict[str, Any]]:
    """The table that a single container writes."""
    told = scorer.compose("run", "--rm", "-T", "scorer", "data", "--out", "scores/alone.parquet")
    assert f"{COUNT} rows" in told.stdout + told.stderr
    return rows(scorer, "alone.parquet")


def test_one_container_scores_a_folder(alone: list[dict[str, Any]]) -> None:
    assert len(alone) == COUNT
    assert [row["image"] for row in alone if row["error"]] == ["data/broken.jpg"]
    assert all(row["decision"] for row in alone if not row["error"])


@pytest.fixture
def head(scorer: Stack) -> Iterator[str]:
    """A cluster of containers: a head that does no work, and two nodes with one core each."""
    network, image = f"{scorer.project}-ray", f"aiderm-scorer:{scorer.environment['AIDERM_VERSION']}"
    folders = [f"--volume={scorer.environment[f'AIDERM_{name.upper()}']}:/workspace/{name}" for name in FOLDERS]
    user = f"{scorer.environment['AIDERM_UID']}:{scorer.environment['AIDERM_GID']}"
    common = ["--detach", "--network", network, "--shm-size=1g", "--user", user, *folders, "--entrypoint=ray"]
    ray = ["start", "--block", "--disable-usage-stats"]
    names = [f"{network}-{role}" for role in ("head", "one", "two")]
    docker("network", "create", network)
    try:
        docker("run", "--name", names[0], *common, image, *ray, "--head", "--port=6379", "--num-cpus=0")
        for name in names[1:]:
            docker("run", "--name", name, *common, image, *ray, f"--address={names[0]}:6379", "--num-cpus=1")
        end = time.monotonic() + 120
        while run(["docker", "exec", names[0], "ray", "status"], check=False).stdout.count("node_") < len(names):
            assert time.monotonic() < end
            time.sleep(2)
        yield names[0]
    finally:
        docker("rm", "--force", *names)
        docker("network", "rm", network)


def test_a_cluster_of_containers_writes_the_same_table(scorer: Stack, head: str, alone: list[dict[str, Any]]) -> None:
    docker("exec", head, "aiderm-score", "data", "--out", "scores/cluster.parquet", "--cluster", "auto")
    found = rows(scorer, "cluster.parquet")
    assert len(found) == COUNT
    for row, other in zip(found, alone, strict=True):
        assert {key: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value for key, value in row.items()} == other
