"""Commands that train networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from aiderm_trainer.commands.common import DataRoot, console, plain_errors, suggest

StartWeights = Annotated[str, typer.Option(help="The pretrained weights that the network was trained from.")]


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
    balance: Annotated[
        str, typer.Option(help="Labels are balanced inside each: domain (camera or clinic) or source.")
    ] = "domain",
    domain_offset: Annotated[
        float,
        typer.Option(help="Share of the label's log-odds in a domain that is added in training, so that cameras teach nothing."),
    ] = 1.0,
    style_swap: Annotated[float, typer.Option(help="Share of training images shown in another domain's colours.")] = 0.4,
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
            "balance": balance, "domain_offset": domain_offset, "style_swap": style_swap,
            "checkpoint_steps": checkpoint_steps,
        }  # fmt: skip
        config = TrainConfig(**settings)
        rows = read_split(split)
        check_leaks(rows)
        best = fit(config, rows, data, out, resume=resume)
    console.print(f"best epoch {best['epoch']}: validation AUC inside domains {best['val_auc']:.4f}, loss {best['val_loss']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def blind_head(
    split: Annotated[Path, typer.Option(help="SPLIT.csv of prepare.")],
    bundle: Annotated[Path, typer.Option(help="A bundle whose network is taken over, such as models/melanoma/4.")],
    weights: StartWeights,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: DataRoot = Path("data"),
    outlines: Annotated[str | None, typer.Option(help="Folder of lesion outlines in --data.")] = None,
    strength: Annotated[float, typer.Option(help="How strongly scores of one diagnosis are aligned between cameras.")] = 0.3,
    passes: Annotated[int, typer.Option(min=1, help="Augmented views of each training image.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all views.")] = 4,
    seed: int = 0,
) -> None:
    """Refits the head of a shipped network so that its score does not tell the cameras apart."""
    with plain_errors():
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import check_leaks, read_split
        from aiderm_trainer.training.blind_run import blind_run

        rows = read_split(split)
        check_leaks(rows)
        config = TrainConfig(
            arch="mobilenet_v2", weights=weights, start=str(bundle), outlines=outlines, epochs=1, head_epochs=epochs, seed=seed,
            learning_rate=5e-4, alignment=strength,
        )  # fmt: skip
        found = blind_run(config, rows, data, bundle, out, passes=passes)
    console.print(f"validation AUC inside domains {found['val_auc']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def fine_tune(
    split: Annotated[Path, typer.Option(help="SPLIT.csv of prepare.")],
    start: Annotated[Path, typer.Option(help="A bundle, such as models/melanoma/4, or a run, whose weights are taken over.")],
    weights: StartWeights,
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run is resumed.")],
    data: DataRoot = Path("data"),
    arch: Annotated[str, typer.Option(help="The architecture of --start.")] = "mobilenet_v2",
    freeze_until: Annotated[
        str | None, typer.Option(help="First layer that is trained, or the fraction of layers to freeze.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; the architecture's own by default.")] = None,
    outlines: Annotated[str | None, typer.Option(help="Folder of lesion outlines in --data.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="Bundles or runs to learn from; usually --start.")] = None,
    teaching: Annotated[float, typer.Option(min=0, max=1, help="Weight of the teachers against the labels.")] = 0.5,
    consistency: Annotated[float, typer.Option(min=0, help="Weight of the difference of an image's two views.")] = 1.0,
    domain_offset: Annotated[float, typer.Option(min=0, help="As in train.")] = 1.0,
    style_swap: Annotated[float, typer.Option(min=0, max=1, help="As in train.")] = 0.4,
    learning_rate: float = 1e-4,
    batch: int = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training rows, unless --minutes ends it before.")] = 6,
    minutes: Annotated[float | None, typer.Option(help="Time limit in minutes; the learning rate falls to it.")] = None,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between validations and checkpoints.")] = 100,
    seed: int = 0,
) -> None:
    """Fine-tunes a trained network so that artefacts, orientation and camera change its answer less."""
    with plain_errors():
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import check_leaks, read_split
        from aiderm_trainer.training.fine_tune_run import fine_tune as tune

        rows = read_split(split)
        check_leaks(rows)
        config = TrainConfig(
            arch=arch, weights=weights, start=str(start), freeze_until=freeze_until, size=size, outlines=outlines, batch=batch,
            teachers=tuple(str(one) for one in teacher or ()), teaching=teaching, consistency=consistency,
            domain_offset=domain_offset, style_swap=style_swap, learning_rate=learning_rate, epochs=epochs, minutes=minutes,
            average=0.99, checkpoint_steps=checkpoint_steps, seed=seed,
        )  # fmt: skip
        best = tune(config, rows, data, out)
    console.print(f"best round {best['epoch']}: validation AUC inside domains {best['val_auc']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--dense must be whole numbers, comma separated. Received: {text!r}") from None
