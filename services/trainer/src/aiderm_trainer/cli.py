"""``aiderm-train``: prepare, train, export, evaluate, recalibrate, promote, rollback (contract 4)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up lines tell nobody anything

import typer
from rich.console import Console

from aiderm_core.imaging import ImageError
from aiderm_core.store import BundleError, ModelStore, verify

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Trains melanoma classifiers and writes the bundles that the API serves."
)
console = Console()

Models = Annotated[Path, typer.Option(help="Folder of the bundles.")]
DataRoot = Annotated[Path, typer.Option("--data", help="Folder that the split's paths are relative to.", envvar="AIDERM_DATA")]
Column = Annotated[str | None, typer.Option(help="Column of the table.")]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Expected failures are told in one sentence, without a traceback."""
    try:
        yield
    except (ValueError, BundleError, ImageError, OSError) as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


@app.command()
def prepare(
    data: Annotated[Path, typer.Argument(help="A folder split/class/*.jpg or class/*.jpg, or a CSV table of paths and labels.")],
    out: Annotated[Path, typer.Option(help="SPLIT.csv to write.")],
    path: Column = None,
    label: Column = None,
    malignant: Column = None,
    group: Column = None,
    source: Column = None,
    seed: Annotated[int, typer.Option(help="Another seed is another split.")] = 0,
    near_duplicates: Annotated[bool, typer.Option(help="Keep pictures of one scene on one side.")] = True,
) -> None:
    """Indexes labelled images, finds duplicates and unreadable files, and splits them by lesion."""
    from aiderm_trainer.data import prepare as preparing

    with _plain_errors():
        report = preparing.prepare(
            data, out, path_column=path, label_column=label, malignant_column=malignant, group_column=group,
            source_column=source, seed=seed, near_duplicates=near_duplicates,
        )  # fmt: skip
    console.print(report)


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    count: Annotated[int, typer.Option(min=1, help="Images.")] = 600,
    size: Annotated[int, typer.Option(min=100, max=2048, help="Side in pixels.")] = 224,
    seed: int = 0,
) -> None:
    """Draws synthetic lesions in the layout split/class/*.png, to try the trainer without data."""
    from aiderm_trainer.data.synthetic import dataset

    with _plain_errors():
        dataset(out, count, seed, size)
    console.print(f"{count} synthetic lesions in {out}")


