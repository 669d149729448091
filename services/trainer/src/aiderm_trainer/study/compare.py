"""Runs a study: every trial once, on any executor; an interrupted study is resumed."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from aiderm_compute.executor import Call, Done, Executor
from aiderm_core import files
from aiderm_trainer.data.split import write_split
from aiderm_trainer.data.table import Row
from aiderm_trainer.study.folds import check_untouched, make_folds
from aiderm_trainer.study.plan import Plan, PlanError, rows_of, weights_file
from aiderm_trainer.study.record import OUTPUTS, RESULT, Trial, TrialResult
from aiderm_trainer.study.requirements import Requirements, find_missing, packages
from aiderm_trainer.study.results import (
    PLAN_FILE,
    TRIALS_FILE,
    Identity,
    Results,
    collect,
    read_identity,
    save,
    write_identity,
    write_trials,
)  # fmt: skip

_LOCK = ".lock"
_PROBES = 3  # images that are compared to verify that a node sees the same folder


def compare(
    plan: Plan,
    rows: Sequence[Row],
    root: Path,
    study: Path,
    *,
    executor: Executor,
    weights: Path | None = None,
    threads: int = 2,
    resume: bool = True,
    keep_weights: bool = False,
    console: Console | None = None,
) -> Results:
    """Runs the remaining trials of a study and collects the results.

    Args:
        plan: what to compare.
        rows: of SPLIT.csv, all splits; its test rows are not used.
        root: folder of the images.
        study: the study's folder: plan.json, folds/ (each a SPLIT.csv), features/, trials/ and trials.csv, and scores.npz at
            the end.
        executor: runs the trials, several at a time or on several machines.
        weights: folder of the weights files that the plan names.
        threads: per trial.
        resume: continue an existing study.
        keep_weights: keep every trial's best weights, so that one can be exported.
        console: where progress is printed.

    Raises:
        PlanError: the folder holds another study, another process is using it, or weights or rows are missing.
        LeakError: a fold leaks.
        ClusterError: a machine lacks what the study needs, or cannot be reached.
        StudyError: trials failed; the others were still run.
    """
    console = console or Console(stderr=True)
    # Absolute paths, because a trial may run in a process with another working directory.
    root, study, weights = root.absolute(), study.absolute(), weights.absolute() if weights else None
    taken = rows_of(plan, list(rows))
    folds = make_folds(taken, plan.folds, plan.inner, plan.seed)
    check_untouched(folds, rows)
    identity = _identity(plan, folds, weights)
    with _alone(study):
        _claim(study, identity, resume)
        for name, fold in folds.items():
            write_split(study / "folds" / f"{name}.csv", fold)
        trials = _trials(plan, folds, weights, threads)
        done = _finished(study, trials)
        left = [trial for trial in trials if trial.id not in done]
        console.print(f"{len(trials)} trials, {len(done)} of them finished already", highlight=False)
        if left:
            executor.check(partial(find_missing, _needs(study, root, taken, weights, identity)))
        failed = _run(left, done, trials, folds, taken, root, study, identity, executor, keep_weights, console)
        _raise_failures(failed, len(trials))
        finished = [done[trial.id] for trial in trials]
        outputs = {(t.recipe, t.fold, t.config.seed): files.read_arrays(_folder(study, t) / OUTPUTS) for t in trials}
        results = collect(identity, taken, finished, outputs)
        save(study, results)
    return results


class StudyError(ValueError):
    """Trials that could not be finished."""


def _trials(plan: Plan, folds: Iterable[str], weights: Path | None, threads: int) -> list[Trial]:
    return [
        Trial(recipe.name, recipe.frozen, fold, recipe.config(seed, weights), threads)
        for recipe in plan.recipes
        for fold in folds
        for seed in recipe.seeds
    ]


def _raise_failures(failed: Mapping[str, str], trials: int) -> None:
    if failed:
        named = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:3])
        raise StudyError(f"{len(failed)} of {trials} trials failed (the same command tries them again). First: {named}")


def _identity(plan: Plan, folds: dict[str, list[Row]], weights: Path | None) -> Identity:
    digest = hashlib.sha256()
    for name, fold in folds.items():
        for row in fold:
            digest.update(f"{name},{row.sha256},{row.path},{row.group},{row.split},{row.dx},{int(row.malignant)}\n".encode())
    sums = {}
    for recipe in plan.recipes:
        if path := weights_file(recipe.train.weights, weights):
            sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    # The location of the split does not affect any trial.
    return Identity(plan=plan.model_copy(update={"split": None}), rows=digest.hexdigest(), weights=sums)


def _needs(study: Path, root: Path, rows: Sequence[Row], weights: Path | None, identity: Identity) -> Requirements:
    probes = rows[:: max(1, len(rows) // _PROBES)][:_PROBES]
    images = {root / row.path: row.sha256 for row in probes}
    own = {weights / name: sha256 for name, sha256 in identity.weights.items()} if weights else {}
    return Requirements(study / _LOCK, images | own, packages())


def _claim(study: Path, identity: Identity, resume: bool) -> None:
    if (study / PLAN_FILE).exists():
        there = read_identity(study)
        if not resume:
            raise PlanError(f"{study} holds a study already. Resume it with --resume, or choose another --out")
        if changed := there.differences(identity):
            raise PlanError(
                f"{study} holds another study; what differs: {', '.join(changed)}. "
                "Go on with the same plan, data and weights, or choose another --out"
            )
    else:
        write_identity(study, identity)


def _folder(study: Path, trial: Trial) -> Path:
    return study / "trials" / trial.id


def _features_file(study: Path, trial: Trial, rows: Sequence[Row], identity: Identity) -> Path:
    """Path of the cached features, named after what they depend on: architecture, size, weights and images."""
    weights = identity.weights.get(Path(trial.config.weights).name, trial.config.weights)
    images = hashlib.sha256("\n".join(sorted({row.sha256 for row in rows})).encode()).hexdigest()
    return study / "features" / f"{trial.config.arch}-{trial.config.size or 'own'}-{weights[:12]}-{images[:12]}.npz"


def _finished(study: Path, trials: Sequence[Trial]) -> dict[str, TrialResult]:
    paths = {trial.id: _folder(study, trial) / RESULT for trial in trials}
    return {name: TrialResult.model_validate_json(path.read_bytes()) for name, path in paths.items() if path.exists()}


def _run(
    left: list[Trial], done: dict[str, TrialResult], trials: Sequence[Trial], folds: dict[str, list[Row]], rows: list[Row],
    root: Path, study: Path, identity: Identity, executor: Executor, keep_weights: bool, console: Console,
) -> dict[str, str]:  # fmt: skip
    """Runs the remaining trials, adds finished ones to ``done`` and trials.csv, and returns errors by trial."""
    failed: dict[str, str] = {}

    def tell_failure(trial: Trial, error: str) -> None:
        failed[trial.id] = error
        console.print(f"failed: {trial.id}: {error}", highlight=False, markup=False)

    cached = {trial.id: _features_file(study, trial, rows, identity) for trial in left if trial.frozen}
    missing = {str(cached[trial.id]): trial for trial in left if trial.frozen and not cached[trial.id].exists()}
    for trial in missing.values():
        console.print(f"features of {trial.recipe}", highlight=False)
    computing = [Call(p, _compute_features, (t.config, rows, root, Path(p), t.threads), t.threads) for p, t in missing.items()]
    lost = {ended.name: ended.error for ended in executor.run(computing) if ended.error}

    calls = {}
    for trial in left:
        path = cached.get(trial.id)
        if path and (error := lost.get(str(path))):
            tell_failure(trial, error)
        else:
            arguments = (trial, folds[trial.fold], root, _folder(study, trial), path, keep_weights)
            calls[trial.id] = (trial, Call(trial.id, _run_trial, arguments, trial.threads))
    began = time.monotonic()
    before = len(done)
    for ended in executor.run([call for _, call in calls.values()]):
        if ended.error:
            tell_failure(calls[ended.name][0], ended.error)
            continue
        done[ended.name] = ended.value
        write_trials(study / TRIALS_FILE, [done[t.id] for t in trials if t.id in done])
        _print_progress(console, ended, len(done), len(trials), (time.monotonic() - began) / (len(done) - before))
    return failed


def _print_progress(console: Console, ended: Done, done: int, total: int, each: float) -> None:
    result: TrialResult = ended.value
    console.print(
        f"{done}/{total} {result.recipe}, fold {result.fold}, seed {result.seed}: AUC {result.roc_auc:.4f}, "
        f"{result.seconds:.0f} s{f' on {ended.node}' if ended.node else ''}; about {(total - done) * each / 60:.0f} min left",
        highlight=False,
    )


@contextmanager
def _alone(study: Path) -> Iterator[None]:
    study.mkdir(parents=True, exist_ok=True)
    with (study / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlanError(f"another process is at {study}") from None
        yield


# The study's processes call these. The imports are local so that the process that hands out trials need not load TensorFlow.


def _run_trial(*arguments: Any) -> TrialResult:
    from aiderm_trainer.study.trial import run_trial

    return run_trial(*arguments)


def _compute_features(*arguments: Any) -> None:
    from aiderm_trainer.study.features import compute_features

    compute_features(*arguments)
