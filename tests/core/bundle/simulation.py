"""A seeded simulation of a bundle store under kills, I/O errors and a full disk, checked against a ledger of expected state.

Replay a run with ``python -m tests.core.bundle.simulation SEED``: it prints each step.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiderm_core.bundle.manifest import MANIFEST_FILE, Manifest
from aiderm_core.bundle.store import BundleError, ModelStore, seal, sha256_file

from .faults import KINDS, FailingDisk, Killed

NAME = "melanoma"
VERSIONS = ("1", "2", "3")
STEPS = 8
Tree = dict[str, bytes]


def write_bundle(folder: Path, version: str, content: str) -> None:
    """Writes a valid bundle of a few bytes that no engine can load; ``content`` is its architecture and part of its weights."""
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "weights").write_bytes(f"weights of {content}".encode() * 20)
    (folder / "golden.png").write_bytes(b"image")
    case = {"path": "golden.png", "probability": [0.5, 0.5], "malignancy": 0.5, "novelty": 0.0}
    fields: dict[str, Any] = {
        "name": NAME,
        "version": version,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "architecture": content,
        "input": {"size": 64},
        "labels": [
            {"id": "malignant", "name": "Malignant", "malignant": True},
            {"id": "benign", "name": "Benign", "malignant": False},
        ],
        "decision": {"threshold": 0.5, "target_sensitivity": 0.95, "uncertain": [0.4, 0.6]},
        "calibration": {"method": "none", "temperature": 1.0, "prevalence": 0.3, "ece_before": 0.0, "ece_after": 0.0},
        "novelty": {"limit": 1.0, "false_rejection_rate": 0.01},
        "quality": {},
        "reference": {"score": {"edges": [0.0, 1.0], "counts": [1]}, "novelty": {"edges": [0.0, 1.0], "counts": [1]}},
        "forms": [{"runtime": "openvino", "precision": "f32"}],
        "metrics": {},
        "data": {"sources": [], "fingerprint": "0" * 64, "counts": {}, "licence": "none"},
        "training": {"config": {}, "seed": 0, "revision": "none", "seconds": 0.0},
        "golden": {"cases": [case]},
        "files": {},
        "intended_use": "Tests.",
        "limitations": [],
    }
    seal(folder, Manifest.model_validate(fields))


def read_tree(folder: Path) -> Tree:
    """Returns the bytes of every file by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Ledger:
    """The state of the store as the operator knows it.

    Attributes:
        trees: by version, all valid bundles that it ever had.
        pinned: by version, the SHA-256 of the manifest with which it was first promoted.
        serving: the version that serves.
        previous: the version that served before.
    """

    trees: dict[str, list[Tree]] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)
    serving: str | None = None
    previous: str | None = None


