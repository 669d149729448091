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

from aiderm_compute.ray_cluster import ClusterError
from aiderm_core.bundle.manifest import ManifestError
from aiderm_core.bundle.store import BundleError, ModelStore
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime.cores import usable_cores
from aiderm_scorer.inputs import InputError, Listing, find
from aiderm_scorer.lists import ListError
from aiderm_scorer.local_executor import on_this_machine
from aiderm_scorer.model import Model
from aiderm_scorer.output import OutputError
from aiderm_scorer.scoring import Executor, LostError, Summary, score
from aiderm_scorer.table import DISCLAIMER
from aiderm_scorer.worker_process import WorkerProcessError

app = typer.Typer(add_completion=False)
_DEFAULTS = Limits()


_INPUT = "Image, folder, 'pattern*', list (.csv .tsv .parquet), archive (.zip .tar .tar.gz ...); a path or an address (s3://...)."


@app.command()
def main(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUT)],
    out: Annotated[Path, typer.Option(help="Parquet file to write; one that was begun is gone on with.")],
    models: Annotated[Path, typer.Option(help="Folder of the models.", envvar="AIDERM_MODELS_DIR")] = Path("models"),
    model: Annotated[str, typer.Option(help="Which model.", envvar="AIDERM_DEFAULT_MODEL")] = "melanoma",
    version: Annotated[str | None, typer.Option(help="Which version. [default: the promoted one]")] = None,
    precision: Annotated[str, typer.Option(help="A form that the model offers.", envvar="AIDERM_PRECISION")] = "f32",
    column: Annotated[str | None, typer.Option(help="Column of a list that holds the paths. [default: path, image ...]")] = None,
    root: Annotated[str | None, typer.Option(help="Folder that a list's paths are relative to. [default: the list's]")] = None,
    every_file: Annotated[bool, typer.Option("--every-file", help="Of folders and archives take files with any name.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also score again what could not be read.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; throws away what is in --out.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core, here or of the cluster]")] = None,
    cluster: Annotated[str | None, typer.Option(help="Ray cluster to use: auto, HOST:PORT or ray://HOST:PORT.")] = None,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that one image may take.")] = 60.0,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of an image's file.")] = _DEFAULTS.max_bytes,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of an image.")] = _DEFAULTS.max_pixels,
) -> None:
    """Scores every image of the inputs: decoded, measured and judged as the API does it, one row each, errors too.

    Stopped in any way, the same command goes on. Research use only; not a medical device; not a diagnosis.
    """
    console = Console(stderr=True)
    before = signal.signal(signal.SIGTERM, _stop)  # a container's end is a stop like Ctrl-C
    try:
        chosen = _model(models, model, version, precision, Limits(max_bytes, max_pixels))
        listing = find(inputs, column=column, root=root, every_file=every_file)
        summary = score(listing, chosen, out, _executor(cluster, jobs, timeout), fresh=fresh, again=again, console=console)
    except KeyboardInterrupt:
        console.print(
            f"stopped; what was scored is kept beside {out}, and the same command goes on", highlight=False, soft_wrap=True
        )
        raise typer.Exit(130) from None
    except (
        InputError,
        ListError,
        OutputError,
        BundleError,
        ManifestError,
        WorkerProcessError,
        LostError,
        ClusterError,
        OSError,
    ) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    _tell(console, listing, summary, out)


def _model(models: Path, name: str, version: str | None, precision: str, limits: Limits) -> Model:
    store = ModelStore(models)
    return Model.load(store.path(name, version or store.serving(name)), precision, limits)


def _executor(cluster: str | None, jobs: int | None, timeout: float) -> Executor:
    if cluster is None:
        return partial(on_this_machine, lanes=jobs or usable_cores(), timeout=timeout)
    from aiderm_scorer.ray_executor import on_cluster

    return partial(on_cluster, address=cluster, jobs=jobs, timeout=timeout)


def _tell(console: Console, listing: Listing, summary: Summary, out: Path) -> None:
    if summary.added:
        rate = summary.added / max(summary.seconds, 1e-9)
        console.print(f"{summary.added:,} images in {summary.seconds:,.0f} s, {rate:.1f}/s", highlight=False)
    if listing.skipped:
        console.print(f"not taken for images: {_some(listing.skipped)} (--every-file takes them)", highlight=False)
    if listing.repeated:
        console.print(f"named more than once, scored once: {listing.repeated:,}", highlight=False)
    console.print(f"decisions: {_some(summary.decisions)}", highlight=False)
    console.print(f"errors: {_some(summary.errors)}", highlight=False)
    console.print(f"wrote {out}: {summary.rows:,} rows. {DISCLAIMER}", highlight=False, soft_wrap=True)


def _some(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "none"


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    app()
