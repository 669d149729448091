"""From finished runs to a bundle (contract 2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import (
    MANIFEST_FILE,
    Data,
    Input,
    Label,
    Manifest,
    Novelty,
    Variant,
)
from aiderm_core.bundle.store import ModelStore, seal
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import assessed_region, crop, to_model_input
from aiderm_core.quality import measurements
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.augment import augment
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.labels import BINARY, CLASS_MAP
from aiderm_trainer.data.split import check_leaks, fingerprint, read_split
from aiderm_trainer.data.table import DIAGNOSES, Row
from aiderm_trainer.evaluation.evaluate import write_report
from aiderm_trainer.evaluation.findings import METRICS_ONLY, Findings, Request, investigate
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export import novelty, saved_model
from aiderm_trainer.export.answers import fit_answers
from aiderm_trainer.export.golden import golden_cases
from aiderm_trainer.export.provenance import describe_training
from aiderm_trainer.export.runs import TrainedRun, load_members
from aiderm_trainer.export.tta import fit_tta
from aiderm_trainer.reporting.render import render_card
from aiderm_trainer.training.fit import HISTORY, SPLIT_FILE

CARD_FILE = "MODEL_CARD.md"
REPORT_FOLDER = "report"
NOVELTY_IMAGES = 3000
QUALITY_IMAGES = 3000
INTENDED_USE = (
    "Research on computer-aided reading of dermoscopic pictures of single skin lesions, taken with a dermatoscope or a phone "
    "with a dermatoscope lens. It is no medical device and gives no diagnosis; it helps a trained person to look twice, and "
    "replaces none."
)


def export_runs(
    runs: Sequence[Path],
    name: str,
    version: str,
    store: ModelStore,
    root: Path,
    *,
    licence: str,
    not_lesions: Path | None = None,
    target_sensitivity: float = 0.95,
    weights: Sequence[float] | None = None,
    request: Request = METRICS_ONLY,
) -> Path:
    """Writes one graph of a run, or of the mean of several: calibrated on ``calibration`` rows, reported on ``test`` rows.

    The API cannot tell an ensemble from a single network. Architectures and input sizes may differ: the graph takes the
    largest size and shrinks the image for the others. Novelty is judged by the first run that has fixed pretrained layers.

    Args:
        runs: folders of ``train``, of the same labels and split; of each the best epoch.
        name: of the model.
        version: new in that model.
        store: where the bundle goes.
        root: folder that the split's paths are relative to.
        licence: of the data that the model learnt from; stands in manifest and card.
        not_lesions: folder of pictures that are no lesions, to measure the novelty score with; chooses nothing.
        target_sensitivity: that the threshold must reach.
        weights: of the runs' probabilities in their mean, above 0; alike when None.
        request: what the report looks into besides the metrics.

    Raises:
        ConfigError: runs or weights that do not fit, or a split without the rows that export needs.
        aiderm_core.bundle.store.BundleError: the version exists, or cannot be written.
    """
    members = load_members(runs, weights)
    labels, split = members[0].labels, members[0].folder / SPLIT_FILE
    rows = read_split(split)
    check_leaks(rows)
    train, calibration, test = (_rows(rows, side) for side in ("train", "calibration", "test"))
    validation = [row for row in rows if row.split == "validation"]
    networks = [member.network for member in members]
    unfitted = saved_model.Assessor(networks, labels, weights=weights)
    spec = Input(size=unfitted.size)
    assessor = saved_model.Assessor(networks, labels, _fit_novelty(unfitted, train, root), weights)

    with store.stage(name, version) as folder:
        saved_model.write(assessor, folder)
        scores = score_bundle(load_runtime("openvino", folder), spec, calibration, root)
        fit = fit_answers(scores, labels, target_sensitivity, temperature=1.0, shift=0.0)
        assessor.temperature.assign(fit.calibration.temperature)
        assessor.malignant_shift.assign(fit.calibration.malignant_shift)
        saved_model.write(assessor, folder)
        runtime = load_runtime("openvino", folder)
        tested = score_bundle(runtime, spec, test, root)
        evaluation = _novelty_evaluation(runtime, spec, not_lesions, tested.novelty, fit.novelty_limit)
        (folder / REPORT_FOLDER).mkdir()
        _write_split(folder / REPORT_FOLDER / SPLIT_FILE, rows)
        names = ", ".join(member.config.arch for member in members)
        manifest = Manifest(
            name=name,
            version=version,
            created_at=datetime.now(UTC).replace(microsecond=0),
            architecture=names if len(members) == 1 else f"ensemble of {names}",
            input=spec,
            labels=list(labels),
            class_map={k: v for k, v in CLASS_MAP.items() if v in {label.id for label in labels}},
            decision=fit.decision,
            calibration=fit.calibration,
            novelty=Novelty(
                limit=fit.novelty_limit,
                false_rejection_rate=fit.rejected["all"],
                method=_novelty_method(members, unfitted.members.novelty_of),
                evaluation={**{f"rejected {k}": v for k, v in fit.rejected.items() if k != "all"}, **evaluation},
            ),
            quality=measurements.derive_limits(_measures(train, root, spec)),
            thorough=fit_tta(runtime, spec, labels, validation, calibration, root, target_sensitivity),
            reference=fit.reference,
            forms=[Variant(runtime="openvino", precision="f32"), Variant(runtime="tensorflow", precision="f32")],
            metrics={},
            data=Data(
                sources=sorted({row.source for row in rows}),
                fingerprint=fingerprint(split),
                counts={
                    f"{s}/{'malignant' if m else 'benign'}": sum(r.split == s and r.malignant == m for r in rows)
                    for s in ("train", "validation", "calibration", "test")
                    for m in (False, True)
                },
                licence=licence,
            ),
            training=describe_training(members, assessor.share),
            golden=golden_cases(folder, runtime, spec),
            files={},
            intended_use=INTENDED_USE,
            limitations=_limitations(labels),
        )
        # Curves of several trainings are no one curve: an ensemble's report has none.
        findings = investigate(runtime, tested, root, manifest, request, train)
        _finish(folder, manifest, tested, _history(members[0].folder) if len(members) == 1 else [], findings)
    return store.path(name, version)


def _rows(rows: Sequence[Row], split: str) -> list[Row]:
    found = [row for row in rows if row.split == split]
    if len({row.malignant for row in found}) != 2:
        raise ConfigError(f"export needs benign and malignant {split} rows. Received: {len(found)} rows")
    return found


def _fit_novelty(assessor: saved_model.Assessor, train: Sequence[Row], root: Path) -> novelty.NoveltyModel:
    """On a fixed sample of training images, each as it is and as training may show it: hair or a ruler make no lesion unusual."""
    chosen = np.random.default_rng(0).permutation(len(train))[:NOVELTY_IMAGES]
    images = Images([train[i] for i in chosen], root, assessor.size, budget=0)
    features = tf.function(assessor.features, reduce_retracing=True)
    rng = np.random.default_rng(2)
    found = []
    for batch in images.batches(32):
        found += [features(batch).numpy(), features(np.stack([augment(image, rng) for image in batch])).numpy()]
    return novelty.fit(np.concatenate(found))


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


def _novelty_evaluation(
    runtime: Runtime, spec: Input, folder: Path | None, lesions: NDArray[np.float32], limit: float
) -> dict[str, float]:
    """How well the score tells test lesions from the pictures in ``folder``."""
    if folder is None:
        return {}
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not files:
        raise ConfigError(f"{folder} holds no .jpg or .png pictures")
    inputs = (to_model_input(decode_image(path.read_bytes(), size=spec.size).pixels, spec.size, spec.geometry) for path in files)
    other = np.concatenate([runtime.run(image[None]).novelty for image in inputs])
    below = (other[:, None] > lesions[None]).mean() + (other[:, None] == lesions[None]).mean() / 2
    return {
        "not lesions, pictures": float(len(other)),
        "not lesions, rejected": float((other > limit).mean()),
        "not lesions against test lesions, AUROC": float(below),
        "test lesions, rejected": float((lesions > limit).mean()),
    }


def _novelty_method(members: Sequence[TrainedRun], judged_by: int | None) -> str:
    where = "the network's own features" if judged_by is None else "pretrained features that were not fine-tuned"
    return (
        f"Mahalanobis distance in {novelty.COMPONENTS} principal components plus the residual, on pooled {where} of "
        f"{members[judged_by or 0].config.arch}"
    )


def _history(run: Path) -> list[dict[str, Any]]:
    path = run / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _limitations(labels: Sequence[Label]) -> list[str]:
    limits = [
        "Judges only dermoscopic pictures of a single lesion; it was not trained on ordinary photographs of skin.",
        "Below the threshold does not mean benign: the threshold is set to find 95% of malignant lesions, so about one in "
        "twenty lies there.",
        "The pictures that it learnt from show mostly light skin; how it does on dark skin is unknown.",
        "Training pictures have at most 224 pixels a side: finer structures are not seen.",
    ]
    if tuple(labels) == BINARY:
        limits.append("It tells benign from malignant only, and names no diagnosis.")
    elif own := [label.name for label in labels if label.malignant and label.id not in DIAGNOSES]:
        limits.append(f"Malignant here means no more than that its data mark these classes so: {', '.join(own)}.")
    return limits


def _write_split(target: Path, rows: Sequence[Row]) -> None:
    """The split without its paths: checksums, groups and sides are what a leak check needs."""
    lines = ["sha256,source,group,split,dx,malignant"]
    lines += [f"{r.sha256},{r.source},{r.group},{r.split},{r.dx},{int(r.malignant)}" for r in rows]
    target.write_text("\n".join(lines) + "\n")


def _finish(folder: Path, manifest: Manifest, tested: Scores, history: list[dict[str, Any]], findings: Findings) -> None:
    """Metrics, report and card, then the seal."""
    metrics = write_report(folder / REPORT_FOLDER, tested, manifest, history, findings=findings)
    complete = manifest.model_copy(update={"metrics": metrics})
    (folder / CARD_FILE).write_text(render_card(complete, findings=findings), encoding="utf-8")
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    seal(folder, complete)
