"""Recalibrates a bundle for a site: new probabilities, threshold and band for the same network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from aiderm_core.bundle.manifest import Label, Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.learning_curve import Fit, Recalibration
from aiderm_trainer.evaluation.metrics import LOGIT_CLIP, Floats
from aiderm_trainer.evaluation.scores import Scores, score_bundle
from aiderm_trainer.export import saved_model
from aiderm_trainer.export.answer_fit import fit_answers
from aiderm_trainer.export.bundle import write_version
from aiderm_trainer.export.class_prior import move_class_prior
from aiderm_trainer.export.golden import golden_cases


def recalibrate(
    bundle: Path, version: str, store: ModelStore, rows: Sequence[Row], root: Path, *, target_sensitivity: float | None = None
) -> Path:
    """Fits temperature, shift, threshold, band and novelty limit to a site's own labelled images; the network is unchanged.

    The new version has no test metrics, because the old ones belong to another calibration. ``evaluate`` computes them.

    Args:
        bundle: a verified bundle of this trainer.
        version: new version of the same model.
        store: store to write to.
        rows: the site's images, all used for the fit.
        root: folder that their paths are relative to.
        target_sensitivity: sensitivity that the threshold must reach; the bundle's own when None.

    Raises:
        aiderm_trainer.export.saved_model.AssessorError: the graph is not one of this trainer's.
        aiderm_core.bundle.store.BundleError: the version exists, or cannot be written.
    """
    old = Manifest.load(bundle)
    scores = score_bundle(load_runtime("openvino", bundle), old.input, rows, root)
    temperature, shift = saved_model.calibration_of(bundle)
    target = target_sensitivity or old.decision.target_sensitivity
    fit = fit_answers(scores, old.labels, target, temperature, shift)
    with store.stage(old.name, version) as folder:
        saved_model.recalibrated(bundle, folder, fit.calibration.temperature, fit.calibration.malignant_shift)
        novelty = {
            "limit": fit.novelty_limit,
            "false_rejection_rate": fit.rejected["all"],
            "evaluation": {f"rejected {k}": v for k, v in fit.rejected.items() if k != "all"},
        }
        write_version(
            folder,
            old,
            version,
            decision=fit.decision,
            calibration=fit.calibration,
            class_prior=move_class_prior(
                old.class_prior, old.labels, temperature / fit.calibration.temperature, shift, fit.calibration.malignant_shift
            ),
            novelty=old.novelty.model_copy(update=novelty),
            reference=fit.reference,
            thorough=None,
            metrics={},
            golden=golden_cases(folder, load_runtime("openvino", folder), old.input),
            limitations=[
                *old.limitations,
                f"Calibration, threshold and novelty limit were fitted anew to {len(rows)} images of one site, from "
                f"version {old.version}; nothing was measured on other images of that site.",
            ],
        )
    return store.path(old.name, version)


def recalibration_fit(target_sensitivity: float) -> Fit:
    """Returns the fit of ``recalibrate`` as a function of malignancies, labels and groups alone."""
    labels = [Label(id="benign", name="Benign", malignant=False), Label(id="malignant", name="Malignant", malignant=True)]

    def fit(malignancy: Floats, malignant: NDArray[np.bool_], groups: Sequence[str]) -> Recalibration:
        rows = [
            Row("0" * 64, "-", "site", group, "calibration", "", bool(sick))
            for group, sick in zip(groups, malignant, strict=True)
        ]
        score = malignancy.astype(np.float32)
        scores = Scores(rows, np.stack([1 - score, score], axis=1), score, np.zeros_like(score), [{} for _ in rows])
        found = fit_answers(scores, labels, target_sensitivity, temperature=1.0, shift=0.0)
        temperature, shift = found.calibration.temperature, found.calibration.malignant_shift
        return Recalibration(
            lambda values: expit(logit(np.clip(values, LOGIT_CLIP, 1 - LOGIT_CLIP)) / temperature + shift),
            found.decision.threshold,
        )

    return fit
