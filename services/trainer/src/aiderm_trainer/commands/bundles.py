"""Commands that write, evaluate and promote bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aiderm_core.bundle.manifest import Label
from aiderm_core.bundle.store import ModelStore, verify
from aiderm_trainer.commands.common import (
    Bundle,
    DataRoot,
    Licence,
    Models,
    NewVersion,
    NotLesions,
    RunData,
    Sensitivity,
    console,
    numbers,
    plain_errors,
    suggest,
    warn,
)
from aiderm_trainer.commands.report_options import with_options, with_report_options


@dataclass(frozen=True)
class ExportOptions:
    """The options from which ``export`` and ``ensemble`` make a bundle, besides the runs."""

    name: str
    version: str
    models: Path
    data: Path | None
    licence: str
    not_lesions: Path | None
    sensitivity: float
    upright: bool

    def root(self, run: Path) -> Path:
        """Folder of the images: the one given as an option, or else the one used by the run."""
        from aiderm_trainer.training.run_folder import read_data_root

        return self.data or read_data_root(run)

    def export(self, runs: Sequence[Path], weights: Sequence[float] | None, request: Any) -> Path:
        """Writes the bundle of these runs and returns its folder."""
        from aiderm_trainer.export.bundle import Task, export_runs

        root = self.root(runs[0])
        task = Task(
            self.name, self.version, root, self.licence, self.not_lesions, self.sensitivity, weights, self.upright, request
        )  # fmt: skip
        return export_runs(runs, ModelStore(self.models), task)


def _export_options(
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[str, typer.Option(help="Version to write; the model must not have it yet.")],
    models: Models = Path("models"),
    data: RunData = None,
    licence: Licence = "not stated; see the sources",
    not_lesions: NotLesions = None,
    sensitivity: Sensitivity = 0.95,
    upright: Annotated[
        bool,
        typer.Option(
            "--upright", help="Turn each image into one orientation instead of averaging over eight: an eighth of the work."
        ),
    ] = False,
) -> ExportOptions:
    return ExportOptions(name, version, models, data, licence, not_lesions, sensitivity, upright)


@with_report_options
@with_options(_export_options, "target")
def export(
    runs: Annotated[list[Path], typer.Argument(help="Folder of a run; several runs are averaged.")],
    weights: Annotated[
        str | None, typer.Option(help="Weight of each run in the average, separated by commas.", show_default="equal")
    ] = None,
    target: Any = None,
    request: Any = None,
) -> None:
    """Calibrates a run or an ensemble, writes it as one SavedModel, evaluates that, and writes the bundle."""
    with plain_errors():
        bundle = target.export(runs, None if weights is None else numbers("--weights", weights), request)
    _announce(bundle)


@with_report_options
@with_options(_export_options, "target")
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs that were trained on one split.")],
    max_megabytes: Annotated[float, typer.Option(min=1, help="Largest size of all members' weights together.")] = 60.0,
    rounds: Annotated[int, typer.Option(min=1, help="Most rounds of selection; a run may be taken more than once.")] = 30,
    target: Any = None,
    request: Any = None,
) -> None:
    """Chooses runs by greedy selection on their validation rows and exports their average as one SavedModel."""
    from aiderm_trainer.study.ensemble import choose

    with plain_errors():
        members, weights = choose(runs, target.root(runs[0]), max_megabytes=max_megabytes, rounds=rounds, console=console)
        bundle = target.export(members, weights, request)
    _announce(bundle)


@with_report_options
def evaluate(
    bundle: Bundle,
    split: Annotated[
        Path | None, typer.Option(help="SPLIT.csv of the images; without it, all images in --data are scored.")
    ] = None,
    data: DataRoot = Path("data"),
    side: Annotated[str, typer.Option(help="With --split: the side to score: test, validation or calibration.")] = "test",
    runtime: Annotated[str, typer.Option(help="Runtime: openvino or tensorflow.")] = "openvino",
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, report.json and the plots.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="With --out: also write the worst errors as images.")] = False,
    request: Any = None,
) -> None:
    """Evaluates a bundle on labelled images: one side of a split, or a whole table or folder."""
    from aiderm_core.runtime import load_runtime
    from aiderm_trainer.evaluation.cohorts import main_split
    from aiderm_trainer.evaluation.evaluate import evaluate_scores, write_report
    from aiderm_trainer.evaluation.findings import METRICS_ONLY, NO_FINDINGS, investigate
    from aiderm_trainer.evaluation.scores import score_bundle
    from aiderm_trainer.evaluation.worst_errors import write_pictures
    from aiderm_trainer.reporting.terminal import report_tables

    with plain_errors():
        if pictures and out is None:
            raise ValueError("--pictures needs --out: a folder to write them to")
        manifest = verify(bundle)
        rows, root = _side_rows(split, data, side) if split else _all_rows(data, manifest.labels)
        loaded = load_runtime(runtime, bundle)
        scores = score_bundle(loaded, manifest.input, rows, root)
        looked = out is not None or request != METRICS_ONLY
        findings = investigate(loaded, scores, root, manifest, request) if looked else NO_FINDINGS
        metrics = evaluate_scores(scores, manifest) if out is None else write_report(out, scores, manifest, findings=findings)
        shown = write_pictures(out, scores, manifest, root) if out is not None and pictures else []
    for table in report_tables(metrics, findings, main_split(list(metrics))):
        console.print(table)
    if shown:
        warn(
            f"{', '.join(str(path) for path in shown)} show images of the data set. Do not publish or commit them: they belong "
            "to the owners of the data.",
            style="yellow",
        )
    suggest(f"promote {manifest.name} {manifest.version}")


def recalibrate(
    bundle: Bundle,
    version: NewVersion,
    data: Annotated[Path | None, typer.Option(help="A table or folder of labelled images of the site.")] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of malignant lesions that the probabilities assume; no decision changes.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="With --data: sensitivity that the threshold must reach.", show_default="as before")
    ] = None,
) -> None:
    """Writes a new version with temperature, threshold and band fitted to a site's own images, or for another prevalence."""
    from aiderm_trainer.export.prevalence import correct_prior
    from aiderm_trainer.export.recalibration import recalibrate as fit

    with plain_errors():
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
    _announce(written)


