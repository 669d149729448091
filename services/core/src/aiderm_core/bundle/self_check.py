"""Checks a loaded bundle: its golden inputs must get the answers that its manifest lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aiderm_core.bundle.manifest import Golden, GoldenCase, Manifest
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import HINTS, Outputs, Runtime


class SelfCheckError(Exception):
    """A model's answers for its golden inputs differ from those in its manifest."""


def self_check(bundle: Path, manifest: Manifest, runtime: Runtime, golden: Golden | None = None) -> None:
    """Decodes the golden inputs and runs the graph on them, once with each hint; this also warms the engine up.

    Raises:
        SelfCheckError: an answer differs from that of ``golden`` (by default the manifest's) by more than the tolerance, which
            for novelty is relative to the limit.
        ImageError: a golden input cannot be decoded.
    """
    golden = manifest.golden if golden is None else golden
    for case in golden.cases:
        image = decode_image((bundle / case.path).read_bytes(), Limits(min_side=1))
        batch = to_model_input(image.pixels, manifest.input.size, manifest.input.geometry)[np.newaxis]
        for hint in HINTS:
            _compare(case, runtime.run(batch, hint), manifest, golden.tolerance)


def _compare(case: GoldenCase, outputs: Outputs, manifest: Manifest, tolerance: float) -> None:
    if outputs.probability.shape[1] != len(manifest.labels):
        raise SelfCheckError(f"the graph has {outputs.probability.shape[1]} classes, its manifest {len(manifest.labels)}")
    received = np.array([*outputs.probability[0], outputs.malignancy[0], outputs.novelty[0]], np.float64)
    expected = np.array([*case.probability, case.malignancy, case.novelty])
    allowed = np.full(len(expected), tolerance)
    allowed[-1] *= max(1.0, abs(manifest.novelty.limit))
    if not (np.abs(received - expected) <= allowed).all():  # false for NaN as well
        raise SelfCheckError(
            f"{case.path}: the answer differs from the manifest's by up to {np.abs(received - expected).max():.3g}, "
            f"allowed: {tolerance:g} (novelty: {allowed[-1]:g})"
        )
