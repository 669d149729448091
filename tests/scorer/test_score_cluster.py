"""A Ray cluster produces the same table as this machine, even if processes or nodes die."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.ray_cluster import RayCluster, ray_cluster

from .conftest import fill, picture

pytestmark = pytest.mark.soak
COMMAND = (sys.executable, "-m", "aiderm_scorer.cli")
COUNT = 320
SIDE = 2500  # large images take long enough to interrupt the run


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A cluster of three nodes with one CPU each; the head is one of them."""
    with ray_cluster(nodes=3) as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    paths = fill(folder, COUNT - 20, SIDE)
    for index in range(20):
        (folder / f"broken{index}.png").write_bytes(
            [b"", b"text", paths[index].read_bytes()[:50], picture(1, side=20)][index % 4]
        )
    return folder


@pytest.fixture(scope="module")
def expected(cluster: RayCluster, images: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table that a run without a cluster writes."""
    out = tmp_path_factory.mktemp("local") / "s.parquet"
    cluster.run([*COMMAND, images, "--out", out, "--models", models, "--jobs", "1"])
    rows: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    assert len(rows) == COUNT
    return rows


def same(out: Path, expected: list[dict[str, Any]]) -> None:
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert {key: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value for key, value in row.items()} == other


def test_the_table_is_the_same(
    cluster: RayCluster, images: Path, models: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    told = cluster.run([*COMMAND, images, "--out", out, "--models", models, "--cluster", cluster.address])
    assert "320 rows" in told
    same(out, expected)
    again = cluster.run([*COMMAND, images, "--out", out, "--models", models, "--cluster", cluster.client], outside=True)
    assert "320 of them scored already" in again


def test_a_driver_outside_the_cluster_gets_it_too(
    cluster: RayCluster, images: Path, models: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    cluster.run([*COMMAND, images, "--out", out, "--models", models, "--cluster", cluster.client], outside=True)
    same(out, expected)


def test_the_driver_is_killed_and_goes_on(
    cluster: RayCluster, images: Path, models: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out, parts = tmp_path / "s.parquet", tmp_path / "s.parquet.parts"
    command = [*COMMAND, images, "--out", out, "--models", models, "--cluster", cluster.address]
    driver = cluster.start(command)
    wait_for_a_part(parts, driver)
    driver.kill()
    driver.communicate()
    assert not out.exists()
    told = cluster.run(command)
    assert "320 images, 0 of them" not in told
    same(out, expected)
    assert not parts.exists()


def test_a_node_that_does_not_see_the_images_is_named(cluster: RayCluster, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    fill(folder, 3)
    node = cluster.add(hidden=folder)
    told = cluster.run(
        [*COMMAND, folder, "--out", tmp_path / "s.parquet", "--models", models, "--cluster", cluster.address], check=False
    )
    assert f"the node {node.address} cannot read" in told
    assert "No such file" in told
    cluster.kill(node.number)


def test_a_node_is_lost_on_the_way(
    cluster: RayCluster, images: Path, models: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out, parts = tmp_path / "s.parquet", tmp_path / "s.parquet.parts"
    driver = cluster.start([*COMMAND, images, "--out", out, "--models", models, "--cluster", cluster.address])
    wait_for_a_part(parts, driver)
    cluster.kill(2)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    same(out, expected)


def wait_for_a_part(parts: Path, driver: Any) -> None:
    end = time.monotonic() + 90
    while not list(parts.glob("[0-9]*.parquet")):
        assert time.monotonic() < end
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.02)
