"""Options that several commands share, and errors reported in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aiderm_core.bundle.store import BundleError
from aiderm_core.imaging.errors import ImageError

console = Console()

Models = Annotated[Path, typer.Option(help="Folder of the bundles.")]
DataRoot = Annotated[Path, typer.Option("--data", help="Folder that the split's paths are relative to.", envvar="AIDERM_DATA")]
RunData = Annotated[Path | None, typer.Option(help="Folder of the images, where it is another than in training.")]
Licence = Annotated[str, typer.Option(help="Licence of the training data, for manifest and card.")]
NotLesions = Annotated[Path | None, typer.Option(help="Pictures that are no lesions, to measure novelty with.")]
Sensitivity = Annotated[float, typer.Option(help="That the threshold must reach.")]


def suggest(command: str) -> None:
    """Names the command that usually comes next."""
    console.print(f"Next: aiderm-train {command}", highlight=False, soft_wrap=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Expected failures are told in one sentence, without a traceback."""
    try:
        yield
    except (ValueError, BundleError, ImageError, OSError) as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Comma-separated numbers.

    Raises:
        ValueError: with the option and what it held.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers, comma separated. Received: {text!r}") from None
