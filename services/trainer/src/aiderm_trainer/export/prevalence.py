"""Adapts a bundle to another prevalence: probability, threshold and band move together, so that no decision changes.

Saerens, Latinne, Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002.
This is valid if malignant and benign lesions look the same as before and only their shares differ.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Calibration, DecisionRule, Golden, Histogram, Manifest, Metric, Thorough
from aiderm_core.bundle.store import ModelStore
from aiderm_core.runtime import load_runtime
from aiderm_trainer.export import saved_model
from aiderm_trainer.export.bundle import REPORT_FOLDER, write_version
from aiderm_trainer.export.class_prior import move_class_prior
from aiderm_trainer.export.golden import golden_cases
from aiderm_trainer.training.run_folder import SPLIT

PREVALENCES: Final = (1e-4, 1 - 1e-4)
TOLERANCE: Final = 1e-3  # as a server's self-test allows
# Prefixes of the metrics that depend on the old probabilities. All others depend on decisions or ranks of malignancy only.
# (Melanoma against the rest depends on them: one class's probability does not rank lesions as the malignancy does.)
_OF_PROBABILITIES: Final = ("brier", "ece", "calibration_", "multiclass_", "melanoma_auc", "net_benefit", "log_loss", "nll")


class PriorError(ValueError):
    """An invalid prevalence, or a graph that does not follow the correction."""


def shift_probability(probability: NDArray[np.float64] | float, old: float, new: float) -> NDArray[np.float64]:
    """Converts a malignancy from the prevalence ``old`` to ``new``; monotone, and 0 and 1 stay the same.

    Args:
        probability: any shape, 0..1.
        old: share of malignant lesions that it assumes, between 0 and 1.
        new: share of malignant lesions that the result assumes.
    """
    p = np.asarray(probability, dtype=np.float64)
    malignant, benign = p * (new / old), (1.0 - p) * ((1.0 - new) / (1.0 - old))
    return np.asarray(malignant / (malignant + benign))


def shift_rule(rule: DecisionRule, old: float, new: float) -> DecisionRule:
    """Converts threshold and band to the prevalence ``new``: shifted malignancies get the same decisions."""
    threshold, low, high = (float(shift_probability(value, old, new)) for value in (rule.threshold, *rule.uncertain))
    return DecisionRule(threshold=threshold, target_sensitivity=rule.target_sensitivity, uncertain=(low, high))


def shift_histogram(histogram: Histogram, old: float, new: float) -> Histogram:
    """Converts a histogram of malignancies: each bin keeps its images, and its edges move."""
    edges = shift_probability(np.array(histogram.edges), old, new)
    return Histogram(edges=edges.tolist(), counts=histogram.counts)


def correct_prior(bundle: Path, version: str, store: ModelStore, prevalence: float) -> Path:
    """Writes a version of a bundle whose probabilities assume ``prevalence``; it needs no images.

    The shift of the malignant log-odds is stored in the graph; threshold, band and the edges of the reference histogram move by
    the same formula. Metrics of decisions or ranks of malignancy stay true and are kept; those of the probabilities (Brier
    score, calibration, the most likely class) belong to the old ones and are dropped, as is the report.

    Args:
        bundle: a verified bundle of this trainer.
        version: new version of the same model.
        store: store to write to.
        prevalence: share of malignant lesions that the new probabilities assume.

    Raises:
        PriorError: a prevalence out of range or the same as before, or a graph whose answers do not follow.
        aiderm_trainer.export.saved_model.AssessorError: the graph is not one of this trainer's.
        aiderm_core.bundle.store.BundleError: the version exists, or cannot be written.
    """
    old = Manifest.load(bundle)
    before = old.calibration.prevalence
    if not PREVALENCES[0] <= prevalence <= PREVALENCES[1]:
        raise PriorError(f"prevalence must lie in {PREVALENCES[0]} to {PREVALENCES[1]}. Received: {prevalence}")
    if math.isclose(prevalence, before, rel_tol=1e-9):
        raise PriorError(f"{old.name} {old.version} assumes that prevalence already. Received: {prevalence}")
    shift = math.log(prevalence / (1 - prevalence)) - math.log(before / (1 - before))
    temperature, inside = saved_model.calibration_of(bundle)
    tta, lost = _shifted_tta(old.thorough, before, prevalence)
    with store.stage(old.name, version) as folder:
        saved_model.recalibrated(bundle, folder, temperature, inside + shift)
        golden = golden_cases(folder, load_runtime("openvino", folder), old.input)
        _check(golden, old.golden, before, prevalence)
        _keep_split(bundle, folder)
        write_version(
            folder,
            old,
            version,
            decision=shift_rule(old.decision, before, prevalence),
            calibration=_calibration(old.calibration, prevalence, shift),
            class_prior=move_class_prior(old.class_prior, old.labels, 1.0, inside, inside + shift),
            thorough=tta,
            reference=old.reference.model_copy(update={"score": shift_histogram(old.reference.score, before, prevalence)}),
            forms=[
                variant.model_copy(update={"decision": variant.decision and shift_rule(variant.decision, before, prevalence)})
                for variant in old.forms
                if variant.path == "."  # a graph of another precision would need the shift inside it as well
            ],
            metrics={name: _kept(metrics) for name, metrics in old.metrics.items()},
            golden=golden,
            limitations=[*old.limitations, _limitation(old.version, before, prevalence) + lost],
        )
    return store.path(old.name, version)


def _limitation(version: str, before: float, prevalence: float) -> str:
    return (
        f"The probabilities were moved from version {version}'s prevalence of {before:.4g} to {prevalence:.4g}, which holds "
        "where malignant and benign lesions look as in the test data and only their shares differ. All decisions are those of "
        f"version {version}; metrics of its probabilities, and its report, do not stand here."
    )


def _keep_split(bundle: Path, folder: Path) -> None:
    """Copies the split, because the network was still trained on the same images."""
    split = bundle / REPORT_FOLDER / SPLIT
    if split.is_file():
        (folder / REPORT_FOLDER).mkdir()
        shutil.copyfile(split, folder / REPORT_FOLDER / SPLIT)


def _shifted_tta(tta: Thorough | None, old: float, new: float) -> tuple[Thorough | None, str]:
    """Shifts the rule if views are pooled by log-odds; a mean of probabilities does not follow the shift and is dropped."""
    if tta is None:
        return None, ""
    if tta.pool != "log_odds":
        return (
            None,
            " Test-time augmentation is not offered: it averaged probabilities, which the correction does not pass through.",
        )
    # Its gain in likelihood belongs to the old probabilities.
    gain = {key: value for key, value in tta.gain.items() if not key.startswith("log_likelihood")}
    return tta.model_copy(update={"decision": shift_rule(tta.decision, old, new), "gain": gain}), ""


def _calibration(calibration: Calibration, prevalence: float, shift: float) -> Calibration:
    moved = (
        f"; then the log-odds of malignancy moved by {shift:+.4f}, from a prevalence of {calibration.prevalence:.4g} to "
        f"{prevalence:.4g} (Saerens, Latinne, Decaestecker 2002): the calibration errors stated are those before that move"
    )
    return calibration.model_copy(
        update={
            "method": calibration.method + moved,
            "malignant_shift": calibration.malignant_shift + shift,
            "prevalence": prevalence,
        }
    )


def _kept(metrics: dict[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if not name.startswith(_OF_PROBABILITIES)}


def _check(golden: Golden, old: Golden, before: float, after: float) -> None:
    """Checks that the graph answers the golden inputs as the formula says."""
    given = {case.path: case.malignancy for case in old.cases}
    for case in golden.cases:
        if case.path not in given:
            continue
        wanted = float(shift_probability(given[case.path], before, after))
        if abs(case.malignancy - wanted) > TOLERANCE:
            raise PriorError(f"{case.path}: the shifted graph must answer {wanted:.6f}. Received: {case.malignancy:.6f}")
