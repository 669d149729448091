"""``aiderm-score``: archives of dermoscopic images in, a Parquet table out."""

from __future__ import annotations

import signal
from collections import Counter
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from aiderm_core import DISCLAIMER
from aiderm_core.bundle.store import BundleError, ModelStore
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime.cores import usable_cores
from aiderm_scorer.addresses import Allowed
from aiderm_scorer.inputs import HIDDEN, Listing, find
from aiderm_scorer.lesions import lesions_path
from aiderm_scorer.local_scoring import on_this_machine
from aiderm_scorer.output import PASSING
from aiderm_scorer.scoring import ChunkScorer, LostError, Summary, score
from aiderm_scorer.scoring_model import Model
from aiderm_scorer.worker_process import WorkerProcessError

app = typer.Typer(add_completion=False)
_DEFAULTS = Limits()


_INPUT = (
    "Image, folder, 'pattern*', list (.csv .tsv .parquet .txt) or archive (.zip .tar .tar.gz ...): a path or address (s3://...)."
)


@app.command()
def main(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUT)],
    out: Annotated[Path, typer.Option(help="Parquet output; an interrupted run is resumed.")],
    models: Annotated[Path, typer.Option(help="Folder of models.", envvar="AIDERM_MODELS_DIR")] = Path("models"),
    model: Annotated[str, typer.Option(help="Name of the model.", envvar="AIDERM_DEFAULT_MODEL")] = "melanoma",
    version: Annotated[str | None, typer.Option(help="Version of the model.", show_default="the promoted one")] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the variant to run: f32, bf16, int8 or auto. auto chooses as the API does: int8 where the model "
            "offers it and the processor has VNNI or AMX, else f32.",
            envvar="AIDERM_PRECISION",
        ),
    ] = "auto",
    column: Annotated[
        str | None, typer.Option(help="Column of a list that holds the paths.", show_default="path, image ...")
    ] = None,
    lesion_column: Annotated[
        str | None,
        typer.Option(help="Column of a list that names the lesion: also writes OUT.lesions.parquet, one combined answer each."),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder that a list's paths are relative to.", show_default="the list's")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Also let lists name addresses of this scheme (https) or host (https://images.example.org)."),
    ] = None,
    every_file: Annotated[
        bool, typer.Option("--every-file", help="In folders and archives, take files with any suffix.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Retry images that failed for a reason that may have passed.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard --out and start over.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes.", show_default="one per core, here or on the cluster")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Run on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds allowed per image.")] = 60.0,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest file, in bytes.")] = _DEFAULTS.max_bytes,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest image, in pixels.")] = _DEFAULTS.max_pixels,
) -> None:
    """Scores every image of the inputs as the API would, and writes one row per image, errors included.

    Run the same command again to resume an interrupted run. Research use only; not a medical device; not a diagnosis.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    before = signal.signal(signal.SIGTERM, _stop)  # stopping a container has the same effect as Ctrl-C
    try:
        chosen = _model(models, model, version, precision, Limits(max_bytes, max_pixels))
        allowed = Allowed.parse(allow or [])
        listing = find(inputs, column=column, root=root, every_file=every_file, allowed=allowed, lesion_column=lesion_column)
        summary = score(listing, chosen, out, _executor(cluster, jobs, timeout), fresh=fresh, again=again, console=console)
    except KeyboardInterrupt:
        console.print(f"stopped; finished scores are kept in {out}.parts. Run the same command to resume", soft_wrap=True)
        raise typer.Exit(130) from None
    except (BundleError, WorkerProcessError, LostError, ValueError, OSError) as error:
        console.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        raise typer.Exit(2) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    _print_summary(console, listing, summary, out)


def _model(models: Path, name: str, version: str | None, precision: str, limits: Limits) -> Model:
    store = ModelStore(models)
    chosen = version or store.serving(name)
    manifest = store.verified(name, chosen, promoted=version is None)
    return Model.load(store.path(name, chosen), precision, limits, manifest)


def _executor(cluster: str | None, jobs: int | None, timeout: float) -> ChunkScorer:
    if cluster is None:
        return partial(on_this_machine, jobs=jobs or usable_cores(), timeout=timeout)
    from aiderm_scorer.ray_scoring import on_cluster

    return partial(on_cluster, address=cluster, jobs=jobs, timeout=timeout)


def _print_summary(console: Console, listing: Listing, summary: Summary, out: Path) -> None:
    if summary.added:
        rate = summary.added / max(summary.seconds, 1e-9)
        console.print(f"{summary.added:,} images in {summary.seconds:,.0f} s, {rate:.1f}/s")
    hidden, others = listing.skipped[HIDDEN], listing.skipped - Counter({HIDDEN: listing.skipped[HIDDEN]})
    if hidden:
        console.print(f"skipped: {hidden:,} hidden files or system files (._*, __MACOSX, @eaDir)")
    if others:
        console.print(f"skipped, not images by their names: {_format_counts(others)} (--every-file includes them)")
    if listing.repeated:
        console.print(f"named more than once, scored once: {listing.repeated:,}")
    console.print(f"decisions: {_format_counts(summary.decisions)}")
    console.print(f"errors: {_format_counts(summary.errors)}")
    console.print(f"wrote {out}: {summary.rows:,} rows. {DISCLAIMER}", soft_wrap=True)
    if summary.lesions is not None:
        console.print(f"lesions: {_format_counts(summary.lesions)}; in {lesions_path(out)}", soft_wrap=True)
    if any(code in summary.errors for code in PASSING):
        console.print("next: the same command with --again retries images that could not be read")
    else:
        read = f"import pandas; print(pandas.read_parquet('{out}').decision.value_counts())"
        console.print(f'next: read the table, for instance: python -c "{read}"', soft_wrap=True)


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "none"


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    app()
