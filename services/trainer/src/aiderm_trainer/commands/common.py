"""Defines options that several commands share, and reports errors in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from aiderm_core.bundle.store import BundleError
from aiderm_core.imaging.errors import ImageError

# No markup: file names and messages may hold brackets, such as those of pip install 'aiderm-trainer[int8]'.
console = Console(highlight=False, markup=False)

Models = Annotated[Path, typer.Option(help="Folder of the bundles.")]
Bundle = Annotated[Path, typer.Argument(help="A bundle: models/NAME/VERSION.")]
NewVersion = Annotated[str, typer.Option("--version", help="Version to write, in the same model.")]
DataRoot = Annotated[Path, typer.Option("--data", help="Folder that the split's paths are relative to.", envvar="AIDERM_DATA")]
RunData = Annotated[Path | None, typer.Option(help="Folder of the images.", show_default="the folder that was used in training")]
Licence = Annotated[str, typer.Option(help="Licence of the training data, for the manifest and the model card.")]
NotLesions = Annotated[Path | None, typer.Option(help="Folder of images that show no lesion, to set the novelty limit with.")]
Sensitivity = Annotated[float, typer.Option(help="Sensitivity that the threshold must reach.")]
SplitTable = Annotated[Path, typer.Option("--split", help="SPLIT.csv, as `aiderm-train prepare` writes it.")]
RunFolder = Annotated[Path, typer.Option("--out", help="Folder to write the run to.")]
FreezeUntil = Annotated[
    str | None,
    typer.Option(help="First layer to train, or the fraction of layers to freeze.", show_default="depends on the architecture"),
]
InputSize = Annotated[
    int | None, typer.Option("--size", help="Side of the input in pixels.", show_default="depends on the architecture")
]
Outlines = Annotated[
    str | None,
    typer.Option(help="Folder of lesion outlines in --data: some lesions are painted over or moved to other skin in training."),
]
DomainOffset = Annotated[
    float,
    typer.Option(min=0, help="How much of a camera's own log-odds is added in training, so that the camera teaches nothing."),
]
StyleSwap = Annotated[float, typer.Option(min=0, max=1, help="Share of training images shown in another camera's colours.")]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="Images per step.")]


def suggest(command: str) -> None:
    """Names the command that usually comes next."""
    console.print(f"Next: aiderm-train {command}", soft_wrap=True)


def warn(text: str, *, label: str = "", style: str = "red") -> None:
    """Writes a line to standard error, after a coloured label such as "error:"."""
    line = Text.assemble((f"{label} ", style), text) if label else Text(text, style)
    Console(stderr=True).print(line, soft_wrap=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Reports expected failures in one sentence, without a traceback."""
    try:
        yield
    except (ValueError, BundleError, ImageError, OSError) as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        warn(str(error), label="error:")
        raise typer.Exit(2) from error


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Parses comma-separated numbers.

    Raises:
        ValueError: the text is not numbers; the message names the option and the text.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers, comma separated. Received: {text!r}") from None