class Simulation:
    """One run: steps chosen by the seed, most of them with a fault, and a check of the invariants after each."""

    def __init__(self, seed: int, folder: Path, tell: Callable[[str], None] = lambda text: None) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.store = ModelStore(folder / "models")
        self.ledger = Ledger()
        self.log: list[str] = []
        self._notify = tell
        self._made = 0

    def run(self) -> None:
        """Performs all steps.

        Raises:
            ViolationError: an invariant does not hold; the message lists the steps that led there.
        """
        for version in VERSIONS[:2]:
            self._stage(self.store, version, self._source(version))
        self._promote(self.store, "1")
        self.ledger.serving, self.ledger.pinned["1"] = "1", self._digest("1")
        for _ in range(STEPS):
            self.step()

    def step(self) -> None:
        """Performs one operation, with a fault if one was chosen, and the checks."""
        action = self.random.choices(["promote", "rollback", "stage", "copy", "delete", "tamper"], [6, 4, 2, 2, 1, 1])[0]
        version = self.random.choice(VERSIONS)
        operation = self._operation(action, version)
        disk = FailingDisk()
        if action != "tamper" and self.random.random() < 0.75:
            calls = self._count(operation)
            disk = FailingDisk(self.random.choice(KINDS), self.random.randint(1, calls) if calls else 0)
        self.log.append(f"{action} {version}" + (f", {disk.kind} at call {disk.at}" if disk.at else ""))
        self._notify(self.log[-1])
        sound = self.sound(version)
        target = version if action == "promote" else self.ledger.previous if action == "rollback" else None
        existed = (self.store.root / NAME / version).exists()
        failure = self._do(operation, self.store, disk)
        if action == "promote" and failure is None and not sound:
            raise self.violation("a version that is damaged, changed or missing was promoted")
        if action == "promote" and failure is not None and not disk.at and sound:
            raise self.violation(f"a sound version could not be promoted: {failure}")
        self._note(action, version, target, existed)
        self.check(target)

    def violation(self, text: str) -> ViolationError:
        """Returns an error that lists the steps that led there."""
        return ViolationError(f"{text}\n" + "\n".join(self.log))

    # Operations

    def _operation(self, action: str, version: str) -> Callable[[ModelStore], None]:
        if action == "promote":
            return lambda store: self._promote(store, version)
        if action == "rollback":
            return lambda store: self._rollback(store)
        if action == "stage":
            source = self._source(version)
            return lambda store: self._stage(store, version, source)
        if action == "copy":
            source = self._source(version)
            return lambda store: self._copy(store, version, source)
        if action == "delete":
            return lambda store: shutil.rmtree(store.root / NAME / version)
        return lambda store: self._tamper(store, version)

    def _source(self, version: str) -> Path:
        """Writes a new valid bundle outside the store."""
        self._made += 1
        source = self.folder / "elsewhere" / str(self._made)
        source.mkdir(parents=True)
        write_bundle(source, version, f"bundle {self._made}")
        self.ledger.trees.setdefault(version, []).append(read_tree(source))
        return source

    def _promote(self, store: ModelStore, version: str) -> None:
        store.promote(NAME, version)

    def _rollback(self, store: ModelStore) -> None:
        store.rollback(NAME)

    def _stage(self, store: ModelStore, version: str, source: Path) -> None:
        with store.stage(NAME, version) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)

    def _copy(self, store: ModelStore, version: str, source: Path) -> None:
        """Copies file by file, like ``cp -r``, directly to where the version is served from."""
        shutil.copytree(source, store.root / NAME / version)

    def _tamper(self, store: ModelStore, version: str) -> None:
        bundle = store.root / NAME / version
        if not (bundle / MANIFEST_FILE).is_file():
            return
        if self.random.random() < 0.5:
            path, sound = bundle / MANIFEST_FILE, self.sound(version)
            path.write_bytes(path.read_bytes().replace(b'"threshold": 0.5', b'"threshold": 0.55'))
            if sound and version not in self.ledger.pinned:  # a version that was never promoted stays valid
                self.ledger.trees[version].append(read_tree(bundle))
        else:
            with suppress(FileNotFoundError):
                path = bundle / "variables" / "weights"
                path.write_bytes(path.read_bytes()[:-1] + b"!")

    def _count(self, operation: Callable[[ModelStore], None]) -> int:
        """Counts the file-system calls of an operation by running it on a copy of the store."""
        with self._copied() as store:
            disk = FailingDisk()
            self._do(operation, store, disk)
            return disk.calls

    def _copied(self) -> Any:
        return _Copy(self.store)

    @staticmethod
    def _do(operation: Callable[[ModelStore], None], store: ModelStore, disk: FailingDisk) -> BaseException | None:
        failure: BaseException | None = None
        with disk.active():
            try:
                operation(store)
            except (BundleError, OSError, shutil.Error) as error:
                failure = error
        return Killed() if disk.dead else failure

    # The ledger

    def sound(self, version: str) -> bool:
        """Whether a version on disk is one of its complete bundles, and the promoted one if it was ever promoted."""
        folder = self.store.root / NAME / version
        if not folder.is_dir():
            return False
        found = read_tree(folder)
        pinned = self.ledger.pinned.get(version)
        same = found in self.ledger.trees.get(version, [])
        return same and (pinned is None or pinned == hashlib.sha256(found[MANIFEST_FILE]).hexdigest())

    def _digest(self, version: str) -> str:
        return sha256_file(self.store.root / NAME / version / MANIFEST_FILE)

    def _note(self, action: str, version: str, target: str | None, existed: bool) -> None:
        """Records in the ledger what the operation did, or the part of it that took effect."""
        folder = self.store.root / NAME
        if action == "stage" and not existed and not (folder / f"{version}.sha256").exists():
            self.ledger.pinned.pop(version, None)
        if target is not None and target not in self.ledger.pinned and (folder / f"{target}.sha256").exists():
            if not self.sound(target):
                raise self.violation(f"{target} got a digest and is not sound")
            self.ledger.pinned[target] = self._digest(target)
        text = (folder / "SERVING").read_text() if (folder / "SERVING").exists() else ""
        now = text.strip()
        if now != self.ledger.serving and target is not None and now == target:
            self.ledger.serving, self.ledger.previous = now, self.ledger.serving

    # Invariants

    def check(self, target: str | None) -> None:
        """Checks that nothing is lost, that no wrong or unverified model is accepted, and that promotion and rollback still work.

        Raises:
            ViolationError: one of these does not hold.
        """
        text = (self.store.root / NAME / "SERVING").read_text()
        if text != f"{self.ledger.serving}\n":
            raise self.violation(f"SERVING holds {text!r}; allowed: {self.ledger.serving} or {target}")
        for version in VERSIONS:
            self._check_version(version)
        with self._copied() as store:
            self._check_rollback(store)
        with self._copied() as store:
            for version in VERSIONS:
                if self.sound(version):
                    try:
                        store.promote(NAME, version)
                    except (BundleError, OSError) as error:
                        raise self.violation(f"{version} is sound and cannot be promoted: {error}") from error
                    if store.serving(NAME) != version:
                        raise self.violation(f"{version} was promoted and does not serve")

    def _check_version(self, version: str) -> None:
        promoted = version in self.ledger.pinned
        try:
            manifest = self.store.verified(NAME, version, promoted=True)
        except BundleError as error:
            if promoted and self.sound(version):
                raise self.violation(f"{version} was promoted, is sound, and is refused: {error}") from error
            return
        if not self.sound(version) or not promoted:
            raise self.violation(f"{version} is accepted, and is not what was verified and promoted")
        if manifest.dump().encode() != (self.store.root / NAME / version / MANIFEST_FILE).read_bytes():
            raise self.violation(f"{version} is another model than the one on the disk")

    def _check_rollback(self, store: ModelStore) -> None:
        previous, current = self.ledger.previous, self.ledger.serving
        if previous is None or not self.sound(previous):
            return
        try:
            if (got := store.rollback(NAME)) != previous:
                raise self.violation(f"rollback went to {got}; before {current} served {previous}")
            if current is not None and self.sound(current) and (got := store.rollback(NAME)) != current:
                raise self.violation(f"the second rollback went to {got} and not back to {current}")
        except (BundleError, OSError) as error:
            raise self.violation(f"no rollback from {current} to {previous}: {error}") from error


class _Copy:
    """A copy of a store that is removed at the end of the block."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._folder = Path(tempfile.mkdtemp(dir=store.root.parent))

    def __enter__(self) -> ModelStore:
        return ModelStore(Path(shutil.copytree(self._store.root, self._folder / "models")))

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder)


def simulate(seed: int, tell: Callable[[str], None] = lambda text: None) -> None:
    """Runs one simulation in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="aiderm-simulation-", dir=memory()) as folder:
        Simulation(seed, Path(folder), tell).run()


def memory() -> str | None:
    """Returns a folder in memory, because no data here needs to last; None where there is no such folder."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    simulate(int(sys.argv[1]), print)
