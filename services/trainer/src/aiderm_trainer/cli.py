"""``aiderm-train``: prepare, train, compare, ensemble, export, evaluate, recalibrate, promote, rollback (contract 4)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up lines tell nobody anything

import typer
from rich.console import Console
from rich.table import Column as Heading
from rich.table import Table

from aiderm_core.imaging import ImageError
from aiderm_core.manifest import Label
from aiderm_core.store import BundleError, ModelStore, verify

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Trains melanoma classifiers and writes the bundles that the API serves."
)
console = Console()

Models = Annotated[Path, typer.Option(help="Folder of the bundles.")]
DataRoot = Annotated[Path, typer.Option("--data", help="Folder that the split's paths are relative to.", envvar="AIDERM_DATA")]
RunData = Annotated[Path | None, typer.Option(help="Folder of the images, where it is another than in training.")]
Licence = Annotated[str, typer.Option(help="Licence of the training data, for manifest and card.")]
NotLesions = Annotated[Path | None, typer.Option(help="Pictures that are no lesions, to measure novelty with.")]
Sensitivity = Annotated[float, typer.Option(help="That the threshold must reach.")]
Column = Annotated[str | None, typer.Option(help="Column of the table.")]
# What a report looks into besides the metrics; the same for export, ensemble and evaluate.
Metadata = Annotated[
    Path | None, typer.Option(help="CSV table of path and age, sex, localization, collection, dx_type: subgroups.")
]
Stress = Annotated[bool, typer.Option("--stress", help="Add artefacts to the pictures and report what they change.")]
StressImages = Annotated[int | None, typer.Option(min=2, help="With --stress: at most so many, drawn by lot. [default: all]")]
Masks = Annotated[Path | None, typer.Option(help="Folder of lesion outlines NAME.png: heatmap against them, painted over.")]
CloseUps = Annotated[Path | None, typer.Option(help="Photographs of skin without a dermatoscope: how many are accepted.")]
LeftOut = Annotated[
    Path | None, typer.Option(help='JSON {"SOURCE": {"roc_auc": {"value": V, "ci95": [L, H]}}} of models trained without it.')
]


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
    positive: Annotated[
        str | None, typer.Option(help="Classes that count as malignant, comma separated; classes may then have any names.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed is another split.")] = 0,
    near_duplicates: Annotated[bool, typer.Option(help="Keep pictures of one scene on one side.")] = True,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained MobileNetV2 (a file, or imagenet) to find zoomed and turned copies with.")
    ] = None,
) -> None:
    """Indexes labelled images, finds duplicates and unreadable files, and splits them by lesion."""
    from aiderm_trainer.data import prepare as preparing

    with _plain_errors():
        report = preparing.prepare(
            data, out, path_column=path, label_column=label, malignant_column=malignant, group_column=group,
            source_column=source, positive=[name for name in (positive or "").split(",") if name.strip()], seed=seed,
            near_duplicates=near_duplicates, embed=_embedding(weights),
        )  # fmt: skip
    console.print(report)


@app.command("check-leaks")
def check_leaks(
    split: Annotated[Path, typer.Argument(help="SPLIT.csv of prepare.")],
    data: DataRoot = Path("data"),
    weights: Annotated[
        str | None, typer.Option(help="Pretrained MobileNetV2 (a file, or imagenet) to find zoomed and turned copies with.")
    ] = None,
    repair: Annotated[
        Path | None,
        typer.Option(help="A split to write without the leaks: what belongs together goes to train, if one of it was there."),
    ] = None,
) -> None:
    """Fails where a lesion, a file or a near-duplicate stands on two sides of a split; reads all images anew."""
    from aiderm_trainer.data.leaks import check_images, find_leaks, repaired
    from aiderm_trainer.data.split import read_split, write_split

    with _plain_errors():
        rows = read_split(split)
        if repair is not None:
            at = {row.path: position for position, row in enumerate(rows)}
            leaks = find_leaks(rows, data, embed=_embedding(weights))
            write_split(repair, repaired(rows, [(at[leak.first.path], at[leak.second.path]) for leak in leaks]))
            console.print(f"{len(leaks)} pair(s) stood on two sides; wrote {repair} without", soft_wrap=True)
            return
        check_images(rows, data, embed=_embedding(weights))
    console.print(f"{split}: no lesion, file or near-duplicate among {len(rows)} images stands on two sides", soft_wrap=True)


fetching = typer.Typer(no_args_is_help=True, help="Downloads images with labels from public archives.")
app.add_typer(fetching, name="fetch")


@fetching.command()
def isic(
    out: Annotated[Path, typer.Argument(help="Folder to write to; run again to go on.")],
    collection: Annotated[list[str] | None, typer.Option(help="Number or name of a collection; may be given again.")] = None,
    query: Annotated[str, typer.Option(help="In the archive's search language, such as 'age_approx:[20 TO 40]'.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Images at most.")] = None,
    licence: Annotated[str, typer.Option(help="Licences to take, comma separated.")] = "CC-0,CC-BY,CC-BY-NC",
    size: Annotated[str, typer.Option(help="thumbnail (256 pixels) or full.")] = "full",
    api: Annotated[str, typer.Option(help="Address of the API.")] = "https://api.isic-archive.com/api/v2",
    workers: Annotated[int, typer.Option(min=1, max=16, help="Downloads at once.")] = 4,
) -> None:
    """Downloads dermoscopic images of the ISIC Archive, with resume and checksums, and writes a table for prepare."""
    from aiderm_trainer.data.isic import Request, Size, fetch

    with _plain_errors():
        licences = tuple(part.strip().upper() for part in licence.split(",") if part.strip())
        request = Request(tuple(collection or ()), query, licences, cast(Size, size), limit)
        report = fetch(out, request, api=api, workers=workers)
    console.print(f"{report.rows} images in {report.table}: {report.fetched} fetched, {report.kept} there already")
    for reason, count in report.skipped.items():
        console.print(f"left out, {reason}: {count}", highlight=False)
    for isic_id, why in list(report.failed.items())[:10]:
        Console(stderr=True).print(f"[red]failed:[/red] {isic_id}: {why}", highlight=False, soft_wrap=True)
    if report.failed:
        Console(stderr=True).print(f"{len(report.failed)} failed; run the same command again to fetch them")
        raise typer.Exit(1)


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
def architectures() -> None:
    """Lists the networks that can be trained, and how each is used unless told otherwise."""
    from aiderm_trainer.architectures import custom_cnn
    from aiderm_trainer.architectures.backbones import BACKBONES

    table = Table("name", Heading("parameters", justify="right"), Heading("size", justify="right"), "trained from", "depths")
    table.add_row(custom_cnn.NAME, "", str(custom_cnn.SIZE), "the start", "")
    for name, spec in BACKBONES.items():
        table.add_row(name, f"{spec.millions} M", str(spec.size), spec.freeze_until, ", ".join(spec.taps))
    console.print(table)


@app.command()
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
    with _plain_errors():
        widths = _widths(dense)
        from aiderm_trainer.architectures.custom_cnn import NAME
        from aiderm_trainer.architectures.transfer import depths
        from aiderm_trainer.config import TrainConfig
        from aiderm_trainer.data.split import check_leaks, read_split
        from aiderm_trainer.training import train as fit

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


@app.command()
def export(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a run; of several runs, for an ensemble of them.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Version, new in that model.")],
    models: Models = Path("models"),
    data: RunData = None,
    licence: Licence = "not stated; see the sources",
    not_lesions: NotLesions = None,
    sensitivity: Sensitivity = 0.95,
    weights: Annotated[str | None, typer.Option(help="Of several runs in their mean, comma separated; alike by default.")] = None,
    metadata: Metadata = None,
    stress: Stress = False,
    stress_images: StressImages = None,
    masks: Masks = None,
    close_ups: CloseUps = None,
    left_out: LeftOut = None,
) -> None:
    """Calibrates a run or an ensemble, folds everything into one SavedModel, evaluates that, and writes the bundle."""
    from aiderm_trainer.export.bundle import export_run
    from aiderm_trainer.export.ensemble import export_ensemble
    from aiderm_trainer.training import DATA_FILE

    with _plain_errors():
        root = data or Path((runs[0] / DATA_FILE).read_text().strip())
        where = (name, version, ModelStore(models), root)
        request = _request(metadata, stress, stress_images, masks, close_ups, left_out)
        how: dict[str, Any] = {
            "licence": licence, "not_lesions": not_lesions, "target_sensitivity": sensitivity, "request": request
        }  # fmt: skip
        if len(runs) == 1 and weights is None:
            bundle = export_run(runs[0], *where, **how)
        else:
            bundle = export_ensemble(runs, *where, **how, weights=None if weights is None else _numbers("--weights", weights))
    console.print(f"wrote {bundle}; let it serve with: aiderm-train promote {name} {version}")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="models/NAME/VERSION.")],
    split: Annotated[Path | None, typer.Option(help="SPLIT.csv; the rows of one side are scored, from --data.")] = None,
    data: DataRoot = Path("data"),
    side: Annotated[str, typer.Option(help="With --split: test, validation or calibration.")] = "test",
    runtime: Annotated[str, typer.Option(help="openvino or tensorflow.")] = "openvino",
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, report.json and plots.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="With --out: the worst errors as pictures too.")] = False,
    metadata: Metadata = None,
    stress: Stress = False,
    stress_images: StressImages = None,
    masks: Masks = None,
    close_ups: CloseUps = None,
    left_out: LeftOut = None,
) -> None:
    """Scores the exported graph on labelled images: a split's test rows, or a whole table or folder of one's own."""
    from aiderm_core.runtime import load_runtime
    from aiderm_trainer.evaluation.errors import write_pictures
    from aiderm_trainer.evaluation.findings import METRICS_ONLY, NO_FINDINGS, investigate
    from aiderm_trainer.evaluation.report import evaluate_scores, write_report
    from aiderm_trainer.evaluation.scores import score_bundle
    from aiderm_trainer.evaluation.table import findings_tables, metrics_table

    with _plain_errors():
        if pictures and out is None:
            raise ValueError("--pictures needs --out: a folder to write them to")
        request = _request(metadata, stress, stress_images, masks, close_ups, left_out)
        manifest = verify(bundle)
        rows, root = _side_rows(split, data, side) if split else _all_rows(data, manifest.labels)
        loaded = load_runtime(runtime, bundle)
        scores = score_bundle(loaded, manifest.input, rows, root)
        looked = out is not None or request != METRICS_ONLY
        findings = investigate(loaded, scores, root, manifest, request) if looked else NO_FINDINGS
        metrics = evaluate_scores(scores, manifest) if out is None else write_report(out, scores, manifest, findings=findings)
        shown = write_pictures(out, scores, manifest, root) if out is not None and pictures else []
    console.print(metrics_table(metrics))
    for table in findings_tables(findings):
        console.print(table)
    if shown:
        Console(stderr=True).print(
            f"[yellow]{', '.join(str(path) for path in shown)} show pictures of the data, which belong to its owners: they are "
            "for your eyes, not for publishing or committing.[/yellow]",
            soft_wrap=True,
        )


@app.command()
def recalibrate(
    bundle: Annotated[Path, typer.Argument(help="models/NAME/VERSION.")],
    version: Annotated[str, typer.Option(help="Version to write, in the same model.")],
    data: Annotated[Path | None, typer.Option(help="A table or folder of labelled images of the site.")] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of malignant lesions that the probabilities shall assume; no decision changes.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="That the threshold must reach, with --data; as before by default.")
    ] = None,
) -> None:
    """Fits temperature, threshold and band to a site's own images, or moves them to another prevalence, as a new version."""
    from aiderm_trainer.export.prior import correct_prior
    from aiderm_trainer.export.recalibration import recalibrate as fit

    with _plain_errors():
        if (data is None) == (prevalence is None):
            both = "neither" if data is None else "both"
            raise ValueError(f"recalibrate takes --data or --prevalence, one of them. Received: {both}")
        if prevalence is not None and sensitivity is not None:
            raise ValueError("--sensitivity needs --data: with --prevalence no decision changes")
        manifest = verify(bundle)
        store = ModelStore(bundle.resolve().parent.parent)
        if prevalence is not None:
            written = correct_prior(bundle, version, store, prevalence)
        elif data is not None:
            rows, root = _all_rows(data, manifest.labels)
            written = fit(bundle, version, store, rows, root, target_sensitivity=sensitivity)
    console.print(f"wrote {written}; let it serve with: aiderm-train promote {manifest.name} {version}")


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="Folder of the study; one that was stopped is gone on with.")],
    split: Annotated[Path | None, typer.Option(help="SPLIT.csv; its test rows never enter. Default: the plan's.")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="PLAN.toml: recipes, folds, seeds. Or name architectures with --arch.")
    ] = None,
    data: DataRoot = Path("data"),
    arch: Annotated[list[str] | None, typer.Option(help="Architecture to compare; repeat it.")] = None,
    weights: Annotated[str, typer.Option(help="With --arch: imagenet, none, or a file; the custom CNN has none.")] = "imagenet",
    frozen: Annotated[bool, typer.Option(help="With --arch: train the head alone, on features computed once.")] = False,
    size: Annotated[int | None, typer.Option(help="With --arch: side of the input in pixels.")] = None,
    batch: Annotated[int, typer.Option(help="With --arch: images a step.")] = 32,
    folds: Annotated[str | None, typer.Option(help="Number of folds, or source: each source left out once. [default: 5]")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of each recipe. [default: the plan's, or 1]")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each recipe. [default: the plan's, or 12]")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only about so many images: a rehearsal.")] = None,
    weights_folder: Annotated[
        Path | None, typer.Option(help="Folder of the plan's weights files.", envvar="AIDERM_WEIGHTS")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a trial. [default: all, shared among the jobs]")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a study that is in --out.")] = True,
    keep_weights: Annotated[bool, typer.Option(help="Keep each trial's weights.")] = False,
) -> None:
    """Compares architectures x folds x seeds: resumable, with intervals and paired tests that say which differences are real."""
    from aiderm_trainer.data.split import read_split

    with _plain_errors():
        if (plan is None) == (not arch):
            raise ValueError(f"compare takes --plan or --arch, one of them. Received: {'both' if plan else 'neither'}")
        from aiderm_trainer.study.plan import Plan, plan_of_architectures

        folder = weights_folder
        if plan is not None:
            chosen = Plan.read(plan)
        else:
            chosen, folder = plan_of_architectures(arch or [], weights, folder, frozen=frozen, size=size, batch=batch)
        chosen = chosen.change(folds=folds, seeds=seeds, epochs=epochs, rows=rows)
        table = split or (plan.parent / chosen.split if plan and chosen.split else None)
        if table is None:
            raise ValueError("compare needs --split SPLIT.csv, or a plan that names one")
        from aiderm_trainer.study.compare import compare as run
        from aiderm_trainer.study.report import write_report

        results = run(
            chosen, read_split(table), data, out, weights=folder, jobs=jobs, threads=threads, resume=resume,
            keep_weights=keep_weights, console=console,
        )  # fmt: skip
        report = write_report(out, out / "study.md", results)
    console.print(report.terminal)
    console.print(f"wrote {out / 'study.md'}")


