"""Exports finished runs as a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax

from aiderm_core.bundle.manifest import MANIFEST_FILE, Data, Input, Label, Manifest, Novelty, OutlineInfo, Variant
from aiderm_core.bundle.store import ModelStore, seal
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop
from aiderm_core.quality import measurements
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.labels import BINARY, CLASS_MAP, class_index
from aiderm_trainer.data.split import fingerprint, read_split
from aiderm_trainer.data.table import DIAGNOSES, Row
from aiderm_trainer.evaluation.evaluate import write_report
from aiderm_trainer.evaluation.findings import METRICS_ONLY, Findings, FindingsRequest, investigate
from aiderm_trainer.evaluation.outline_agreement import find_outlines
from aiderm_trainer.evaluation.outline_errors import measure_errors
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export import novelty, saved_model
from aiderm_trainer.export.answer_fit import Answers, fit_answers
from aiderm_trainer.export.class_prior import fit_class_prior
from aiderm_trainer.export.golden import golden_cases
from aiderm_trainer.export.novelty_images import evaluated_close_ups, fit_novelty, photographs
from aiderm_trainer.export.orientations import VIEWS, Averaged, Upright
from aiderm_trainer.export.provenance import describe_training
from aiderm_trainer.export.runs import TrainedRun, load_members
from aiderm_trainer.export.variants import assess, golden_of
from aiderm_trainer.reporting.render import render_card
from aiderm_trainer.training.outline import load_decoder
from aiderm_trainer.training.run_folder import HISTORY, SPLIT

CARD_FILE = "MODEL_CARD.md"
REPORT_FOLDER = "report"
QUALITY_IMAGES = 3000
INTENDED_USE = (
    "Research on computer-aided reading of dermoscopic pictures of single skin lesions, taken with a dermatoscope or a phone "
    "with a dermatoscope lens. It is no medical device and gives no diagnosis; it helps a trained person to look twice, and "
    "replaces none."
)


@dataclass(frozen=True)
class Task:
    """Settings of an export.

    Attributes:
        name: name of the model.
        version: new version of that model.
        root: folder that the split's paths are relative to.
        licence: licence of the data that the model was trained on; stated in manifest and card.
        not_lesions: folder of images that show no lesion: the novelty model is fitted to one half and tested on the other.
        target_sensitivity: sensitivity that the threshold must reach.
        weights: weights of the runs' probabilities in their mean, above 0; equal when None.
        upright: whether the graph turns each image into one orientation, instead of averaging over eight.
        request: what the report examines besides the metrics.
    """

    name: str
    version: str
    root: Path
    licence: str
    not_lesions: Path | None = None
    target_sensitivity: float = 0.95
    weights: Sequence[float] | None = None
    upright: bool = False
    request: FindingsRequest = METRICS_ONLY


def export_runs(runs: Sequence[Path], store: ModelStore, task: Task) -> Path:
    """Writes one graph of a run, or of the mean of several: calibrated on ``calibration`` rows, reported on ``test`` rows.

    The API cannot tell an ensemble from a single network. Architectures and input sizes may differ: the graph takes the
    largest size and shrinks the image for the others. Novelty is computed from the first run's feature maps.

    Args:
        runs: folders of ``train`` with the same labels and split; the best epoch of each is used.
        store: store to write the bundle to.
        task: settings of the export.

    Raises:
        ConfigError: runs or weights that do not fit, or a split without the rows that export needs.
        aiderm_core.bundle.store.BundleError: the version exists, or cannot be written.
    """
    export = _Export(load_members(runs, task.weights), task)
    with store.stage(task.name, task.version) as folder:
        export.write(folder)
    return store.path(task.name, task.version)


class _Export:
    """The steps of one export.

    Args:
        members: the runs, with their networks.
        task: settings of the export.

    Raises:
        ConfigError: a split without the rows that export needs.
    """

    def __init__(self, members: Sequence[TrainedRun], task: Task) -> None:
        self.members, self.task = members, task
        self.labels = members[0].labels
        self.quantised = any(member.config.quantised for member in members)
        self.split = members[0].folder / SPLIT
        self.rows = read_split(self.split)
        self.train, self.calibration, self.test = (_rows(self.rows, side) for side in ("train", "calibration", "test"))
        networks = [member.network for member in members]
        unfitted = saved_model.Assessor(networks, self.labels, weights=task.weights)
        self.spec = Input(size=unfitted.size)
        fitted = fit_novelty(unfitted, self.train, task.root, task.not_lesions)
        self.decoder = load_decoder(members[0].folder, networks[0])
        if self.decoder is not None and unfitted.size != networks[0].size:
            raise ConfigError(
                f"the outline is drawn on the first run's input, which must be the largest. Received: {networks[0].size} and "
                f"{unfitted.size} pixels"
            )
        view = Upright if task.upright else Averaged
        self.assessor = saved_model.Assessor(networks, self.labels, fitted, task.weights, view, self.decoder)

    def write(self, folder: Path) -> None:
        """Writes graph, report, card and manifest into an empty folder."""
        saved_model.write(self.assessor, folder)
        fit, prior = self._calibrate(load_runtime("openvino", folder))
        self.assessor.temperature.assign(fit.calibration.temperature)
        self.assessor.malignant_shift.assign(fit.calibration.malignant_shift)
        saved_model.write(self.assessor, folder)
        runtime = load_runtime("openvino", folder)
        tested = score_bundle(runtime, self.spec, self.test, self.task.root)
        (folder / REPORT_FOLDER).mkdir()
        _write_split(folder / REPORT_FOLDER / SPLIT, self.rows)
        manifest = self._manifest(folder, runtime, fit, prior, self._novelty(runtime, tested, fit))
        if self.quantised and (variant := self._in_integers(folder, runtime, manifest)) is not None:
            manifest = manifest.model_copy(update={"forms": [*manifest.forms, variant]})
        findings = investigate(runtime, tested, self.task.root, manifest, self.task.request, self.train)
        # An ensemble has no single training curve, so its report shows none.
        history = _history(self.members[0].folder) if len(self.members) == 1 else []
        _finish(folder, manifest, tested, history, findings)

    def _calibrate(self, runtime: Runtime) -> tuple[Answers, dict[str, float] | None]:
        """Returns the fitted answers, and the class shares that the calibrated probabilities assume."""
        scores = score_bundle(runtime, self.spec, self.calibration, self.task.root)
        fit = fit_answers(scores, self.labels, self.task.target_sensitivity, 1.0, 0.0)
        malignant = np.array([label.malignant for label in self.labels])
        logits = np.log(np.maximum(scores.probability.astype(np.float64), 1e-12))
        calibrated = softmax(logits / fit.calibration.temperature + fit.calibration.malignant_shift * malignant, axis=1)
        return fit, fit_class_prior(calibrated, class_index(self.calibration, self.labels), self.labels)

    def _novelty(self, runtime: Runtime, tested: Scores, fit: Answers) -> Novelty:
        """The novelty limit, and how well the score separates test lesions from images that it must refuse."""
        task, found = self.task, {f"rejected {k}": v for k, v in fit.rejected.items() if k != "all"}
        close = evaluated_close_ups(self.test, task.root, self.spec.size)
        found |= _refused("simulated close-ups", runtime, close, tested.novelty, fit.novelty_limit)
        if task.not_lesions is not None:
            other = photographs(task.not_lesions, self.spec, "evaluation")
            found |= _refused("not lesions", runtime, other, tested.novelty, fit.novelty_limit)
        found["test lesions, rejected"] = float((tested.novelty > fit.novelty_limit).mean())
        return Novelty(
            limit=fit.novelty_limit,
            false_rejection_rate=fit.rejected["all"],
            method=_novelty_method(self.members[0], task.upright),
            evaluation=found,
        )

    def _in_integers(self, folder: Path, runtime: Runtime, manifest: Manifest) -> Variant | None:
        """The same graph computed in 8-bit integers; if it loses more than a variant may, prints why and returns None."""
        integers = load_runtime("openvino", folder, precision="int8")
        sides = (self.calibration, _rows(self.rows, "validation"))
        before, after = ([score_bundle(each, self.spec, side, self.task.root) for side in sides] for each in (runtime, integers))
        golden = golden_of(folder, manifest, integers, manifest.golden.tolerance)
        trial = assess("int8", ".", manifest, before, after, golden, one_rule=True)
        if trial.variant is None:
            Console(stderr=True).print(f"int8: not offered: {trial.reason}", highlight=False, soft_wrap=True)
        return trial.variant

    def _manifest(
        self, folder: Path, runtime: Runtime, fit: Answers, prior: dict[str, float] | None, novelty: Novelty
    ) -> Manifest:
        task, labels = self.task, self.labels
        names = ", ".join(member.config.arch for member in self.members)
        return Manifest(
            name=task.name,
            version=task.version,
            created_at=datetime.now(UTC).replace(microsecond=0),
            architecture=names if len(self.members) == 1 else f"ensemble of {names}",
            input=self.spec,
            labels=list(labels),
            class_map={k: v for k, v in CLASS_MAP.items() if v in {label.id for label in labels}},
            decision=fit.decision,
            calibration=fit.calibration,
            class_prior=prior,
            orientations=1 if task.upright else VIEWS,
            upright=task.upright,
            novelty=novelty,
            outline=self._outline_errors(runtime),
            quality=measurements.derive_limits(_measures(self.train, task.root, self.spec)),
            reference=fit.reference,
            forms=[Variant(runtime="openvino", precision="f32"), Variant(runtime="tensorflow", precision="f32")],
            metrics={},
            data=self._data(),
            training=describe_training(self.members, self.assessor.share),
            golden=golden_cases(folder, runtime, self.spec),
            files={},
            intended_use=INTENDED_USE,
            limitations=_limitations(labels, self.spec.size, fit.decision.target_sensitivity),
        )

    def _outline_errors(self, runtime: Runtime) -> OutlineInfo | None:
        if self.decoder is None or self.task.request.outlines is None:
            return None
        files = find_outlines(self.task.request.outlines, self.rows)
        return measure_errors(runtime, self.calibration, files, self.task.root, self.spec)

    def _data(self) -> Data:
        return Data(
            sources=sorted({row.source for row in self.rows}),
            fingerprint=fingerprint(self.split),
            counts={
                f"{s}/{'malignant' if m else 'benign'}": sum(r.split == s and r.malignant == m for r in self.rows)
                for s in ("train", "validation", "calibration", "test")
                for m in (False, True)
            },
            licence=self.task.licence,
        )


def _rows(rows: Sequence[Row], split: str) -> list[Row]:
    found = [row for row in rows if row.split == split]
    if len({row.malignant for row in found}) != 2:
        raise ConfigError(f"export needs benign and malignant {split} rows. Received: {len(found)} rows")
    return found


def _measures(rows: Sequence[Row], root: Path, spec: Input) -> list[dict[str, float]]:
    """Quality metrics of a fixed sample of training images."""

    def one(row: Row) -> dict[str, float]:
        image = decode_image((root / row.path).read_bytes(), size=spec.size)
        height, width = image.pixels.shape[:2]
        region = crop(image.pixels, assessed_region(width, height, spec.geometry))
        return measurements.measure(region, resolution=min(image.width, image.height))

    chosen = np.random.default_rng(1).permutation(len(rows))[:QUALITY_IMAGES]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, [rows[i] for i in chosen]))


def _refused(
    what: str, runtime: Runtime, images: Sequence[NDArray[np.uint8]], lesions: NDArray[np.float32], limit: float
) -> dict[str, float]:
    """How well novelty separates test lesions from ``images``."""
    other = np.concatenate([runtime.run(image[None]).novelty for image in images])
    above = (other[:, None] > lesions[None]).mean() + (other[:, None] == lesions[None]).mean() / 2
    return {
        f"{what}, images": float(len(other)),
        f"{what}, rejected": float((other > limit).mean()),
        f"{what} against test lesions, AUROC": float(above),
    }


def _novelty_method(member: TrainedRun, upright: bool) -> str:
    averaged = "in one orientation" if upright else f"averaged over {VIEWS} orientations"
    return (
        f"on mean and spread of the feature maps of {member.config.arch} at several depths, {averaged}: "
        f"Mahalanobis distance in {novelty.COMPONENTS} principal components plus the residual, and a linear classifier of "
        "dermoscopic training images against simulated clinical close-ups and everyday photographs"
    )


def _history(run: Path) -> list[dict[str, Any]]:
    path = run / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _limitations(labels: Sequence[Label], size: int, target_sensitivity: float) -> list[str]:
    """The model's limitations. The page translates these exact sentences (frontend/public/js/served.js)."""
    limits = [
        "Assesses only dermoscopic pictures of a single lesion; it was not trained on ordinary photographs of skin.",
        f"Below the threshold does not mean benign: the threshold is set to find {100 * target_sensitivity:.0f}% of malignant "
        "lesions, and the others lie below it.",
        "The pictures that it was trained on show mostly light skin; how it does on dark skin is unknown.",
        f"An image is seen at {size} x {size} pixels: finer structures are not.",
    ]
    if tuple(labels) == BINARY:
        limits.append("It tells benign from malignant only, and names no diagnosis.")
    elif own := [label.name for label in labels if label.malignant and label.id not in DIAGNOSES]:
        limits.append(f"Malignant here means no more than that its data mark these classes so: {', '.join(own)}.")
    return limits