def learning_curve(
    bundle: Annotated[Path, typer.Argument(help="A bundle: models/NAME/VERSION, whose threshold is the starting point.")],
    out: Annotated[Path, typer.Option(help="JSON file to write; evaluate and export include it with --learning-curve.")],
    scores: Annotated[
        Path | None,
        typer.Option(help="CSV table: domain, group, malignant, malignancy by a model trained without the domain."),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="Instead of --scores: a finished `compare --folds domain`; its first recipe is used."),
    ] = None,
) -> None:
    """Measures how many labelled images of a new site `recalibrate` needs, on domains that were left out in training."""
    from pydantic import TypeAdapter

    from aiderm_core.files import write_text
    from aiderm_trainer.evaluation import learning_curve as curve
    from aiderm_trainer.evaluation.findings import Findings
    from aiderm_trainer.export.recalibration import recalibration_fit
    from aiderm_trainer.reporting import tables
    from aiderm_trainer.reporting.terminal import terminal_table

    with plain_errors():
        rule = verify(bundle).decision
        fit = recalibration_fit(rule.target_sensitivity)
        if (scores is None) == (study is None):
            raise ValueError("give either --scores or --study")
        if study is not None:
            from aiderm_trainer.study.left_out import domain_scores

            left_out = domain_scores(study, fit)
        else:
            left_out = [(each, rule.threshold) for each in curve.read_domain_scores(scores)] if scores else []
        points = [point for each, threshold in left_out for point in curve.learning_curve(each, threshold, fit)]
        write_text(out, TypeAdapter(list[curve.CurvePoint]).dump_json(points, indent=1).decode() + "\n")
    if (shown := tables.learning_curve(Findings(learning_curve=points))) is not None:
        console.print(terminal_table(shown))
    console.print(f"wrote {out}")
    suggest(f"evaluate {bundle} --learning-curve {out}")


def quantise(
    bundle: Bundle,
    split: Annotated[Path, typer.Option(help="SPLIT.csv of the training; calibration and validation rows are used.")],
    version: NewVersion,
    data: DataRoot = Path("data"),
    precision: Annotated[list[str] | None, typer.Option(help="bf16 or int8; may be repeated.", show_default="both")] = None,
) -> None:
    """Writes a new version with variants of reduced precision. A variant that costs too much accuracy is left out."""
    from aiderm_trainer.data.split import read_split
    from aiderm_trainer.export.precision import REDUCED, reduce_precision

    with plain_errors():
        wanted = [name for name in REDUCED if precision is None or name in precision]
        if precision is not None and len(wanted) != len(set(precision)):
            raise ValueError(f"--precision must be {' or '.join(REDUCED)}. Received: {', '.join(precision)}")
        verify(bundle)
        rows = read_split(split)
        written, trials = reduce_precision(bundle, version, ModelStore(bundle.resolve().parent.parent), rows, data, wanted)
    for trial in trials:
        if trial.variant is not None:
            console.print(f"{trial.precision}: AUC loss {trial.auc_loss:.4f}, {trial.flipped:.2%} of decisions flipped; offered")
        else:
            console.print(f"{trial.precision}: not offered: {trial.reason}", soft_wrap=True)
    if written is None:
        console.print("nothing was written")
        suggest(f"evaluate {bundle}")
        raise typer.Exit(1)
    _announce(written)


def papers(
    bundle: Bundle,
    out: Annotated[Path, typer.Option(help="Folder for the documents.")] = Path("papers"),
) -> None:
    """Writes the documents that hospitals ask for: facts label, EU AI Act skeleton, GMLP checklist, data sheet, threat model."""
    from aiderm_trainer.reporting.papers import write_papers

    with plain_errors():
        for path in write_papers(verify(bundle), out):
            console.print(str(path), soft_wrap=True)
    suggest(f"evaluate {bundle} --data FOLDER   (measures the model on your own images)")


def promote(name: str, version: str, models: Models = Path("models")) -> None:
    """Verifies a version and makes it the one that is served. Running servers load it by themselves."""
    with plain_errors():
        ModelStore(models).promote(name, version)
    console.print(f"{name} {version} is served now")
    suggest(f"rollback {name}   (undoes this)")


def rollback(name: str, models: Models = Path("models")) -> None:
    """Makes the version that was served before the last promotion the served one again."""
    with plain_errors():
        version = ModelStore(models).rollback(name)
    console.print(f"{name} {version} is served now")
    suggest(f"evaluate {models}/{name}/{version}")


def _announce(bundle: Path) -> None:
    console.print(f"wrote {bundle}")
    suggest(f"promote {bundle.parent.name} {bundle.name}")


def _side_rows(split: Path, data: Path, side: str) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.split import read_split

    sides = ("test", "validation", "calibration")
    if side not in sides:
        raise ValueError(f"--side must be one of {', '.join(sides)}. Received: {side!r}")
    return [row for row in read_split(split) if row.split == side], data


def _all_rows(data: Path, labels: list[Label]) -> tuple[list[Any], Path]:
    from aiderm_trainer.data.class_names import of_labels
    from aiderm_trainer.data.sources.index import index

    found = index(data, classify=of_labels(labels))
    for unreadable in found.unreadable:
        warn(f"{unreadable.path}: {unreadable.reason}", label="left out:", style="yellow")
    return found.rows, found.root
