"""A store under kills, I/O errors and a full disk: nothing is lost, and no wrong or unverified model serves."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiderm_core.bundle.store import ModelStore

from .faults import KINDS, FailingDisk, Killed, Kind
from .simulation import NAME, ViolationError, memory, simulate, write_bundle

FIRST_SEED = int(os.environ.get("AIDERM_SIMULATION_SEED", "0"))
RUNS = int(os.environ.get("AIDERM_SIMULATION_RUNS", "10000"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory()) as name:
        yield Path(name)


@pytest.fixture
def store(folder: Path) -> ModelStore:
    """A store with three versions: 2 serves, and 1 served before it."""
    models = ModelStore(folder / "models")
    for version in ("1", "2", "3"):
        with models.stage(NAME, version) as staged:
            write_bundle(staged, version, f"bundle {version}")
    models.promote(NAME, "1")
    models.promote(NAME, "2")
    return models


def run(count: int) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        try:
            simulate(seed)
        except ViolationError as violation:
            pytest.fail(f"seed {seed} (replay: python -m tests.core.bundle.simulation {seed}): {violation}")


@pytest.mark.slow
def test_some_runs() -> None:
    run(10)


@pytest.mark.soak
def test_200_runs() -> None:
    run(200)


@pytest.mark.soak
def test_10000_runs() -> None:
    run(RUNS)


OPERATIONS: list[tuple[str, Callable[[ModelStore], object], str]] = [
    ("promote a third one", lambda store: store.promote(NAME, "3"), "3"),
    ("promote the previous one", lambda store: store.promote(NAME, "1"), "1"),
    ("roll back", lambda store: store.rollback(NAME), "1"),
]


def check_both_ways(store: ModelStore, after: str) -> None:
    """Asserts that the old or the new version serves, that rollback goes to the version before it, and that promotion works."""
    before = {"2": "1", after: "2"}
    serving = store.serving(NAME)
    assert serving in before
    assert store.verified(NAME, serving, promoted=True).version == serving
    assert store.rollback(NAME) == before[serving]
    assert store.rollback(NAME) == serving
    store.promote(NAME, "3")
    assert store.serving(NAME) == "3"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("operation", "after"), [entry[1:] for entry in OPERATIONS], ids=[entry[0] for entry in OPERATIONS])
def test_a_fault_at_every_call(folder: Path, store: ModelStore, operation: Callable[..., object], after: str, kind: Kind) -> None:
    outcomes = set()
    for at in range(1, 1000):
        copy = ModelStore(Path(shutil.copytree(store.root, folder / "copy")))
        disk = FailingDisk(kind, at)
        with disk.active():
            try:
                operation(copy)
            except Exception as error:
                outcomes.add(type(error).__name__)
        if disk.calls < at:
            break
        outcomes.add(copy.serving(NAME))
        check_both_ways(copy, after)
        shutil.rmtree(copy.root)
    assert {"2", after} <= outcomes, "faults came before and after the change"
    assert at > 20


@pytest.mark.ci
@pytest.mark.parametrize(("operation", "after"), [entry[1:] for entry in OPERATIONS], ids=[entry[0] for entry in OPERATIONS])
def test_a_real_kill_at_every_call(folder: Path, store: ModelStore, operation: Callable[..., object], after: str) -> None:
    kills = 0
    while True:
        copy = ModelStore(Path(shutil.copytree(store.root, folder / "copy")))
        child = os.fork()
        if child == 0:
            disk = FailingDisk("kill", kills + 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
            with disk.active():
                operation(copy)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check_both_ways(copy, after)
        shutil.rmtree(copy.root)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        kills += 1
    assert kills > 20


def test_a_dead_process_does_nothing_more(folder: Path) -> None:
    disk = FailingDisk("kill", 3)
    with disk.active():
        try:
            (folder / "first").mkdir()
            (folder / "second").mkdir()
            (folder / "third").mkdir()
        except Killed:
            with pytest.raises(Killed):
                (folder / "first").rmdir()
    assert disk.dead
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]
