"""Compares measurements on the model's outline with those on a hand-drawn outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aiderm_core.bundle.manifest import Input, OutlineInfo
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.outline import RATIOS, SIDE, shape
from aiderm_core.runtime import Runtime
from aiderm_trainer.data.table import Row
from aiderm_trainer.evaluation.outline_agreement import drawn, read_outline

QUANTILES: Final = (0.025, 0.975)
FEWEST: Final = 20
"""With fewer images, no interval is stated."""


def measure_errors(
    runtime: Runtime, rows: Sequence[Row], files: Mapping[str, Path], root: Path, spec: Input
) -> OutlineInfo | None:
    """Measures the ranges within which the errors of 95% of images lie.

    Args:
        runtime: a graph that draws outlines.
        rows: calibration rows; rows without an outline, or whose lesion the graph misses, are skipped.
        files: result of ``find_outlines``.
        root: folder that the rows' paths are relative to.
        spec: the model's input.

    Returns:
        The errors; None for fewer than ``FEWEST`` images or if the graph draws no outlines.
    """
    found: list[dict[str, float]] = []
    for row in rows:
        if row.path not in files:
            continue
        pixels = decode_image((root / row.path).read_bytes(), size=spec.size).pixels
        probability = runtime.run(to_model_input(pixels, spec.size, spec.geometry)[None]).outline
        if probability is None:
            return None
        inside, hand = drawn(probability[0], SIDE), read_outline(files[row.path], SIDE, SIDE, spec.geometry)
        if inside.any():
            own, true = shape(inside), shape(hand)
            found.append({name: true[name] / own[name] if name in RATIOS else true[name] - own[name] for name in own})
    if len(found) < FEWEST:
        return None
    errors = {name: np.quantile([each[name] for each in found], QUANTILES) for name in found[0]}
    return OutlineInfo(errors={name: (float(low), float(high)) for name, (low, high) in errors.items()}, images=len(found))
