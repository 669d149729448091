"""Several runs as one bundle: the API cannot tell it from a single network's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aiderm_core.store import ModelStore
from aiderm_trainer.config import ConfigError
from aiderm_trainer.data.split import read_split
from aiderm_trainer.evaluation.findings import METRICS_ONLY, Request
from aiderm_trainer.export.bundle import TrainedRun, write_bundle
from aiderm_trainer.training import SPLIT_FILE


def export_ensemble(
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
    """Writes one graph that averages the probabilities of several runs; see ``bundle.write_bundle``.

    Architectures and input sizes may differ: the graph takes the largest size and shrinks the image for the others. Novelty is
    judged by the first run that has fixed pretrained layers.

    Args:
        runs: folders of ``train``, at least two.
        name: of the model.
        version: new in that model.
        store: where the bundle goes.
        root: folder that the split's paths are relative to.
        licence: of the data that the model learnt from.
        not_lesions: folder of pictures that are no lesions, to measure the novelty score with.
        target_sensitivity: that the threshold must reach.
        weights: of the runs in the mean, above 0; alike when None.
        request: what the report looks into besides the metrics.

    Raises:
        ConfigError: fewer than two runs, an unfinished one, labels or splits that differ, or weights that do not fit.
        aiderm_core.store.BundleError: the version exists, or cannot be written.
    """
    if len(runs) < 2:
        raise ConfigError(f"an ensemble needs at least two runs. Received: {len(runs)}")
    if weights is not None and (len(weights) != len(runs) or not all(np.isfinite(w) and w > 0 for w in weights)):
        raise ConfigError(f"each of the {len(runs)} runs needs a weight above 0. Received: {list(weights)}")
    members = [TrainedRun.load(run) for run in runs]
    _check_fit(members)
    return write_bundle(
        members, name, version, store, root,
        licence=licence, not_lesions=not_lesions, target_sensitivity=target_sensitivity, weights=weights,
        request=request,
    )  # fmt: skip


def _check_fit(members: Sequence[TrainedRun]) -> None:
    """Refuses members that do not answer the same question, or learnt from what another is judged on."""
    first = members[0]
    split = set(read_split(first.folder / SPLIT_FILE))
    for other in members[1:]:
        pair = f"{first.folder} and {other.folder}"
        if other.labels != first.labels:
            said = " and ".join(", ".join(label.id for label in member.labels) for member in (first, other))
            raise ConfigError(f"{pair} have other labels: {said}")
        differing = split ^ set(read_split(other.folder / SPLIT_FILE))
        if differing:
            raise ConfigError(f"{pair} were trained on other splits: {len(differing)} rows stand in one of them only")
