"""A study on a Ray cluster: nodes and then the driver are killed, and the table still equals that of one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machines import eventually
from tests.ray_cluster import RayCluster, RayNode, ray_cluster
from tests.trainer.study.small_study import compare_command, equal_tables, write_study

from aiderm_core import files

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head that trains nothing and so is free for the driver, and two nodes with one CPU each."""
    with ray_cluster(nodes=3, cpus=1, head_cpus=0) as cluster:
        yield cluster


@pytest.fixture
def command(synthetic_split: tuple[Path, Path], tmp_path: Path) -> list[str]:
    """The `aiderm-train compare` command for two recipes in two folds, without --out."""
    write_study(tmp_path, seeds=[0], epochs=8)
    return compare_command(tmp_path, synthetic_split)


def holder(lock: Path) -> int | None:
    """The id of the process that holds a lock."""
    if not lock.exists():
        return None
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" not in fields and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    return None


def test_a_lost_node_and_a_lost_driver_change_no_number(cluster: RayCluster, command: list[str], tmp_path: Path) -> None:
    alone, out = tmp_path / "alone", tmp_path / "cluster"
    local = subprocess.Popen([str(part) for part in [*command, "--out", alone]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    distributed = [*command, "--out", out, "--cluster"]
    first = cluster.start([*distributed, cluster.address])
    trial = out / "trials" / "scratch--1--0"

    def trained_on(others: RayNode | None = None) -> RayNode | None:
        """The node that is in the middle of the trial, unless it is ``others``."""
        process = holder(trial / ".lock")
        node = cluster.node_of(process) if process and (trial / "checkpoint.npz").exists() else None
        return node if node is not others else None

    eventually(lambda: trained_on() or first.poll() is not None, 120, "a trial that is half trained")
    lost = trained_on()
    assert lost is not None, first.communicate()[0]
    cluster.kill(lost.number)
    assert not (trial / "result.json").exists(), "it was killed too late"
    joined = cluster.add()
    for node in cluster.nodes[1:]:
        if node.alive and node is not joined:
            cluster.kill(node.number)  # so that only the new node can take over
    eventually(lambda: trained_on(lost) or first.poll() is not None, 90, "the trial on another node")
    process = holder(trial / ".lock")
    assert process, first.communicate()[0]
    assert b"libtensorflow" not in maps(first.pid), "the driver itself needs no TensorFlow"
    first.kill()
    said, _ = first.communicate(timeout=30)
    assert not (trial / "result.json").exists(), "it was killed too late"
    assert "again: scratch--1--0" in said
    # The driver's running trial ends with it.
    eventually(lambda: not Path(f"/proc/{process}").exists(), 30, "the end of the trial of the lost driver")

    said += cluster.run([*distributed, cluster.client], outside=True, timeout=180)
    assert joined.address in said
    cluster.add()  # the other tests need two nodes again
    told, _ = local.communicate(timeout=180)
    assert local.returncode == 0, told
    assert [f"{row['recipe']}--{row['fold']}--{row['seed']}" for row in equal_tables(alone, out)] == [
        f"{recipe}--{fold}--0" for recipe in ("frozen", "scratch") for fold in (1, 2)
    ]
    for folder in (alone / "trials").iterdir():
        one, other = (files.read_arrays(where / "trials" / folder.name / "outputs.npz") for where in (alone, out))
        for name, expected in one.items():
            if expected.dtype.kind == "f":
                assert other[name] == pytest.approx(expected, abs=1e-4)
            else:
                assert other[name].tolist() == expected.tolist()
    assert not list((out / "trials").glob("*/checkpoint.npz"))


def maps(process: int) -> bytes:
    """The memory maps of the driver, the last in the chain of this process's children."""
    while children := Path(f"/proc/{process}/task/{process}/children").read_text().split():
        process = int(children[0])
    return Path(f"/proc/{process}/maps").read_bytes()


# Calls arbitrary functions, so that outcomes can be tested without training.
DRIVER = """
import json, operator, os, sys, time
from functools import partial
from pathlib import Path
from rich.console import Console
from aiderm_core.bundle.store import sha256_file
from aiderm_compute.ray_executor import ray_nodes
from aiderm_compute.executor import Call
from aiderm_core.files import locked
from aiderm_trainer.study.requirements import Requirements, find_missing, packages

address, folder, calls, waits = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4] == "wait"
functions = {"add": operator.add, "divide": operator.truediv, "die": os._exit, "sleep": time.sleep}
image, lock = folder / "data" / "image", folder / "study" / ".lock"
with locked(lock), ray_nodes(address, 4, 0, Console(width=1000)) as executor:
    executor.check(partial(find_missing, Requirements(lock, {image: sha256_file(image)}, packages())))
    (folder / "checked").touch()
    while waits and not (folder / "go").exists():
        time.sleep(0.05)
    for done in executor.run([Call(name, functions[function], tuple(arguments), 1) for name, function, *arguments in calls]):
        print("done", json.dumps([done.name, done.value, done.error, done.node]), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "image").write_bytes(b"pixels")
    return tmp_path


def driver(cluster: RayCluster, folder: Path, calls: list[list[Any]], waits: bool = False) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", DRIVER, cluster.address, folder, json.dumps(calls), "wait" if waits else ""]
    return cluster.start(program)


def done(said: str) -> dict[str, tuple[Any, str | None, str | None]]:
    """The outcome of each call by its name: value, error and node."""
    found = [json.loads(line.removeprefix("done ")) for line in said.splitlines() if line.startswith("done ")]
    assert len(found) == len({name for name, *_ in found}), "a call that is told twice"
    return {name: (value, error, node) for name, value, error, node in found}


def test_a_call_that_fails_or_dies_leaves_the_others(cluster: RayCluster, folder: Path) -> None:
    process = driver(cluster, folder, [["dies", "die", 1], ["wrong", "divide", 1, 0], *([str(n), "add", n, 1] for n in range(4))])
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    found = done(said)
    assert {name: value for name, (value, error, _) in found.items() if error is None} == {str(n): n + 1 for n in range(4)}
    assert found["wrong"][1] == "ZeroDivisionError: division by zero"
    assert str(found["dies"][1]).startswith("its process died 4 times")
    assert said.count("again: dies") == 3
    assert {node for _, _, node in found.values()} - {None} <= {node.address for node in cluster.nodes[1:] if node.alive}


def test_a_node_that_lacks_something_is_refused_before_and_left_out_when_it_joins_later(
    cluster: RayCluster, folder: Path
) -> None:
    process = driver(cluster, folder, [[str(n), "sleep", 0.5] for n in range(8)], waits=True)
    eventually(lambda: (folder / "checked").exists() or process.poll() is not None, 30, "nodes that were asked")
    joined = cluster.add(hidden=folder / "data")
    try:
        (folder / "go").touch()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert {name: error for name, (_, error, _) in done(said).items()} == dict.fromkeys(map(str, range(8)))
        assert said.count(f"node {joined.address} is not used: {folder}/data/image: No such file or directory") == 1

        process = driver(cluster, folder, [])
        said, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        assert f"node {joined.address}: {folder}/data/image: No such file or directory" in said
    finally:
        cluster.kill(joined.number)


def test_more_than_any_node_has_is_refused(cluster: RayCluster, command: list[str], tmp_path: Path) -> None:
    said = cluster.run([*command, "--out", tmp_path / "out", "--cluster", "auto", "--threads", "2"], check=False)
    assert "no node has room for a trial of 2 threads" in said
    assert "Traceback" not in said


CONNECT = """
import sys
import ray
from aiderm_compute.ray_cluster import ClusterError, connect, nodes, on_every_node
{before}
try:
    with connect(sys.argv[1]):
        print("connected", len(nodes()))
except ClusterError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("address", "before", "outside", "expected"),
    [
        ("{address}", "ray.__version__ = '1.0'", False, "1.0"),
        ("{client}", "ray.__version__ = '1.0'", True, "1.0"),
        ("{address}", "", True, "ray://"),  # on a machine without a node
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_a_sentence(
    cluster: RayCluster, address: str, before: str, outside: bool, expected: str
) -> None:
    there = address.format(address=cluster.address, client=cluster.client)
    said = cluster.run([sys.executable, "-c", CONNECT.format(before=before), there], outside=outside)
    assert said.startswith("refused: "), said
    assert expected in said
    assert len(said.splitlines()) == 1
