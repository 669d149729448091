"""Commands that compare recipes and report on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiderm_trainer.commands.common import DataRoot, console, plain_errors, suggest

if TYPE_CHECKING:
    from aiderm_compute.executor import Executor


def compare(
    out: Annotated[Path, typer.Option(help="Folder of the study; one that was stopped is gone on with.")],
    split: Annotated[Path | None, typer.Option(help="SPLIT.csv; its test rows never enter. Default: the plan's.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="PLAN.toml: recipes, folds, seeds. Or name architectures with --arch.")
    ] = None,
    data: DataRoot = Path("data"),
    arch: Annotated[list[str] | None, typer.Option(help="Architecture to compare; repeat it.")] = None,
    weights: Annotated[str, typer.Option(help="With --arch: imagenet, none, or a file; the custom CNN has none.")] = "imagenet",
    frozen: Annotated[bool, typer.Option(help="With --arch: train the head alone, on features computed once.")] = False,
    size: Annotated[int | None, typer.Option(help="With --arch: side of the input in pixels.")] = None,
    batch: Annotated[int, typer.Option(help="With --arch: images a step.")] = 32,
    folds: Annotated[
        str | None, typer.Option(help="Number of folds, or source or domain: each left out once. [default: 5]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each recipe. [default: the plan's, or 1]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each recipe. [default: the plan's, or 12]")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only about so many images: a rehearsal.")] = None,
    weights_folder: Annotated[
        Path | None, typer.Option(help="Folder of the plan's weights files.", envvar="AIDERM_WEIGHTS")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. [default: 1; with --cluster: what the nodes have room for]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a trial. [default: all, shared among the jobs; with --cluster: 2]")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Train on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (docs/cluster.md).")
    ] = None,
    gpus_per_trial: Annotated[float, typer.Option(min=0, help="With --cluster: GPUs that a trial takes.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with a study that is in --out.")] = True,
    keep_weights: Annotated[bool, typer.Option(help="Keep each trial's weights.")] = False,
) -> None:
    """Compares architectures x folds x seeds: resumable, with intervals and paired tests that say which differences are real."""
    from aiderm_trainer.data.split import read_split

    with plain_errors():
        if (plan is None) == (not arch):
            raise ValueError(f"compare takes --plan or --arch, one of them. Received: {'both' if plan else 'neither'}")
        from aiderm_trainer.study.plan import Plan, plan_of_architectures

        folder = weights_folder
        if plan is not None:
            chosen = Plan.read(plan)
        else:
            chosen, folder = plan_of_architectures(arch or [], weights, folder, frozen=frozen, size=size, batch=batch)
        chosen = chosen.change(folds=folds, seeds=seeds, epochs=epochs, rows=rows)
        table = split or (plan.parent / chosen.split if plan and chosen.split else None)
        if table is None:
            raise ValueError("compare needs --split SPLIT.csv, or a plan that names one")
        if gpus_per_trial and cluster is None:
            raise ValueError(f"--gpus-per-trial needs --cluster. Received: --gpus-per-trial {gpus_per_trial:g} alone")
        from aiderm_trainer.reporting.study import write_report
        from aiderm_trainer.study.compare import compare as run

        with _executor(cluster, jobs, threads, gpus_per_trial) as (executor, own):
            results = run(
                chosen, read_split(table), data, out, executor=executor, weights=folder, threads=own, resume=resume,
                keep_weights=keep_weights, console=console,
            )  # fmt: skip
        report = write_report(out, out / "study.md", results)
    console.print(report.terminal)
    console.print(f"wrote {out / 'study.md'}")
    suggest(f"study-report FOLDER --study {out}")


@contextmanager
def _executor(cluster: str | None, jobs: int | None, threads: int | None, gpus: float) -> Iterator[tuple[Executor, int]]:
    """Who does the trials, and the threads of each."""
    if cluster is None:
        from aiderm_compute.executor import local_processes

        jobs = jobs or 1
        with local_processes(jobs) as processes:
            yield processes, threads or max(1, (os.cpu_count() or 1) // jobs)
    else:
        from aiderm_compute.ray_executor import THREADS, ray_nodes

        with ray_nodes(cluster, jobs, gpus, console) as nodes:
            yield nodes, threads or THREADS


def study_report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of results: plan.json, trials.csv, scores.npz; sources/ and domains/ beside them.")
    ],
    study: Annotated[Path | None, typer.Option(help="A finished study, whose results are copied there first.")] = None,
    sources: Annotated[Path | None, typer.Option(help="A finished study that leaves sources out; copied to sources/.")] = None,
    domains: Annotated[Path | None, typer.Option(help="A finished study that leaves domains out; copied to domains/.")] = None,
) -> None:
    """Writes FOLDER.md and plots from the results in FOLDER alone."""
    from aiderm_trainer.reporting.study import publish, write_report

    with plain_errors():
        if study:
            publish(study, folder)
        if sources:
            publish(sources, folder / "sources")
        if domains:
            publish(domains, folder / "domains")
        write_report(folder, folder.with_suffix(".md"))
    console.print(f"wrote {folder.with_suffix('.md')}")
    suggest("train --help   (with the recipe that won)")
