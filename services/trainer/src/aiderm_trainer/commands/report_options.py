"""Defines a group of options that several commands share: what a report examines besides the metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from aiderm_trainer.commands.common import plain_errors


def _options(
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV table of path, age, sex, localization, collection, dx_type, domain: for subgroups."),
    ] = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="Add artefacts to the images, rotate them, and report how the answers change.")
    ] = False,
    stress_images: Annotated[
        int | None, typer.Option(min=2, help="With --stress: at most this many images, drawn at random.", show_default="all")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of lesion outlines NAME.png, for the heatmap and painted-over lesions."),
    ] = None,
    close_ups: Annotated[
        Path | None, typer.Option(help="Folder of photographs taken without a dermatoscope: reports how many are accepted.")
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(help='JSON {"DOMAIN": {"roc_auc": {"value": V, "ci95": [L, H]}}} of models trained without the domain.'),
    ] = None,
    learning_curve: Annotated[Path | None, typer.Option(help="JSON file that `aiderm-train learning-curve` wrote.")] = None,
) -> Any:
    """Returns the options as an ``evaluation.findings.FindingsRequest``.

    Raises:
        ValueError: --stress-images is given without --stress.
    """
    from aiderm_trainer.evaluation.findings import FindingsRequest

    if stress_images is not None and not stress:
        raise ValueError(f"--stress-images needs --stress. Received: --stress-images {stress_images} alone")
    return FindingsRequest(metadata, stress, stress_images, masks, close_ups, left_out, learning_curve)


def with_report_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the report's options to a command; its parameter ``request`` receives the ``FindingsRequest``."""
    return with_options(_options, "request")(command)


def with_options(options: Callable[..., Any], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the parameters of ``options`` to a command; the command's parameter ``name`` receives what ``options`` returns."""
    shared = inspect.signature(options, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters = {**{key: value for key, value in own.parameters.items() if key != name}, **shared}

        @wraps(command)
        def run(**given: Any) -> None:
            with plain_errors():
                made = options(**{key: given.pop(key) for key in shared})
            command(**given, **{name: made})

        required_first = sorted(parameters.values(), key=lambda parameter: parameter.default is not parameter.empty)
        run.__signature__ = own.replace(parameters=required_first)  # type: ignore[attr-defined]
        hints = get_type_hints(command, include_extras=True) | get_type_hints(options, include_extras=True)
        run.__annotations__ = {key: hint for key, hint in hints.items() if key not in (name, "return")}
        return run

    return decorate
