"""Variants of reduced precision: each is made from a bundle, evaluated separately, and kept only if it costs almost nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import MANIFEST_FILE, MAX_AUC_LOSS, MAX_FLIPPED, DecisionRule, Golden, Manifest, Variant
from aiderm_core.bundle.store import ModelStore
from aiderm_core.runtime import Runtime, RuntimeFailure, load_runtime
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.cohorts import decisions
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export.bundle import write_version
from aiderm_trainer.export.golden import answer_cases
from aiderm_trainer.export.quantisation import quantise
from aiderm_trainer.training.objective import within_domain_auc

Reduced = Literal["bf16", "int8"]
REDUCED: tuple[Reduced, ...] = ("bf16", "int8")
INT8_PATH = "int8/model.xml"
# Kernels of other processors round otherwise; an answer further off than this is another graph's.
GOLDEN_TOLERANCE = 0.02
Quantise = Callable[[Path, Path, Images, Callable[[NDArray[np.float32]], float]], None]


@dataclass(frozen=True)
class PrecisionTrial:
    """What became of one precision: ``variant`` where it may be offered, else ``reason`` why not."""

    precision: Reduced
    auc_loss: float | None
    flipped: float | None
    variant: Variant | None
    reason: str = ""


def reduce_precision(
    bundle: Path,
    version: str,
    store: ModelStore,
    rows: Sequence[Row],
    root: Path,
    precisions: Sequence[Reduced] = REDUCED,
    *,
    progress: bool = True,
    make_int8: Quantise = quantise,
) -> tuple[Path | None, list[PrecisionTrial]]:
    """Writes a new version of a bundle with every variant of reduced precision that may be offered.

    Each variant gets a threshold and a band of its own, moved with its answers for the calibration rows. It is then compared with
    f32 on validation rows: the AUC of malignancy inside a domain, on biopsied lesions, and the decisions, each by its own rule.
    It is offered at an AUC loss of at most ``MAX_AUC_LOSS`` and with at most ``MAX_FLIPPED`` of the decisions flipped.

    Args:
        bundle: a verified bundle.
        version: new, in the same model.
        store: where it goes.
        rows: of the split that the bundle was trained on; calibration and validation rows are used, test rows never.
        root: folder that their paths are relative to.
        precisions: what to try.
        progress: whether to draw bars on standard error.
        make_int8: quantises a graph, see ``aiderm_trainer.export.quantisation``.

    Returns:
        The new bundle, or None when no variant may be offered; and what became of each precision.

    Raises:
        ValueError: no calibration or no validation rows with both labels.
        aiderm_core.bundle.store.BundleError: the version exists, or cannot be written.
    """
    manifest = Manifest.load(bundle)
    calibration, validation = (_side(rows, side) for side in ("calibration", "validation"))
    runtime = load_runtime("openvino", bundle)
    before = [score_bundle(runtime, manifest.input, side, root, progress=progress) for side in (calibration, validation)]

    def tried(precision: Reduced, work: Path) -> PrecisionTrial:
        path = INT8_PATH if precision == "int8" else "."
        try:
            if precision == "int8":
                make_int8(work, work / path, Images(calibration, root, manifest.input.size), _cost(manifest, before[0]))
            reduced = load_runtime("openvino", work / path, precision=precision)
        except RuntimeFailure as error:
            return PrecisionTrial(precision, None, None, None, str(error))
        after = [score_bundle(reduced, manifest.input, side, root, progress=progress) for side in (calibration, validation)]
        return _assess(precision, path, manifest, before, after, _golden(work, manifest, reduced))

    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "bundle"
        shutil.copytree(bundle, work)
        trials = [tried(precision, work) for precision in precisions]
        offered = [trial.variant for trial in trials if trial.variant is not None]
        if not offered:
            return None, trials
        with store.stage(manifest.name, version) as folder:
            _write_with(folder, work, manifest, version, offered, precisions)
    return store.path(manifest.name, version), trials


def _golden(work: Path, manifest: Manifest, reduced: Runtime) -> Golden:
    paths = [case.path for case in manifest.golden.cases]
    return Golden(tolerance=GOLDEN_TOLERANCE, cases=answer_cases(work, paths, reduced, manifest.input))


def _write_with(
    folder: Path, work: Path, manifest: Manifest, version: str, offered: list[Variant], tried: Sequence[Reduced]
) -> None:
    """Writes the new version with the offered variants, and with those of the old one that were not tried again."""
    variants = [*(variant for variant in manifest.forms if variant.precision not in tried), *offered]
    shutil.copytree(work, folder, dirs_exist_ok=True)
    (folder / MANIFEST_FILE).unlink()
    if not any(variant.path == INT8_PATH for variant in variants):
        shutil.rmtree((folder / INT8_PATH).parent, ignore_errors=True)
    write_version(folder, manifest, version, forms=variants)


def _side(rows: Sequence[Row], side: str) -> list[Row]:
    found = [row for row in rows if row.split == side]
    if len({row.malignant for row in found}) != 2:
        raise ValueError(f"a reduced precision needs benign and malignant {side} rows. Received: {len(found)} rows")
    return found


def _cost(manifest: Manifest, before: Scores) -> Callable[[NDArray[np.float32]], float]:
    """How far a graph's malignancy for the calibration rows is off f32's, in units of what is allowed; 1 and less passes."""
    limit, rule = _auc(before, before.malignancy), manifest.decision
    decided = _outside_novelty(before.malignancy, rule)

    def cost(malignancy: NDArray[np.float32]) -> float:
        loss = limit - _auc(before, malignancy)
        own = _own_rule(malignancy, before, rule)
        flipped = float((_outside_novelty(malignancy, own) != decided).mean())
        return max(loss / MAX_AUC_LOSS, flipped / MAX_FLIPPED)

    return cost


def _auc(of: Scores, malignancy: NDArray[np.float32]) -> float:
    return within_domain_auc(malignancy.astype(np.float64), of.rows)


def _outside_novelty(malignancy: NDArray[np.float32], rule: DecisionRule) -> NDArray[np.int_]:
    """0 below the band or threshold, 1 inside the band, 2 above."""
    low, high = rule.uncertain
    inside = (malignancy >= low) & (malignancy <= high)
    return np.where(inside, 1, np.where(malignancy >= rule.threshold, 2, 0))


def _malignant(scores: Scores) -> NDArray[np.bool_]:
    return np.array([row.malignant for row in scores.rows])


def _own_rule(malignancy: NDArray[np.float32], before: Scores, rule: DecisionRule) -> DecisionRule:
    """The rule that leaves the same calibration rows on each side as ``rule`` does in f32.

    Threshold and lower bound go to the same quantile of the malignant rows, which is what gives them their sensitivity, and
    the upper bound to the same quantile of the benign rows; between two rows they keep their place in proportion.
    """
    malignant = _malignant(before)

    def moved(bound: float, among: NDArray[np.bool_]) -> float:
        old, new = ([0.0, *np.sort(np.clip(part[among], 0.0, 1.0)), 1.0] for part in (before.malignancy, malignancy))
        return float(np.interp(bound, old, new))

    low, high = rule.uncertain
    threshold = moved(rule.threshold, malignant)
    band = (min(moved(low, malignant), threshold), max(moved(high, ~malignant), threshold))
    return DecisionRule(threshold=threshold, target_sensitivity=rule.target_sensitivity, uncertain=band)


def _assess(
    precision: Reduced, path: str, manifest: Manifest, before: Sequence[Scores], after: Sequence[Scores], golden: Golden
) -> PrecisionTrial:
    """``before`` and ``after`` hold calibration and validation, in f32 and reduced."""
    rule = _own_rule(after[0].malignancy, before[0], manifest.decision)
    full, reduced = (_auc(scores[1], scores[1].malignancy) for scores in (before, after))
    decided, decided_now = decisions(_inside(before[1]), manifest), decisions(_inside(after[1]), manifest, rule)
    flipped = float((decided != decided_now).mean())
    loss = full - reduced
    if loss > MAX_AUC_LOSS or flipped > MAX_FLIPPED:
        reason = f"AUC loss {loss:.4f} (allowed {MAX_AUC_LOSS:g}), {flipped:.2%} of decisions flipped (allowed {MAX_FLIPPED:.1%})"
        return PrecisionTrial(precision, loss, flipped, None, reason)
    evaluation = {
        "validation rows": float(len(before[1].rows)),
        "auc inside a domain, f32": full,
        f"auc inside a domain, {precision}": reduced,
        "mean difference of malignancy": float(np.abs(before[1].malignancy - after[1].malignancy).mean()),
    }
    variant = Variant(
        runtime="openvino", precision=precision, path=path, auc_loss=loss, flipped=flipped, decision=rule, golden=golden,
        evaluation=evaluation,
    )  # fmt: skip
    return PrecisionTrial(precision, loss, flipped, variant)


def _inside(scores: Scores) -> Scores:
    return replace(scores, malignancy=np.clip(scores.malignancy, 0.0, 1.0))