@app.command()
def study_report(
    folder: Annotated[Path, typer.Argument(help="Folder of results: plan.json, trials.csv, scores.npz; sources/ beside them.")],
    study: Annotated[Path | None, typer.Option(help="A finished study, whose results are copied there first.")] = None,
    sources: Annotated[Path | None, typer.Option(help="A finished study that leaves sources out; copied to sources/.")] = None,
) -> None:
    """Writes FOLDER.md and plots from the results in FOLDER alone."""
    from aiderm_trainer.study.report import publish, write_report

    with _plain_errors():
        if study:
            publish(study, folder)
        if sources:
            publish(sources, folder / "sources")
        write_report(folder, folder.with_suffix(".md"))
    console.print(f"wrote {folder.with_suffix('.md')}")


@app.command()
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, trained on one split.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Version, new in that model.")],
    models: Models = Path("models"),
    data: RunData = None,
    max_megabytes: Annotated[float, typer.Option(min=1, help="The members' weights together at most.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=1, help="Members to add at most, with replacement.")] = 30,
    licence: Licence = "not stated; see the sources",
    not_lesions: NotLesions = None,
    sensitivity: Sensitivity = 0.95,
    metadata: Metadata = None,
    stress: Stress = False,
    stress_images: StressImages = None,
    masks: Masks = None,
    close_ups: CloseUps = None,
    left_out: LeftOut = None,
) -> None:
    """Chooses runs by greedy selection on their validation rows and exports their average as one SavedModel."""
    from aiderm_trainer.export.ensemble import export_ensemble
    from aiderm_trainer.study.ensemble import choose
    from aiderm_trainer.training import DATA_FILE

    with _plain_errors():
        root = data or Path((runs[0] / DATA_FILE).read_text().strip())
        members, weights = choose(runs, root, max_megabytes=max_megabytes, rounds=rounds, console=console)
        bundle = export_ensemble(
            members, name, version, ModelStore(models), root, licence=licence, not_lesions=not_lesions,
            target_sensitivity=sensitivity, weights=weights,
            request=_request(metadata, stress, stress_images, masks, close_ups, left_out),
        )  # fmt: skip
    console.print(f"wrote {bundle}; let it serve with: aiderm-train promote {name} {version}")


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


def _request(
    metadata: Path | None,
    stress: bool,
    stress_images: int | None,
    masks: Path | None,
    close_ups: Path | None,
    left_out: Path | None,
) -> Any:
    from aiderm_trainer.evaluation.findings import Request

    if stress_images is not None and not stress:
        raise ValueError(f"--stress-images needs --stress. Received: --stress-images {stress_images} alone")
    return Request(metadata, stress, stress_images, masks, close_ups, left_out)


def _embedding(weights: str | None) -> Any:
    if weights is None:
        return None
    from aiderm_trainer.embedding import load_embedding

    return load_embedding(weights)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--dense must be whole numbers, comma separated. Received: {text!r}") from None


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers, comma separated. Received: {text!r}") from None


def _side_rows(split: Path, data: Path, side: str) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.split import check_leaks, read_split

    sides = ("test", "validation", "calibration")
    if side not in sides:
        raise ValueError(f"--side must be one of {', '.join(sides)}. Received: {side!r}")
    rows = read_split(split)
    check_leaks(rows)
    return [row for row in rows if row.split == side], data


def _all_rows(data: Path, labels: list[Label]) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.class_names import of_labels
    from aiderm_trainer.data.index import index

    found = index(data, classify=of_labels(labels))
    for unreadable in found.unreadable:
        Console(stderr=True).print(f"left out: {unreadable}", highlight=False)
    return found.rows, found.root


if __name__ == "__main__":
    app()
