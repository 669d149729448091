"""From a finished run to a bundle (contract 2)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aiderm_core import quality
from aiderm_core.imaging import crop, decode_image, judged_region, to_model_input
from aiderm_core.manifest import (
    MANIFEST_FILE,
    Data,
    Form,
    Input,
    Label,
    Manifest,
    Novelty,
    Training,
)
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_core.store import ModelStore, seal
from aiderm_trainer.architectures import Network
from aiderm_trainer.config import ConfigError, TrainConfig
from aiderm_trainer.data.labels import BINARY, CLASS_MAP
from aiderm_trainer.data.pipeline import Images
from aiderm_trainer.data.rows import Row
from aiderm_trainer.data.split import check_leaks, fingerprint, read_split
from aiderm_trainer.evaluation.card import render_card
from aiderm_trainer.evaluation.report import write_report
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export import novelty, saved_model
from aiderm_trainer.export.answers import fit_answers
from aiderm_trainer.export.golden import golden_cases
from aiderm_trainer.training import HISTORY, SPLIT_FILE, load_run

CARD_FILE = "MODEL_CARD.md"
REPORT_FOLDER = "report"
NOVELTY_IMAGES = 4000
QUALITY_IMAGES = 3000
INTENDED_USE = (
    "Research on computer-aided reading of dermoscopic pictures of single skin lesions, taken with a dermatoscope or a phone "
    "with a dermatoscope lens. It is no medical device and gives no diagnosis; it helps a trained person to look twice, and "
    "replaces none."
)


def export_run(
    run: Path,
    name: str,
    version: str,
    store: ModelStore,
    root: Path,
    *,
    licence: str,
    not_lesions: Path | None = None,
    target_sensitivity: float = 0.95,
) -> Path:
    """Writes the bundle of a run's best epoch: calibrated and decided on ``calibration`` rows, reported on ``test`` rows.

    Args:
        run: folder of ``train``.
        name: of the model.
        version: new in that model.
        store: where the bundle goes.
        root: folder that the split's paths are relative to.
        licence: of the data that the model learnt from; stands in manifest and card.
        not_lesions: folder of pictures that are no lesions, to measure the novelty score with; chooses nothing.
        target_sensitivity: that the threshold must reach.

    Raises:
        ConfigError: an unfinished run, or a split without the rows that export needs.
        aiderm_core.store.BundleError: the version exists, or cannot be written.
    """
    config, labels, network = load_run(run)
    rows = read_split(run / SPLIT_FILE)
    check_leaks(rows)
    train, calibration, test = (_rows(rows, split) for split in ("train", "calibration", "test"))
    spec = Input(size=network.size)
    assessor = saved_model.Assessor(network, labels, _fit_novelty(network, labels, train, root))

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
        _write_split(folder / REPORT_FOLDER / SPLIT_FILE, run / SPLIT_FILE)
        manifest = Manifest(
            name=name,
            version=version,
            created_at=datetime.now(UTC).replace(microsecond=0),
            architecture=config.arch,
            input=spec,
            labels=list(labels),
            class_map={k: v for k, v in CLASS_MAP.items() if v in {label.id for label in labels}},
            decision=fit.decision,
            calibration=fit.calibration,
            novelty=Novelty(
                limit=fit.novelty_limit,
                false_rejection_rate=fit.rejected["all"],
                method=_novelty_method(config, network),
                evaluation={**{f"rejected {k}": v for k, v in fit.rejected.items() if k != "all"}, **evaluation},
            ),
            quality=quality.derive_limits(_measures(train, root, spec)),
            reference=fit.reference,
            forms=[Form(runtime="openvino", precision="f32"), Form(runtime="tensorflow", precision="f32")],
            metrics={},
            data=Data(
                sources=sorted({row.source for row in rows}),
                fingerprint=fingerprint(run / SPLIT_FILE),
                counts={
                    f"{s}/{'malignant' if m else 'benign'}": sum(r.split == s and r.malignant == m for r in rows)
                    for s in ("train", "validation", "calibration", "test")
                    for m in (False, True)
                },
                licence=licence,
            ),
            training=_training(run, config),
            golden=golden_cases(folder, runtime, spec),
            files={},
            intended_use=INTENDED_USE,
            limitations=_limitations(labels),
        )
        _finish(folder, manifest, tested, _history(run))
    return store.path(name, version)


def _rows(rows: Sequence[Row], split: str) -> list[Row]:
    found = [row for row in rows if row.split == split]
    if len({row.malignant for row in found}) != 2:
        raise ConfigError(f"export needs benign and malignant {split} rows. Received: {len(found)} rows")
    return found


def _fit_novelty(network: Network, labels: Sequence[Label], train: Sequence[Row], root: Path) -> novelty.NoveltyModel:
    """On a fixed sample of unaugmented training images."""
    chosen = np.random.default_rng(0).permutation(len(train))[:NOVELTY_IMAGES]
    images = Images([train[i] for i in chosen], root, network.size, budget=0)
    assessor = saved_model.Assessor(network, labels)
    features = tf.function(assessor.features, reduce_retracing=True)
    return novelty.fit(np.concatenate([features(batch).numpy() for batch in images.batches(32)]))


def _measures(rows: Sequence[Row], root: Path, spec: Input) -> list[dict[str, float]]:
    """Quality metrics of a fixed sample of training images."""

    def one(row: Row) -> dict[str, float]:
        pixels = decode_image((root / row.path).read_bytes()).pixels
        return quality.measure(crop(pixels, judged_region(pixels.shape[1], pixels.shape[0], spec.geometry)))

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
    inputs = (to_model_input(decode_image(path.read_bytes()).pixels, spec.size, spec.geometry) for path in files)
    other = np.concatenate([runtime.run(image[None]).novelty for image in inputs])
    below = (other[:, None] > lesions[None]).mean() + (other[:, None] == lesions[None]).mean() / 2
    return {
        "not lesions, pictures": float(len(other)),
        "not lesions, rejected": float((other > limit).mean()),
        "not lesions against test lesions, AUROC": float(below),
        "test lesions, rejected": float((lesions > limit).mean()),
    }


def _novelty_method(config: TrainConfig, network: Network) -> str:
    where = "pretrained features that were not fine-tuned" if network.novelty is not None else "the network's own features"
    return (
        f"Mahalanobis distance in {novelty.COMPONENTS} principal components plus the residual, on pooled {where} of {config.arch}"
    )


def _training(run: Path, config: TrainConfig) -> Training:
    settings = config.model_dump(mode="json")
    if config.weights not in ("imagenet", "none"):
        settings["weights"] = Path(config.weights).name  # the folder is the machine's own business
    seconds = run / "seconds"
    return Training(
        config={**settings, "keras": keras.__version__},
        seed=config.seed,
        revision=_revision(),
        seconds=float(seconds.read_text()) if seconds.exists() else 0.0,
    )


def _revision() -> str:
    """The git commit of this code, or "unknown" in an image without git."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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
    return limits


def _write_split(target: Path, source: Path) -> None:
    """The split without its paths: checksums, groups and sides are what a leak check needs."""
    lines = ["sha256,source,group,split,dx,malignant"]
    lines += [f"{r.sha256},{r.source},{r.group},{r.split},{r.dx},{int(r.malignant)}" for r in read_split(source)]
    target.write_text("\n".join(lines) + "\n")


def _finish(folder: Path, manifest: Manifest, tested: Scores, history: list[dict[str, Any]]) -> None:
    """Metrics, report and card, then the seal."""
    metrics = write_report(folder / REPORT_FOLDER, tested, manifest, history)
    complete = manifest.model_copy(update={"metrics": metrics})
    (folder / CARD_FILE).write_text(render_card(complete), encoding="utf-8")
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    seal(folder, complete)