@app.command()
def train(
    split: Annotated[Path, typer.Option(help="SPLIT.csv of prepare.")],
    arch: Annotated[str, typer.Option(help="custom_cnn, mobilenet_v2, resnet50_v2 or efficientnet_v2_b0.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: DataRoot = Path("data"),
    weights: Annotated[str, typer.Option(help="imagenet, none, or a file; the custom CNN always starts from none.")] = "imagenet",
    freeze_until: Annotated[
        str | None, typer.Option(help="First layer that is trained, or the fraction of layers to freeze.")
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
    seed: int = 0,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    resume: Annotated[bool, typer.Option(help="Go on after a stop, with the same options.")] = False,
) -> None:
    """Trains one network; shows progress, stops early, keeps checkpoints and TensorBoard logs in the run's folder."""
    with _plain_errors():
        widths = _widths(dense)
        from aiderm_trainer.architectures.custom_cnn import NAME
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import check_leaks, read_split
        from aiderm_trainer.training import train as fit

        settings: dict[str, Any] = {
            "arch": arch, "weights": "none" if arch == NAME else weights, "freeze_until": freeze_until, "size": size,
            "dense": widths, "task": task, "epochs": epochs, "head_epochs": head_epochs, "batch": batch,
            "learning_rate": learning_rate, "patience": patience, "augment": augment, "seed": seed,
            "checkpoint_steps": checkpoint_steps,
        }  # fmt: skip
        config = TrainConfig(**settings)
        rows = read_split(split)
        check_leaks(rows)
        best = fit(config, rows, data, out, resume=resume)
    console.print(f"best epoch {best['epoch']}: validation AUC inside sources {best['val_auc']:.4f}, loss {best['val_loss']:.4f}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Version, new in that model.")],
    models: Models = Path("models"),
    data: Annotated[Path | None, typer.Option(help="Folder of the images, where it is another than in training.")] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the training data, for manifest and card.")
    ] = "not stated; see the sources",
    not_lesions: Annotated[Path | None, typer.Option(help="Pictures that are no lesions, to measure novelty with.")] = None,
    sensitivity: Annotated[float, typer.Option(help="That the threshold must reach.")] = 0.95,
) -> None:
    """Calibrates a run, folds everything into one SavedModel, evaluates that, and writes the bundle."""
    from aiderm_trainer.export.bundle import export_run
    from aiderm_trainer.training import DATA_FILE

    with _plain_errors():
        root = data or Path((run / DATA_FILE).read_text().strip())
        bundle = export_run(
            run, name, version, ModelStore(models), root, licence=licence, not_lesions=not_lesions, target_sensitivity=sensitivity
        )
    console.print(f"wrote {bundle}; let it serve with: aiderm-train promote {name} {version}")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="models/NAME/VERSION.")],
    split: Annotated[Path | None, typer.Option(help="SPLIT.csv; its test rows are scored, from --data.")] = None,
    data: DataRoot = Path("data"),
    runtime: Annotated[str, typer.Option(help="openvino or tensorflow.")] = "openvino",
    out: Annotated[Path | None, typer.Option(help="Folder for report.json and plots.")] = None,
) -> None:
    """Scores the exported graph on labelled images: a split's test rows, or a whole table or folder of one's own."""
    from aiderm_core.runtime import load_runtime
    from aiderm_trainer.evaluation.report import evaluate_scores, write_report
    from aiderm_trainer.evaluation.scores import score_bundle
    from aiderm_trainer.evaluation.table import metrics_table

    with _plain_errors():
        manifest = verify(bundle)
        rows, root = _test_rows(split, data) if split else _all_rows(data)
        scores = score_bundle(load_runtime(runtime, bundle), manifest.input, rows, root)
        metrics = evaluate_scores(scores, manifest) if out is None else write_report(out, scores, manifest)
    console.print(metrics_table(metrics))


@app.command()
def recalibrate(
    bundle: Annotated[Path, typer.Argument(help="models/NAME/VERSION.")],
    data: Annotated[Path, typer.Option(help="A table or folder of labelled images of the site.")],
    version: Annotated[str, typer.Option(help="Version to write, in the same model.")],
    sensitivity: Annotated[float | None, typer.Option(help="That the threshold must reach; as before by default.")] = None,
) -> None:
    """Fits temperature, threshold and band to a site's own labelled images, as a new version."""
    from aiderm_trainer.export.recalibration import recalibrate as fit

    with _plain_errors():
        manifest = verify(bundle)
        rows, root = _all_rows(data)
        store = ModelStore(bundle.resolve().parent.parent)
        written = fit(bundle, version, store, rows, root, target_sensitivity=sensitivity)
    console.print(f"wrote {written}; let it serve with: aiderm-train promote {manifest.name} {version}")


@app.command()
def promote(name: str, version: str, models: Models = Path("models")) -> None:
    """Lets a version serve, after checking it; running servers take it over by themselves."""
    with _plain_errors():
        ModelStore(models).promote(name, version)
    console.print(f"{name} {version} serves")


@app.command()
def rollback(name: str, models: Models = Path("models")) -> None:
    """Lets the version serve again that did before the last promotion."""
    with _plain_errors():
        version = ModelStore(models).rollback(name)
    console.print(f"{name} {version} serves")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--dense must be whole numbers, comma separated. Received: {text!r}") from None


def _test_rows(split: Path, data: Path) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.split import check_leaks, read_split

    rows = read_split(split)
    check_leaks(rows)
    return [row for row in rows if row.split == "test"], data


def _all_rows(data: Path) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.index import index

    found = index(data)
    for unreadable in found.unreadable:
        Console(stderr=True).print(f"left out: {unreadable}", highlight=False)
    return found.rows, found.root


if __name__ == "__main__":
    app()
