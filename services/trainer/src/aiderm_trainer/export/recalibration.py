"""A site's own calibration of a bundle: other probabilities, threshold and band, the same network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore, seal
from aiderm_core.runtime import load_runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.scores import score_bundle
from aiderm_trainer.export import saved_model
from aiderm_trainer.export.answers import fit_answers
from aiderm_trainer.export.bundle import CARD_FILE
from aiderm_trainer.export.golden import golden_cases
from aiderm_trainer.reporting.card import render_card


def recalibrate(
    bundle: Path, version: str, store: ModelStore, rows: Sequence[Row], root: Path, *, target_sensitivity: float | None = None
) -> Path:
    """Fits temperature, shift, threshold, band and novelty limit to a site's own labelled images; the network stays.

    The new version carries no test metrics: they would be those of another calibration. ``evaluate`` gives them.

    Args:
        bundle: a verified bundle of this trainer.
        version: new, in the same model.
        store: where it goes.
        rows: the site's images, all used for the fit.
        root: folder that their paths are relative to.
        target_sensitivity: the bundle's own when None.

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
        runtime = load_runtime("openvino", folder)
        manifest = old.model_copy(
            update={
                "version": version,
                "created_at": datetime.now(UTC).replace(microsecond=0),
                "decision": fit.decision,
                "calibration": fit.calibration,
                "novelty": old.novelty.model_copy(
                    update={
                        "limit": fit.novelty_limit,
                        "false_rejection_rate": fit.rejected["all"],
                        "evaluation": {f"rejected {k}": v for k, v in fit.rejected.items() if k != "all"},
                    }
                ),
                "reference": fit.reference,
                "thorough": None,
                "metrics": {},
                "golden": golden_cases(folder, runtime, old.input),
                "limitations": [
                    *old.limitations,
                    f"Calibration, threshold and novelty limit were fitted anew to {len(rows)} images of one site, from "
                    f"version {old.version}; nothing was measured on other images of that site.",
                ],
            }
        )
        (folder / CARD_FILE).write_text(render_card(manifest), encoding="utf-8")
        seal(folder, manifest)
    return store.path(old.name, version)
