"""Commands that train networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from aiderm_trainer.commands.common import (
    BatchSize,
    DataRoot,
    DomainOffset,
    FreezeUntil,
    InputSize,
    Outlines,
    RunData,
    RunFolder,
    Seed,
    SplitTable,
    StyleSwap,
    console,
    plain_errors,
    suggest,
)

StartWeights = Annotated[str, typer.Option(help="The pretrained weights that the network was trained from.")]


def architectures() -> None:
    """Lists the networks that can be trained, with their default settings."""
    from aiderm_trainer.architectures import custom_cnn
    from aiderm_trainer.architectures.backbones import BACKBONES

    names = (Column(name, overflow="fold") for name in ("first trained layer", "depths that the head reads"))
    table = Table(Column("name", no_wrap=True), Column("parameters", justify="right"), Column("size", justify="right"), *names)
    table.add_row(custom_cnn.NAME, "", str(custom_cnn.SIZE), "all are trained", "")
    for name, spec in BACKBONES.items():
        table.add_row(name, f"{spec.millions} M", str(spec.size), spec.freeze_until, "\n".join(spec.taps))
    console.print(table)
    suggest("train --split split.csv --arch NAME --out runs/NAME")


def train(
    split: SplitTable,
    arch: Annotated[str, typer.Option(help="custom_cnn, mobilenet_v2, resnet50, ...: see `aiderm-train architectures`.")],
    out: RunFolder,
    data: DataRoot = Path("data"),
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file. custom_cnn always starts from none.")] = "imagenet",
    freeze_until: FreezeUntil = None,
    pool_depths: Annotated[
        str | None,
        typer.Option(help="Number of backbone depths that the head reads, from the deepest up, or layer names."),
    ] = None,
    size: InputSize = None,
    dense: Annotated[str, typer.Option(help="Widths of the head's dense layers, separated by commas.")] = "256",
    task: Annotated[
        str, typer.Option(help="binary (benign or malignant), classes, or auto: classes where the labels allow.")
    ] = "auto",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs over the training images at most.")] = 12,
    head_epochs: Annotated[int, typer.Option(min=0, help="Epochs that train only the head, before all others.")] = 15,
    batch: BatchSize = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-4,
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a better validation AUC.")] = 5,
    augment: Annotated[bool, typer.Option(help="Vary the training images: turns, colours, artefacts.")] = True,
    outlines: Outlines = None,
    start: Annotated[Path | None, typer.Option(help="A run whose best weights are the starting point.")] = None,
    teacher: Annotated[list[Path] | None, typer.Option(help="A run whose answers are learnt too; may be repeated.")] = None,
    balance: Annotated[
        str, typer.Option(help="Balance the labels inside each domain (camera or clinic) or each source.")
    ] = "domain",
    domain_offset: DomainOffset = 1.0,
    style_swap: StyleSwap = 0.4,
    seed: Seed = 0,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run; takes the same options.")] = False,
) -> None:
    """Trains one network. It stops early, and keeps checkpoints and TensorBoard logs in the run's folder."""
    with plain_errors():
        from aiderm_trainer.architectures.custom_cnn import NAME
        from aiderm_trainer.architectures.transfer import depths
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.training.fit import train as fit

        config = TrainConfig.of(
            arch=arch, weights="none" if arch == NAME else weights, freeze_until=freeze_until, size=size,
            taps=None if pool_depths is None else depths(arch, pool_depths), dense=_widths(dense), task=task, epochs=epochs,
            head_epochs=head_epochs, batch=batch, learning_rate=learning_rate, patience=patience, augment=augment, seed=seed,
            outlines=outlines, start=str(start) if start else None, teachers=tuple(map(str, teacher or ())), balance=balance,
            domain_offset=domain_offset, style_swap=style_swap, checkpoint_steps=checkpoint_steps,
        )  # fmt: skip
        best = fit(config, read_split(split), data, out, resume=resume)
    console.print(f"best epoch {best['epoch']}: validation AUC inside domains {best['val_auc']:.4f}, loss {best['val_loss']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def blind_head(
    split: SplitTable,
    start: Annotated[Path, typer.Option(help="The bundle, such as models/melanoma/10, or the run to start from.")],
    weights: StartWeights,
    out: RunFolder,
    data: DataRoot = Path("data"),
    outlines: Outlines = None,
    strength: Annotated[float, typer.Option(help="How strongly scores of one diagnosis are aligned between cameras.")] = 0.3,
    passes: Annotated[int, typer.Option(min=1, help="Augmented views of each training image.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs over all views.")] = 4,
    seed: Seed = 0,
) -> None:
    """Refits the head of a trained network so that its score does not tell the cameras apart."""
    with plain_errors():
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.training.blind_run import blind_run

        config = TrainConfig.of(
            arch="mobilenet_v2", weights=weights, start=str(start), outlines=outlines, epochs=1, head_epochs=epochs, seed=seed,
            learning_rate=5e-4, alignment=strength,
        )  # fmt: skip
        found = blind_run(config, read_split(split), data, start, out, passes=passes)
    console.print(f"validation AUC inside domains {found['val_auc']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def average_weights(
    tuned: Annotated[Path, typer.Argument(help="Folder of a fine-tuned run.")],
    start: Annotated[Path, typer.Option(help="The bundle or run that it started from.")],
    out: RunFolder,
    kept: Annotated[float, typer.Option(min=0, max=1, help="Share of the start's weights in the average.")] = 0.5,
) -> None:
    """Averages the weights of a fine-tuned run with those that it started from, into one network."""
    with plain_errors():
        from aiderm_trainer.training.weight_average import average_weights as average

        found = average(tuned, start, kept, out)
    console.print(", ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "epoch"))
    suggest(f"export {out} --name NAME --version 1")


def quantise_run(
    split: SplitTable,
    start: Annotated[Path, typer.Option(help="The bundle or run to quantise.")],
    weights: StartWeights,
    out: RunFolder,
    data: DataRoot = Path("data"),
    arch: Annotated[str, typer.Option(help="The architecture of --start.")] = "mobilenet_v2",
    size: InputSize = None,
    seed: Seed = 0,
) -> None:
    """Makes a run whose convolutions compute in 8-bit integers, without training it again."""
    with plain_errors():
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.training.quantised_run import quantise_run as run

        config = TrainConfig.of(arch=arch, weights=weights, start=str(start), size=size, seed=seed)
        found = run(config, read_split(split), data, out)
    console.print(", ".join(f"{name} {value:.4f}" for name, value in found.items() if name != "epoch"))
    suggest(f"export {out} --name NAME --version 1   (offers int8 if AUC and decisions hold)")


def fine_tune(
    split: SplitTable,
    start: Annotated[Path, typer.Option(help="The bundle or run whose network is the starting point.")],
    weights: StartWeights,
    out: Annotated[Path, typer.Option(help="Folder to write the run to; an interrupted run is resumed.")],
    data: DataRoot = Path("data"),
    arch: Annotated[str, typer.Option(help="The architecture of --start.")] = "mobilenet_v2",
    freeze_until: FreezeUntil = None,
    size: InputSize = None,
    outlines: Outlines = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="A bundle or run whose answers are learnt too; often --start.")
    ] = None,
    teaching: Annotated[float, typer.Option(min=0, max=1, help="Weight of the teachers against the labels.")] = 0.5,
    consistency: Annotated[float, typer.Option(min=0, help="Weight of the difference between two views of an image.")] = 1.0,
    domain_offset: DomainOffset = 1.0,
    style_swap: StyleSwap = 0.4,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-4,
    batch: BatchSize = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs over the training images, unless --minutes ends it before.")] = 6,
    minutes: Annotated[float | None, typer.Option(help="Time limit in minutes; the learning rate has fallen by then.")] = None,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between validations and checkpoints.")] = 100,
    seed: Seed = 0,
) -> None:
    """Fine-tunes a trained network so that artefacts, orientation and camera change its answer less."""
    with plain_errors():
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.training.fine_tune import fine_tune as tune

        config = TrainConfig.of(
            arch=arch, weights=weights, start=str(start), freeze_until=freeze_until, size=size, outlines=outlines, batch=batch,
            teachers=tuple(map(str, teacher or ())), teaching=teaching, consistency=consistency, domain_offset=domain_offset,
            style_swap=style_swap, learning_rate=learning_rate, epochs=epochs, minutes=minutes, average=0.99,
            checkpoint_steps=checkpoint_steps, seed=seed,
        )  # fmt: skip
        best = tune(config, read_split(split), data, out)
    console.print(f"best round {best['epoch']}: validation AUC inside domains {best['val_auc']:.4f}")
    suggest(f"export {out} --name NAME --version 1")


def outline(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; its network is not changed.")],
    masks: Annotated[Path, typer.Option(help="Folder of lesion outlines: NAME.png for each image NAME.")],
    data: RunData = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs over the outlined training images.")] = 16,
    seed: Seed = 0,
) -> None:
    """Trains a small decoder on a run's network that outlines the lesion; `export` then includes it."""
    with plain_errors():
        from aiderm_trainer.data.split import read_split
        from aiderm_trainer.training.outline import train_outline
        from aiderm_trainer.training.run_folder import SPLIT, read_data_root

        rows, root = read_split(run / SPLIT), data or read_data_root(run)
        found = train_outline(run, rows, root, masks, epochs=epochs, seed=seed)
    console.print(f"validation: Dice {found['dice']:.4f}, Jaccard {found['jaccard']:.4f}")
    suggest(f"export {run} --name NAME --version 1 --masks {masks}")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--dense must be whole numbers, comma separated. Received: {text!r}") from None
