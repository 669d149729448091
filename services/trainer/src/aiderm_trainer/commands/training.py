"""Commands that train networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from aiderm_trainer.commands.common import DataRoot, console, plain_errors, suggest


def architectures() -> None:
    """Lists the networks that can be trained, and how each is used unless told otherwise."""
    from aiderm_trainer.architectures import custom_cnn
    from aiderm_trainer.architectures.backbones import BACKBONES

    table = Table("name", Column("parameters", justify="right"), Column("size", justify="right"), "trained from", "depths")
    table.add_row(custom_cnn.NAME, "", str(custom_cnn.SIZE), "the start", "")
    for name, spec in BACKBONES.items():
        table.add_row(name, f"{spec.millions} M", str(spec.size), spec.freeze_until, ", ".join(spec.taps))
    console.print(table)
    suggest("train --split split.csv --arch NAME --out runs/NAME")


def train(
    split: Annotated[Path, typer.Option(help="SPLIT.csv of prepare.")],
    arch: Annotated[str, typer.Option(help="custom_cnn, mobilenet_v2, resnet50, ...: see `aiderm-train architectures`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: DataRoot = Path("data"),
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file; the custom CNN always starts from none.")] = "imagenet",
    freeze_until: Annotated[
        str | None, typer.Option(help="First layer that is trained, or the fraction of layers to freeze.")
    ] = None,
    pool_depths: Annotated[
        str | None, typer.Option(help="How many depths of the backbone the head reads, from the deepest, or names of its layers.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; the architecture's own by default.")] = None,
    dense: Annotated[str, typer.Option(help="Widths of the head's dense layers, comma separated.")] = "256",
    task: Annotated[str, typer.Option(help="auto, binary or classes.")] = "auto",
    epochs: int = 12,
    head_epochs: int = 15,
    batch: int = 32,
    learning_rate: float = 2e-4,
    patience: Annotated[int, typer.Option(help="Epochs without a better validation AUC before it stops.")] = 5,
    augment: bool = True,
    outlines: Annotated[
        str | None, typer.Option(help="Folder of lesion outlines in --data: some lesions are painted over or set on other skin.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="A run whose best weights are taken over.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="Runs to learn from too; may be given several times.")] = None,
    seed: int = 0,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    resume: Annotated[bool, typer.Option(help="Go on after a stop, with the same options.")] = False,
) -> None:
    """Trains one network; shows progress, stops early, keeps checkpoints and TensorBoard logs in the run's folder."""
    with plain_errors():
        widths = _widths(dense)
        from aiderm_trainer.architectures.custom_cnn import NAME
        from aiderm_trainer.architectures.transfer import depths
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import check_leaks, read_split
        from aiderm_trainer.training.fit import train as fit

        settings: dict[str, Any] = {
            "arch": arch, "weights": "none" if arch == NAME else weights, "freeze_until": freeze_until, "size": size,
            "taps": None if pool_depths is None else depths(arch, pool_depths),
            "dense": widths, "task": task, "epochs": epochs, "head_epochs": head_epochs, "batch": batch,
            "learning_rate": learning_rate, "patience": patience, "augment": augment, "seed": seed,
            "outlines": outlines, "start": str(start) if start else None,
            "teachers": [str(run) for run in teacher or ()],
            "checkpoint_steps": checkpoint_steps,
        }  # fmt: skip
        config = TrainConfig(**settings)
        rows = read_split(split)
        check_leaks(rows)
        best = fit(config, rows, data, out, resume=resume)
    console.print(f"best epoch {best['epoch']}: validation AUC inside sources {best['val_auc']:.4f}, loss {best['val_loss']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--dense must be whole numbers, comma separated. Received: {text!r}") from None
