"""Commands that compare recipes and report the results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiderm_trainer.commands.common import BatchSize, Bundle, DataRoot, InputSize, SplitTable, console, plain_errors, suggest

if TYPE_CHECKING:
    from aiderm_compute.executor import Executor


def compare(
    out: Annotated[Path, typer.Option(help="Folder of the study; an interrupted study is resumed.")],
    split: Annotated[Path | None, typer.Option(help="SPLIT.csv; its test rows are not used.", show_default="the plan's")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="PLAN.toml: recipes, folds, seeds. Or name architectures with --arch.")
    ] = None,
    data: DataRoot = Path("data"),
    arch: Annotated[list[str] | None, typer.Option(help="Architecture to compare; may be repeated.")] = None,
    weights: Annotated[
        str, typer.Option(help="With --arch: imagenet, none, or a file. custom_cnn starts from none.")
    ] = "imagenet",
    frozen: Annotated[bool, typer.Option(help="With --arch: train only the head, on features that are computed once.")] = False,
    size: InputSize = None,
    batch: BatchSize = 32,
    folds: Annotated[
        str | None, typer.Option(help="Number of folds, or source or domain: leave out each once.", show_default="5")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each recipe.", show_default="the plan's, or 1")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each recipe.", show_default="the plan's, or 12")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Use only about this many images, to try a plan out.")] = None,
    weights_folder: Annotated[
        Path | None, typer.Option(help="Folder of the plan's weights files.", envvar="AIDERM_WEIGHTS")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time.", show_default="1; with --cluster: as many as the nodes can run")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads per trial.", show_default="all, shared among the jobs; with --cluster: 2")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Train on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (docs/cluster.md).")
    ] = None,
    gpus_per_trial: Annotated[float, typer.Option(min=0, help="With --cluster: GPUs per trial.")] = 0,
    resume: Annotated[bool, typer.Option(help="Resume the study in --out.")] = True,
    keep_weights: Annotated[bool, typer.Option(help="Keep each trial's weights.")] = False,
) -> None:
    """Compares architectures over folds and seeds, with intervals and paired tests that show which differences are real."""
    with plain_errors():
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.reporting.study_report import write_report
        from aiderm_trainer.study.compare import compare as run
        from aiderm_trainer.study.plan import Plan, plan_of_architectures

        if (plan is None) == (not arch):
            raise ValueError(f"compare takes --plan or --arch, one of them. Received: {'both' if plan else 'neither'}")
        if plan is not None:
            chosen, folder = Plan.read(plan), weights_folder
        else:
            chosen, folder = plan_of_architectures(arch or [], weights, weights_folder, frozen=frozen, size=size, batch=batch)
        chosen = chosen.change(folds=folds, seeds=seeds, epochs=epochs, rows=rows)
        table = read_split(split or chosen.split_beside(plan))
        with _executor(cluster, jobs, threads, gpus_per_trial) as (executor, own):
            results = run(
                chosen, table, data, out, executor=executor, weights=folder, threads=own, resume=resume,
                keep_weights=keep_weights, console=console,
            )  # fmt: skip
        report = write_report(out, out / "study.md", results)
    console.print(report.terminal)
    console.print(f"wrote {out / 'study.md'}")
    suggest(f"study-report FOLDER --study {out}")


@contextmanager
def _executor(cluster: str | None, jobs: int | None, threads: int | None, gpus: float) -> Iterator[tuple[Executor, int]]:
    """Yields the executor of the trials, and the threads per trial."""
    if gpus and cluster is None:
        raise ValueError(f"--gpus-per-trial needs --cluster. Received: --gpus-per-trial {gpus:g} alone")
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
        Path, typer.Argument(help="Folder of results: plan.json, trials.csv, scores.npz, and optionally sources/ and domains/.")
    ],
    study: Annotated[Path | None, typer.Option(help="A finished study whose results are copied to the folder first.")] = None,
    sources: Annotated[Path | None, typer.Option(help="A finished study that leaves sources out; copied to sources/.")] = None,
    domains: Annotated[Path | None, typer.Option(help="A finished study that leaves domains out; copied to domains/.")] = None,
) -> None:
    """Writes FOLDER.md and its plots from the results in FOLDER."""
    from aiderm_trainer.reporting.study_report import publish, write_report

    with plain_errors():
        if study:
            publish(study, folder)
        if sources:
            publish(sources, folder / "sources")
        if domains:
            publish(domains, folder / "domains")
        write_report(folder, folder.with_suffix(".md"))
    console.print(f"wrote {folder.with_suffix('.md')}")
    suggest("train --help   (train the recipe that won)")


def second_photograph(
    bundle: Bundle,
    split: SplitTable,
    out: Annotated[Path, typer.Option(help="JSON file to write; `study-report` includes docs/study/second_photograph.json.")],
    data: DataRoot = Path("data"),
    images: Annotated[int | None, typer.Option(min=1, help="At most this many validation lesions.", show_default="all")] = None,
) -> None:
    """Measures how many decisions a second photograph of a lesion changes, and how many when both are combined."""
    with plain_errors():
        from aiderm_core.bundle.store import verify
        from aiderm_core.files import write_text
        from aiderm_core.runtime import load_runtime
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.evaluation.bootstrap import REPLICATES, SEED
        from aiderm_trainer.evaluation.second_photograph import measure_second_photographs

        manifest = verify(bundle)
        found = measure_second_photographs(
            load_runtime("openvino", bundle), manifest, read_split(split), data, images=images, replicates=REPLICATES, seed=SEED
        )
        write_text(out, found.model_dump_json(indent=1) + "\n")
    console.print(f"wrote {out}")
    suggest(f"study-report {out.parent}")


def lesion_change(
    bundle: Bundle,
    split: SplitTable,
    masks: Annotated[Path, typer.Option(help="Folder of drawn lesion outlines NAME.png, for growth of known size.")],
    out: Annotated[Path, typer.Option(help="JSON file to write; a Markdown document is written beside it.")],
    data: DataRoot = Path("data"),
    part: Annotated[str, typer.Option(help="Rows to measure on: choose on validation, report on test.")] = "test",
    images: Annotated[int | None, typer.Option(min=1, help="At most this many lesions of each kind.", show_default="all")] = None,
) -> None:
    """Measures how well growth and change of colour between two photographs of a lesion are found, and what is not compared."""
    with plain_errors():
        from aiderm_core.bundle.store import verify
        from aiderm_core.files import write_text
        from aiderm_core.runtime import load_runtime
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.evaluation.lesion_change import measure_lesion_change
        from aiderm_trainer.reporting.lesion_change import lesion_change_document

        manifest = verify(bundle)
        found = measure_lesion_change(
            load_runtime("openvino", bundle), manifest, read_split(split), data, masks, split=part, images=images
        )
        write_text(out, found.model_dump_json(indent=1) + "\n")
        write_text(out.with_suffix(".md"), lesion_change_document(found))
    console.print(f"wrote {out} and {out.with_suffix('.md')}")
