"""Makes variants of reduced precision from a bundle; each is evaluated separately and kept only if it loses almost nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import MANIFEST_FILE, MAX_AUC_LOSS, MAX_FLIPPED, Manifest, Variant
from aiderm_core.bundle.store import ModelStore
from aiderm_core.runtime import RuntimeFailure, load_runtime
from aiderm_trainer.data.batches import Images
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export.bundle import write_version
from aiderm_trainer.export.quantisation import quantise
from aiderm_trainer.export.variants import PrecisionTrial, Reduced, assess, domain_auc, golden_of, outside_novelty, own_rule

REDUCED: tuple[Reduced, ...] = ("bf16", "int8")
INT8_PATH = "int8/model.xml"
Quantise = Callable[[Path, Path, Images, Callable[[NDArray[np.float32]], float]], None]


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

    Each variant gets its own threshold and band, fitted to its answers for the calibration rows. It is then compared with f32 on
    validation rows: the AUC of malignancy inside a domain, on biopsied lesions, and the decisions, each by its own rule. It is
    offered if it loses at most ``MAX_AUC_LOSS`` of AUC and flips at most ``MAX_FLIPPED`` of the decisions.

    Args:
        bundle: a verified bundle.
        version: new version of the same model.
        store: store to write to.
        rows: rows of the split that the bundle was trained on; calibration and validation rows are used, test rows never.
        root: folder that their paths are relative to.
        precisions: precisions to try.
        progress: whether to draw bars on standard error.
        make_int8: quantises a graph, see ``aiderm_trainer.export.quantisation``.

    Returns:
        The new bundle, or None if no variant may be offered; and the outcome of each precision.

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
        return assess(precision, path, manifest, before, after, golden_of(work, manifest, reduced))

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


def _write_with(
    folder: Path, work: Path, manifest: Manifest, version: str, offered: list[Variant], tried: Sequence[Reduced]
) -> None:
    """Writes the new version with the offered variants and those of the old version that were not tried again."""
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
    """Returns a function that rates a graph's malignancy for the calibration rows against f32; up to 1 is allowed."""
    limit, rule = domain_auc(before, before.malignancy), manifest.decision
    decided = outside_novelty(before.malignancy, rule)

    def cost(malignancy: NDArray[np.float32]) -> float:
        loss = limit - domain_auc(before, malignancy)
        own = own_rule(malignancy, before, rule)
        flipped = float((outside_novelty(malignancy, own) != decided).mean())
        return max(loss / MAX_AUC_LOSS, flipped / MAX_FLIPPED)

    return cost
