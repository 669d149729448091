"""Runs one trial: a recipe, a fold, a seed. Trials are independent, resumable and picklable."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import softmax

from aiderm_core import files
from aiderm_core.bundle.manifest import Label
from aiderm_trainer.config import CONFIG_FILE
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.labels import class_index
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation import metrics
from aiderm_trainer.study.features import fit_frozen, limit_threads, read_features
from aiderm_trainer.study.record import OUTPUTS, RESULT, Trial, TrialResult
from aiderm_trainer.study.youden import youden_threshold
from aiderm_trainer.training import run_folder
from aiderm_trainer.training.fit import train
from aiderm_trainer.training.objective import full_logits, malignant_log_odds, within_domain_auc

LOG = "log.txt"
_BATCH = 64


def run_trial(
    trial: Trial, rows: Sequence[Row], root: Path, folder: Path, features: Path | None = None, keep_weights: bool = False
) -> TrialResult:
    """Trains on the fold's train rows, chooses on its validation rows, and scores its test rows once.

    A second call returns the existing result, or resumes from the checkpoint. Callers of the same trial wait for each other.

    Args:
        trial: what to do.
        rows: of the fold, with their part in it as split.
        root: folder of the images.
        folder: of this trial; result.json is written last and marks the trial as finished.
        features: the recipe's cached features, if its backbone is frozen.
        keep_weights: keep the best weights and the last checkpoint in the folder.

    Returns:
        The trial's row of trials.csv; outputs for each held-out and validation row are in FOLDER/outputs.npz.

    Raises:
        ConfigError: the configuration does not describe a valid network.
        OSError, aiderm_core.imaging.errors.ImageError: an image cannot be read.
    """
    with files.locked(folder / ".lock"):
        if (folder / RESULT).exists():
            if not keep_weights:
                _clean(folder)
            return TrialResult.model_validate_json((folder / RESULT).read_bytes())
        limit_threads(trial.threads)
        keras.backend.clear_session()
        began = time.monotonic()
        with (folder / LOG).open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            fitted = _head(trial, rows, features) if trial.frozen and features else _network(trial, rows, root, folder)
        parts = {name: [row for row in rows if row.split == part] for name, part in _PARTS.items()}
        files.write_arrays(folder / OUTPUTS, _outputs(parts, fitted), compressed=True)
        result = _result(trial, rows, parts, fitted, began)
        files.write_text(folder / RESULT, result.model_dump_json(indent=2) + "\n")
        if not keep_weights:
            _clean(folder)
    return result


_PARTS = {"held_out": "test", "validation": "validation"}


@dataclass(frozen=True)
class _Fitted:
    labels: tuple[Label, ...]
    logits: dict[str, NDArray[np.float32]]  # of the held-out and the validation rows
    parameters: int
    size: int
    epochs: int
    best: dict[str, Any]
    seconds: float | None = None  # of all processes, if the trial could be resumed


def _network(trial: Trial, rows: Sequence[Row], root: Path, folder: Path) -> _Fitted:
    resume = (folder / run_folder.CHECKPOINT).exists()
    if resume:
        # If training was killed while it wrote this file, the file is incomplete.
        files.write_text(folder / CONFIG_FILE, trial.config.model_dump_json(indent=2) + "\n")
    else:
        _clear(folder)
    best = train(trial.config, rows, root, folder, resume=resume)
    seconds = float((folder / "seconds").read_text())
    _, labels, network = run_folder.load_run(folder)
    signature = [tf.TensorSpec([None, network.size, network.size, 3], tf.uint8)]
    call = tf.function(lambda images: network.model(images, training=False), input_signature=signature)
    logits = {}
    for name, part in _PARTS.items():
        images = Images([row for row in rows if row.split == part], root, network.size, budget=0)
        logits[name] = np.concatenate([call(batch).numpy() for batch in images.batches(_BATCH)])
    epochs = len((folder / run_folder.HISTORY).read_text().splitlines())
    return _Fitted(labels, logits, network.model.count_params(), network.size, epochs, best, seconds)


def _head(trial: Trial, rows: Sequence[Row], path: Path) -> _Fitted:
    cached = read_features(path)
    parts = {part: [row for row in rows if row.split == part] for part in ("train", "validation", "test")}
    fit = fit_frozen(
        trial.config,
        parts["train"],
        parts["validation"],
        {part: cached.of(own) for part, own in parts.items()},
    )
    logits = {name: fit.logits[part] for name, part in _PARTS.items()}
    return _Fitted(fit.labels, logits, cached.parameters + fit.parameters, cached.size, fit.epochs, fit.best)


def _outputs(parts: dict[str, list[Row]], fitted: _Fitted) -> dict[str, Any]:
    arrays: dict[str, Any] = {"labels": np.array([label.id for label in fitted.labels])}
    for name, rows in parts.items():
        logits = fitted.logits[name]
        arrays |= {
            f"{name}_sha256": np.array([row.sha256 for row in rows]),
            f"{name}_path": np.array([row.path for row in rows]),
            f"{name}_probability": softmax(full_logits(logits).astype(np.float64), axis=1).astype(np.float32),
            f"{name}_malignancy": _malignancy(logits, fitted.labels).astype(np.float32),
        }
    return arrays


def _malignancy(logits: NDArray[np.float32], labels: Sequence[Label]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-malignant_log_odds(full_logits(logits), labels))))


def _result(trial: Trial, rows: Sequence[Row], parts: dict[str, list[Row]], fitted: _Fitted, began: float) -> TrialResult:
    positive = {name: np.array([row.malignant for row in part]) for name, part in parts.items()}
    score = {name: _malignancy(logits, fitted.labels).astype(np.float32) for name, logits in fitted.logits.items()}
    threshold = youden_threshold(positive["validation"], score["validation"])
    held, out = positive["held_out"], score["held_out"]
    called = metrics.at_threshold(held, out, threshold)
    figures = {
        "roc_auc": metrics.roc_auc(held, out),
        "pr_auc": metrics.pr_auc(held, out),
        "brier": metrics.brier(held, out),
        "ece": metrics.expected_calibration_error(held, out),
        **{name: called[name] for name in ("accuracy", "balanced_accuracy", "f1", "sensitivity", "specificity")},
    }
    known = class_index(parts["held_out"], fitted.labels)
    by_class = None
    if len(fitted.labels) > 2 and (known >= 0).any():
        predicted = fitted.logits["held_out"].argmax(axis=1)
        confusion = metrics.confusion(known, predicted, len(fitted.labels))
        by_class = round(metrics.multiclass(confusion)["multiclass_balanced_accuracy"].item(), 6)
    return TrialResult(
        recipe=trial.recipe,
        fold=trial.fold,
        seed=trial.config.seed,
        arch=trial.config.arch,
        frozen=trial.frozen,
        size=fitted.size,
        parameters=fitted.parameters,
        train_rows=sum(row.split == "train" for row in rows),
        validation_rows=len(parts["validation"]),
        held_out_rows=len(parts["held_out"]),
        epochs=fitted.epochs,
        best_epoch=int(fitted.best["epoch"]),
        validation_auc=round(float(fitted.best["val_auc"]), 6),
        threshold=threshold,
        within_source_auc=round(within_domain_auc(out.astype(np.float64), parts["held_out"]), 6),
        class_balanced_accuracy=by_class,
        seconds=round(time.monotonic() - began if fitted.seconds is None else fitted.seconds, 1),
        threads=trial.threads,
        **{name: round(value.item(), 6) for name, value in figures.items()},
    )


def _clean(folder: Path) -> None:
    """Removes what a finished trial no longer needs: outputs, result and log stay."""
    for name in (run_folder.CHECKPOINT, run_folder.BEST, run_folder.PRETRAINED):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name in (".lock", LOG):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
