"""The golden inputs of a bundle: synthetic lesions with the graph's answers, checked by every server before it serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import Golden, GoldenCase, Input
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.synthetic import lesion

ROUNDING = 1e-4
GOLDEN = ((11, False), (12, True), (13, False), (14, True))  # seed, malignant


def golden_cases(folder: Path, runtime: Runtime, spec: Input) -> Golden:
    """Draws synthetic lesions as PNG into a bundle, with the graph's answers for them.

    Args:
        folder: of the bundle.
        runtime: the graph.
        spec: its input.
    """
    (folder / "golden").mkdir(exist_ok=True)
    paths = []
    for seed, malignant in GOLDEN:
        paths.append(f"golden/lesion-{seed}.png")
        # A server refuses images with a side below 100 px, so small inputs get larger ones too.
        pixels = lesion(seed, malignant, max(spec.size, 128))
        cv2.imwrite(str(folder / paths[-1]), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return Golden(cases=answer_cases(folder, paths, runtime, spec))


def answer_cases(folder: Path, paths: Sequence[str], runtime: Runtime, spec: Input) -> list[GoldenCase]:
    """What a graph answers for golden inputs, scored from their own files as a server will.

    Args:
        folder: of the bundle.
        paths: relative to it.
        runtime: the graph.
        spec: its input.
    """
    cases = []
    for path in paths:
        decoded = decode_image((folder / path).read_bytes(), Limits(min_side=1)).pixels
        outputs = runtime.run(to_model_input(decoded, spec.size, spec.geometry)[None])
        probability, malignancy = (
            np.clip(part[0].astype(np.float64), 0.0, 1.0) for part in (outputs.probability, outputs.malignancy)
        )
        cases.append(
            GoldenCase(
                path=path,
                probability=[float(p) for p in probability],
                malignancy=float(malignancy),
                novelty=float(outputs.novelty[0]),
            )
        )
    return cases


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of float32 may lie this far outside 0..1; what lies further is kept, and refused by the manifest."""
    inside = np.clip(values, 0.0, 1.0)
    return np.where(np.abs(values - inside) <= ROUNDING, inside, values)