def _write_split(target: Path, rows: Sequence[Row]) -> None:
    """Writes the split without its paths: a leak check needs only checksums, groups and sides."""
    lines = ["sha256,source,group,split,dx,malignant"]
    lines += [f"{r.sha256},{r.source},{r.group},{r.split},{r.dx},{int(r.malignant)}" for r in rows]
    target.write_text("\n".join(lines) + "\n")


def _finish(folder: Path, manifest: Manifest, tested: Scores, history: list[dict[str, Any]], findings: Findings) -> None:
    """Writes metrics, report and card, then seals the bundle."""
    metrics = write_report(folder / REPORT_FOLDER, tested, manifest, history, findings=findings)
    complete = manifest.model_copy(update={"metrics": metrics})
    (folder / CARD_FILE).write_text(render_card(complete, findings=findings), encoding="utf-8")
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    seal(folder, complete)


def write_version(folder: Path, old: Manifest, version: str, **changes: object) -> None:
    """Writes card and manifest of a new version derived from an old one, and seals its folder.

    Args:
        folder: folder that already holds the graph and the golden inputs.
        old: manifest of the old version.
        version: the new version.
        changes: fields of the manifest with their new values.
    """
    created = datetime.now(UTC).replace(microsecond=0)
    new = old.model_copy(update={"version": version, "created_at": created, **changes})
    (folder / CARD_FILE).write_text(render_card(new), encoding="utf-8")
    seal(folder, new)
