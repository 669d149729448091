"""Makes a bundle's golden inputs: synthetic lesions with the graph's answers, which every server checks before it serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from aiderm_core.bundle.manifest import Golden, GoldenCase, Input
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.imaging.limits import Limits
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.synthetic import lesion

GOLDEN = ((11, False), (12, True), (13, False), (14, True))  # seed, malignant


def golden_cases(folder: Path, runtime: Runtime, spec: Input) -> Golden:
    """Writes synthetic lesions into a bundle as PNG, and returns them with the graph's answers.

    Args:
        folder: folder of the bundle.
        runtime: the graph.
        spec: its input.
    """
    (folder / "golden").mkdir(exist_ok=True)
    paths = []
    for seed, malignant in GOLDEN:
        paths.append(f"golden/lesion-{seed}.png")
        # A server refuses images with a side below 100 pixels, so small model inputs get larger images.
        pixels = lesion(seed, malignant, max(spec.size, 128))
        cv2.imwrite(str(folder / paths[-1]), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return Golden(cases=answer_cases(folder, paths, runtime, spec))


def answer_cases(folder: Path, paths: Sequence[str], runtime: Runtime, spec: Input) -> list[GoldenCase]:
    """Returns a graph's answers for golden inputs, scored from their files as a server does.

    Args:
        folder: folder of the bundle.
        paths: files, relative to the folder.
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
