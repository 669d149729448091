"""Runs a study: every trial once, in processes of their own, to be gone on with after any stop."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from rich.console import Console

from aiderm_trainer.data.rows import Row
from aiderm_trainer.data.split import write_split
from aiderm_trainer.study import files
from aiderm_trainer.study.folds import check_untouched, make_folds
from aiderm_trainer.study.plan import Plan, PlanError, rows_of, weights_file
from aiderm_trainer.study.record import OUTPUTS, RESULT, Trial, TrialResult
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
from aiderm_trainer.study.worker import features, run

_TRIALS_A_WORKER = 12  # then it is made anew: what TensorFlow holds on to goes with it


class StudyError(ValueError):
    """Trials that could not be finished."""


def compare(
    plan: Plan,
    rows: Sequence[Row],
    root: Path,
    study: Path,
    *,
    weights: Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    resume: bool = True,
    keep_weights: bool = False,
    console: Console | None = None,
) -> Results:
    """Runs what is left of a study, and gathers it.

    Args:
        plan: what to compare.
        rows: of SPLIT.csv, all splits; its test rows stay out.
        root: folder of the images.
        study: the study's folder: plan.json, folds/ (each a SPLIT.csv), features/, trials/ and trials.csv, and scores.npz at
            the end.
        weights: folder of the weights files that the plan names.
        jobs: trials at a time, each in a process of its own.
        threads: of each trial; the machine's by default, shared among the jobs.
        resume: go on with a study that is there already.
        keep_weights: leave every trial's best weights, to export one.
        console: where progress is told.

    Raises:
        PlanError: the folder holds another study, or somebody is at it; weights or rows are missing.
        LeakError: a fold leaks.
        StudyError: trials failed; the others are finished all the same.
    """
    console = console or Console(stderr=True)
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    taken = rows_of(plan, list(rows))
    folds = make_folds(taken, plan.folds, plan.inner, plan.seed)
    check_untouched(folds, rows)
    identity = _identity(plan, folds, weights)
    with _alone(study):
        _claim(study, identity, resume)
        for name, fold in folds.items():
            write_split(study / "folds" / f"{name}.csv", fold)
        trials = [
            Trial(recipe.name, recipe.frozen, fold, recipe.config(seed, weights), threads)
            for recipe in plan.recipes
            for fold in folds
            for seed in recipe.seeds
        ]
        done = _finished(study, trials)
        left = [trial for trial in trials if trial.id not in done]
        console.print(f"{len(trials)} trials, {len(done)} of them finished already", highlight=False)
        failed = _run(left, done, trials, folds, taken, root, study, identity, jobs, keep_weights, console)
        if failed:
            named = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:3])
            raise StudyError(f"{len(failed)} of {len(trials)} trials failed (the same command tries them again). First: {named}")
        finished = [done[trial.id] for trial in trials]
        outputs = {(t.recipe, t.fold, t.config.seed): files.read_npz(_folder(study, t) / OUTPUTS) for t in trials}
        results = collect(identity, taken, finished, outputs)
        save(study, results)
    return results


def _identity(plan: Plan, folds: dict[str, list[Row]], weights: Path | None) -> Identity:
    digest = hashlib.sha256()
    for name, fold in folds.items():
        for row in fold:
            digest.update(f"{name},{row.sha256},{row.path},{row.group},{row.split},{row.dx},{int(row.malignant)}\n".encode())
    sums = {}
    for recipe in plan.recipes:
        if path := weights_file(recipe.train.weights, weights):
            sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    # Where the split lies changes no trial.
    return Identity(plan=plan.model_copy(update={"split": None}), rows=digest.hexdigest(), weights=sums)


def _claim(study: Path, identity: Identity, resume: bool) -> None:
    if (study / PLAN_FILE).exists():
        there = read_identity(study)
        if not resume:
            raise PlanError(f"{study} holds a study already. Go on with --resume, or choose another --out")
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
    """Named after what the features depend on: architecture, size, weights and images."""
    weights = identity.weights.get(Path(trial.config.weights).name, trial.config.weights)
    images = hashlib.sha256("\n".join(sorted({row.sha256 for row in rows})).encode()).hexdigest()
    return study / "features" / f"{trial.config.arch}-{trial.config.size or 'own'}-{weights[:12]}-{images[:12]}.npz"


def _finished(study: Path, trials: Sequence[Trial]) -> dict[str, TrialResult]:
    paths = {trial.id: _folder(study, trial) / RESULT for trial in trials}
    return {name: TrialResult.model_validate_json(path.read_bytes()) for name, path in paths.items() if path.exists()}


def _run(
    left: list[Trial], done: dict[str, TrialResult], trials: Sequence[Trial], folds: dict[str, list[Row]], rows: list[Row],
    root: Path, study: Path, identity: Identity, jobs: int, keep_weights: bool, console: Console,
) -> dict[str, str]:  # fmt: skip
    """Runs the trials that are left; finished ones join ``done`` and trials.csv, and errors are returned by trial."""
    failed: dict[str, str] = {}
    began = time.monotonic()
    before = len(done)
    chunk = _TRIALS_A_WORKER * jobs
    for start in range(0, len(left), chunk):
        with _workers(jobs) as pool:
            waiting: dict[Future[TrialResult], Trial] = {}
            for trial in left[start : start + chunk]:
                cached = _features_file(study, trial, rows, identity) if trial.frozen else None
                if cached is not None and not cached.exists():
                    console.print(f"features of {trial.recipe}", highlight=False)
                    pool.submit(features, trial.config, rows, root, cached, trial.threads).result()
                arguments = (trial, folds[trial.fold], root, _folder(study, trial), cached, keep_weights)
                waiting[pool.submit(run, *arguments)] = trial
            while waiting:
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    trial = waiting.pop(future)
                    if error := future.exception():
                        if isinstance(error, BrokenProcessPool):
                            raise StudyError(
                                f"a worker process ended while {trial.recipe} was trained (killed, or out of memory). "
                                "The same command goes on"
                            ) from error
                        failed[trial.id] = f"{type(error).__name__}: {error}"
                        console.print(f"[red]failed[/red] {trial.id}: {failed[trial.id]}", highlight=False)
                        continue
                    done[trial.id] = future.result()
                    write_trials(study / TRIALS_FILE, [done[t.id] for t in trials if t.id in done])
                    _tell(console, done[trial.id], len(done), len(trials), (time.monotonic() - began) / (len(done) - before))
    return failed


def _tell(console: Console, result: TrialResult, done: int, total: int, each: float) -> None:
    console.print(
        f"{done}/{total} {result.recipe}, fold {result.fold}, seed {result.seed}: AUC {result.roc_auc:.4f}, "
        f"{result.seconds:.0f} s; about {(total - done) * each / 60:.0f} min left",
        highlight=False,
    )


@contextmanager
def _alone(study: Path) -> Iterator[None]:
    study.mkdir(parents=True, exist_ok=True)
    with (study / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlanError(f"another process is at {study}") from None
        yield


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for trials; no more is begun once the study has ended, whatever ended it."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """A study that was killed must not leave a worker behind that goes on with a trial."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            wait_for([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
