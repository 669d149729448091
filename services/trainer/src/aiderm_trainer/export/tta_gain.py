"""Measures on validation rows whether test-time augmentation helps; a bundle offers it only if it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Input, Label, Thorough
from aiderm_core.runtime import Hint, Outputs, Runtime
from aiderm_core.tta import POOLS, VIEWS, Pool, pooled, views
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.bootstrap import bootstrap
from aiderm_trainer.evaluation.metrics import Floats, ratio, roc_auc
from aiderm_trainer.evaluation.scores import score_bundle
from aiderm_trainer.export.decision_limits import choose_decision

MELANOMA = "mel"
MIN_OF_EACH = 5  # a source with fewer benign or malignant rows has no AUC worth averaging
_BATCH = 4  # images at once: eight times as many views
_CLIP = 1e-7


def fit_tta(
    runtime: Runtime,
    spec: Input,
    labels: Sequence[Label],
    validation: Sequence[Row],
    calibration: Sequence[Row],
    root: Path,
    target_sensitivity: float,
    *,
    progress: bool = True,
) -> Thorough | None:
    """Pools eight views of each validation image and compares with the image alone, row by row.

    The pool (mean probability or mean log-odds) is that of the higher validation likelihood. It is offered only if both the
    AUC inside sources and the mean log-likelihood rise, each with a 95% bootstrap interval of the paired difference, resampled
    by group, above 0. Threshold and band are then its own, chosen on calibration rows as for single views.

    Args:
        runtime: the graph as it will serve, with its calibration.
        spec: its input.
        labels: its classes.
        validation: rows that decide whether it helps; no calibration or test rows.
        calibration: rows that give threshold and band.
        root: folder that their paths are relative to.
        target_sensitivity: that the threshold must reach.
        progress: shows a progress bar.

    Returns:
        What the manifest says of it, or None: it does not help, or there are too few validation rows to tell.

    Raises:
        aiderm_trainer.evaluation.scores.ScoringError: rows that cannot be scored.
    """
    if len({row.malignant for row in validation}) != 2:
        return None
    plain, by_pool = _score(runtime, spec, labels, validation, root, progress)
    malignant = np.array([row.malignant for row in validation])
    pool = max(POOLS, key=lambda name: float(_log_likelihood(by_pool[name], malignant).mean()))
    gain = measure_gain(validation, plain, by_pool[pool])
    if gain is None or gain["auc_low"] <= 0 or gain["log_likelihood_low"] <= 0:
        return None
    _, by_pool = _score(runtime, spec, labels, calibration, root, progress)
    decision, _ = choose_decision(
        by_pool[pool],
        [row.malignant for row in calibration],
        [row.dx == MELANOMA for row in calibration],
        [row.domain or row.source for row in calibration],
        target_sensitivity,
    )
    return Thorough(decision=decision, gain=gain, pool=pool)


def measure_gain(rows: Sequence[Row], plain: NDArray[np.float32], pooled: NDArray[np.float32]) -> dict[str, float] | None:
    """What pooling changes, with paired bootstrap intervals.

    Args:
        rows: N rows.
        plain: malignancy ``[N]`` of the images alone.
        pooled: malignancy ``[N]`` of their views pooled.

    Returns:
        ``auc`` (mean over sources of the change of the AUC inside each) and ``log_likelihood`` (mean change per row, natural
        logarithm), each with ``_low`` and ``_high``, and the ``views``; None where no interval can be given.
    """
    malignant = np.array([row.malignant for row in rows])
    source = np.array([row.source for row in rows])
    inside = [source == name for name in np.unique(source)]
    inside = [here for here in inside if min(malignant[here].sum(), (~malignant[here]).sum()) >= MIN_OF_EACH]
    change = _log_likelihood(pooled, malignant) - _log_likelihood(plain, malignant)

    def auc(weights: Floats) -> Floats:
        differences = [
            roc_auc(malignant[here], pooled[here], weights[:, here]) - roc_auc(malignant[here], plain[here], weights[:, here])
            for here in inside
        ]
        return np.asarray(np.mean(differences, axis=0))

    if not inside:
        return None

    def statistic(weights: Floats) -> dict[str, Floats]:
        return {"auc": auc(weights), "log_likelihood": ratio(weights @ change, weights.sum(axis=1))}

    gain = {"views": float(VIEWS)}
    for name, estimate in bootstrap([row.group for row in rows], statistic).items():
        if estimate.ci95 is None:
            return None
        gain |= {name: estimate.value, f"{name}_low": estimate.ci95[0], f"{name}_high": estimate.ci95[1]}
    return gain


def _log_likelihood(malignancy: NDArray[np.float32], malignant: NDArray[np.bool_]) -> Floats:
    probability = np.clip(malignancy.astype(np.float64), _CLIP, 1 - _CLIP)
    return np.where(malignant, np.log(probability), np.log1p(-probability))


def _score(
    runtime: Runtime, spec: Input, labels: Sequence[Label], rows: Sequence[Row], root: Path, progress: bool
) -> tuple[NDArray[np.float32], dict[Pool, NDArray[np.float32]]]:
    """Malignancy ``[N]`` of the images alone and by each pool, in one pass."""
    recorder = _EveryPool(runtime, labels)
    plain = score_bundle(recorder, spec, rows, root, _BATCH, progress=progress).malignancy
    return plain, {pool: np.concatenate(parts) for pool, parts in recorder.found.items()}


class _EveryPool:
    """Answers for the images alone, and keeps what each pool makes of their views."""

    def __init__(self, runtime: Runtime, labels: Sequence[Label]) -> None:
        self.name, self.precision = runtime.name, runtime.precision
        self._runtime = runtime
        self._malignant = np.array([label.malignant for label in labels])
        self.found: dict[Pool, list[NDArray[np.float32]]] = {pool: [] for pool in POOLS}

    def run(
        self, batch: NDArray[np.uint8], hint: Hint = "latency", during_inference: Callable[[], None] | None = None
    ) -> Outputs:
        outputs = self._runtime.run(views(batch), hint, during_inference)
        for pool, parts in self.found.items():
            parts.append(pooled(outputs, self._malignant, pool).malignancy)
        return Outputs(
            outputs.probability[::VIEWS], outputs.malignancy[::VIEWS], outputs.heatmap[::VIEWS], outputs.novelty[::VIEWS]
        )
