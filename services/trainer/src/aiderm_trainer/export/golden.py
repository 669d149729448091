"""The golden inputs of a bundle: synthetic lesions with the graph's answers, checked by every server before it serves."""

from __future__ import annotations

from pathlib import Path

import cv2

from aiderm_core.imaging import decode_image, to_model_input
from aiderm_core.manifest import Golden, GoldenCase, Input
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.synthetic import lesion

GOLDEN = ((11, False), (12, True), (13, False), (14, True))  # seed, malignant


def golden_cases(folder: Path, runtime: Runtime, spec: Input) -> Golden:
    """Synthetic lesions as PNG, scored from their own files as a server will."""
    (folder / "golden").mkdir(exist_ok=True)
    cases = []
    for seed, malignant in GOLDEN:
        path = folder / "golden" / f"lesion-{seed}.png"
        # A server refuses pictures with a side below 100 px, so small inputs get larger ones too.
        pixels = lesion(seed, malignant, max(spec.size, 128))
        cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        decoded = decode_image(path.read_bytes()).pixels
        outputs = runtime.run(to_model_input(decoded, spec.size, spec.geometry)[None])
        cases.append(
            GoldenCase(
                path=f"golden/{path.name}",
                probability=[float(p) for p in outputs.probability[0]],
                malignancy=float(outputs.malignancy[0]),
                novelty=float(outputs.novelty[0]),
            )
        )
    return Golden(cases=cases)
