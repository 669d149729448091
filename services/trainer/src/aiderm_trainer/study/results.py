"""Stores a study's results in plan.json, trials.csv and scores.npz, small enough to commit, without images, names or paths."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aiderm_core import files
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.plan import Plan, PlanError
from aiderm_trainer.study.record import TrialResult

PLAN_FILE = "plan.json"
TRIALS_FILE = "trials.csv"
SCORES_FILE = "scores.npz"
FILES = (PLAN_FILE, TRIALS_FILE, SCORES_FILE)
COLUMNS = tuple(TrialResult.model_fields)

Key = tuple[str, str, int]  # recipe, fold, seed


class Identity(BaseModel):
    """What identifies a study: its plan, rows and weights.

    Attributes:
        plan: as it was run.
        rows: checksum of every row's file, group, label and part in each fold.
        weights: checksum of each weights file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Plan
    rows: str
    weights: dict[str, str]

    def differences(self, other: Identity) -> list[str]:
        """Names of the fields that differ."""
        mine, theirs = self.plan.model_dump(), other.plan.model_dump()
        found = [f"plan.{name}" for name in mine if mine[name] != theirs[name]]
        return found + [name for name in ("rows", "weights") if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True)
class Part:
    """Scores of some rows.

    Attributes:
        index: of the rows in the study's table, ``[N]``.
        score: probability of malignancy, float32 ``[N]``.
    """

    index: NDArray[np.int32]
    score: NDArray[np.float32]


@dataclass(frozen=True)
class Results:
    """A study's finished trials with the scores of their held-out and inner validation rows.

    Attributes:
        identity: plan and checksums.
        trials: finished ones, in the plan's order.
        sha256: of each image, uint8 ``[N, 32]``.
        group: number of each image's group, ``[N]``.
        source: each image's source, ``[N]``.
        malignant: ``[N]``.
        counted: whether an image counts in figures of biopsied lesions: it is malignant, or may have been biopsied, ``[N]``.
        held_out: by recipe, fold and seed.
        validation: the same.
    """

    identity: Identity
    trials: tuple[TrialResult, ...]
    sha256: NDArray[np.uint8]
    group: NDArray[np.int32]
    source: NDArray[np.str_]
    malignant: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    held_out: dict[Key, Part]
    validation: dict[Key, Part]

    @property
    def plan(self) -> Plan:
        """The plan that was run."""
        return self.identity.plan

    @property
    def folds(self) -> list[str]:
        """Names of the folds, in order."""
        return list(dict.fromkeys(trial.fold for trial in sorted(self.trials, key=lambda t: (len(t.fold), t.fold))))

    def seeds(self, recipe: str) -> list[int]:
        """Seeds of a recipe whose trials are finished in every fold."""
        wanted = next((r.seeds for r in self.plan.recipes if r.name == recipe), ())
        return [seed for seed in wanted if all((recipe, fold, seed) in self.held_out for fold in self.folds)]


def collect(
    identity: Identity, rows: Sequence[Row], trials: Sequence[TrialResult], outputs: Mapping[Key, Mapping[str, Any]]
) -> Results:
    """Combines the outputs of the trials.

    Args:
        identity: of the study.
        rows: that the study uses.
        trials: finished ones.
        outputs: arrays of each trial's outputs.npz.
    """
    place = {row.path: i for i, row in enumerate(rows)}
    groups = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in rows))}
    parts: dict[str, dict[Key, Part]] = {"held_out": {}, "validation": {}}
    for key, arrays in outputs.items():
        for name, found in parts.items():
            index = np.array([place[path] for path in arrays[f"{name}_path"].tolist()], np.int32)
            found[key] = Part(index, arrays[f"{name}_malignancy"])
    return Results(
        identity,
        tuple(trials),
        np.frombuffer(bytes.fromhex("".join(row.sha256 for row in rows)), np.uint8).reshape(-1, 32),
        np.array([groups[row.group] for row in rows], np.int32),
        np.array([row.source for row in rows]),
        np.array([row.malignant for row in rows]),
        np.array([bool(row.malignant) or row.biopsied is not False for row in rows]),
        parts["held_out"],
        parts["validation"],
    )


def write_trials(path: Path, trials: Sequence[TrialResult]) -> None:
    """Writes trials.csv atomically, one row per trial."""
    files.write_rows(path, COLUMNS, (_cells(trial) for trial in trials))


def _cells(trial: TrialResult) -> dict[str, Any]:
    return {name: "" if value is None else value for name, value in trial.model_dump().items()}


def save(folder: Path, results: Results) -> None:
    """Writes plan.json, trials.csv and scores.npz."""
    keys = [(t.recipe, t.fold, t.seed) for t in results.trials]
    arrays: dict[str, Any] = {
        "sha256": results.sha256,
        "group": results.group,
        "source": results.source,
        "malignant": results.malignant,
        "counted": results.counted,
    }
    for name, parts in (("held_out", results.held_out), ("validation", results.validation)):
        arrays[f"{name}_count"] = np.array([len(parts[key].index) for key in keys], np.int32)
        arrays[f"{name}_index"] = np.concatenate([parts[key].index for key in keys])
        arrays[f"{name}_score"] = np.concatenate([parts[key].score for key in keys])
    write_identity(folder, results.identity)
    write_trials(folder / TRIALS_FILE, results.trials)
    files.write_arrays(folder / SCORES_FILE, arrays, compressed=True)


def write_identity(folder: Path, identity: Identity) -> None:
    """Writes plan.json atomically, creating its folder if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / PLAN_FILE, json.dumps(identity.model_dump(mode="json"), indent=2) + "\n")


def read_identity(folder: Path) -> Identity:
    """Reads plan.json.

    Raises:
        PlanError: it is missing or broken.
    """
    try:
        return Identity.model_validate_json((folder / PLAN_FILE).read_bytes())
    except OSError as error:
        raise PlanError(f"{folder} holds no study: cannot read {PLAN_FILE}: {error.strerror}") from error
    except ValidationError as error:
        raise PlanError(f"{folder / PLAN_FILE} is broken: {error}") from error


def load(folder: Path) -> Results:
    """Reads plan.json, trials.csv and scores.npz.

    Raises:
        PlanError: one is missing or broken, or they do not belong together.
    """
    identity = read_identity(folder)
    try:
        cells = files.read_rows(folder / TRIALS_FILE)
        trials = tuple(TrialResult.model_validate({k: v for k, v in row.items() if v != ""}) for row in cells)
        arrays = files.read_arrays(folder / SCORES_FILE)
        parts = {name: _parts(trials, arrays, name) for name in ("held_out", "validation")}
        return Results(
            identity,
            trials,
            arrays["sha256"],
            arrays["group"],
            arrays["source"],
            arrays["malignant"],
            arrays["counted"] if "counted" in arrays else np.ones(len(arrays["malignant"]), bool),
            parts["held_out"],
            parts["validation"],
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise PlanError(f"{folder} holds no finished study: {error}") from error


def _parts(trials: Sequence[TrialResult], arrays: Mapping[str, Any], name: str) -> dict[Key, Part]:
    counts = arrays[f"{name}_count"]
    if len(counts) != len(trials):
        raise ValueError(f"{TRIALS_FILE} has {len(trials)} trials, {SCORES_FILE} {len(counts)}")
    ends = np.cumsum(counts)
    return {
        (t.recipe, t.fold, t.seed): Part(arrays[f"{name}_index"][end - count : end], arrays[f"{name}_score"][end - count : end])
        for t, count, end in zip(trials, counts, ends, strict=True)
    }
