"""The committed graphs return the outputs that the fixtures promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.graphs.steerable import LABELS, SIZE, expected_outputs

from aiderm_core.runtime import load_runtime


@pytest.mark.parametrize("classes", LABELS)
def test_colours_steer_the_outputs(steerable_graphs: dict[int, Path], classes: int) -> None:
    runtime = load_runtime("openvino", steerable_graphs[classes], threads=1)
    for red, green, blue in [(40, 120, 10), (210, 90, 30), (0, 0, 255)]:
        outputs = runtime.run(np.full((1, SIZE, SIZE, 3), (red, green, blue), np.uint8))
        probability, malignancy, novelty = expected_outputs(red, blue, classes)
        np.testing.assert_allclose(outputs.probability[0], probability, atol=1e-5)
        np.testing.assert_allclose(outputs.malignancy[0], malignancy, atol=1e-5)
        np.testing.assert_allclose(outputs.novelty[0], novelty, rtol=1e-5)
        np.testing.assert_allclose(outputs.heatmap[0], green / 255 * malignancy, atol=1e-5)
