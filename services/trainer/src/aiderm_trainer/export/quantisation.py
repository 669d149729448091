"""Quantises a trained graph to int8 with NNCF's accuracy control: sensitive layers stay in f32."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from aiderm_core.runtime import RuntimeFailure
from aiderm_core.runtime.openvino import fix_shape
from aiderm_trainer.data.batches import Images

RANGE_IMAGES = 300
"""Number of images whose activations set the ranges."""
RANKING_IMAGES = 100
"""Number of images on which the layers' sensitivities are compared."""
# Calibration, novelty and heatmap are sums over few numbers: they cost nothing in f32, and errors in them go into the answer.
HEAD = (
    "Abs", "Concat", "Divide", "Greater", "Interpolate", "MatMul", "Maximum", "Minimum", "Power", "ReduceMax", "ReduceMean",
    "ReduceSum", "Softmax", "Subtract",
)  # fmt: skip
INSTALL = "int8 variants need NNCF, which is not installed. Install it with: pip install 'aiderm-trainer[int8]'"


def quantise(graph: Path, target: Path, images: Images, cost: Callable[[NDArray[np.float32]], float]) -> None:
    """Writes a quantised copy of a graph, for one image at a time.

    Convolutions are quantised after training (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286). While the cost is above 1,
    the layer whose quantisation changes the outputs most is restored to f32.

    Args:
        graph: the SavedModel's folder.
        target: an .xml file; the weights go to a .bin file beside it.
        images: calibration images; a fixed random sample sets the ranges, and the cost is measured on all of them.
        cost: cost of the malignancy ``[N]`` of all images, as a multiple of what is allowed.

    Raises:
        RuntimeFailure: NNCF is not installed, or cannot quantise this graph.
    """
    try:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters
    except ImportError as error:
        raise RuntimeFailure(INSTALL) from error
    model = ov.Core().read_model(str(graph))
    fix_shape(model)
    order = np.random.default_rng(0).permutation(len(images))[:RANGE_IMAGES]
    try:
        quantised = nncf.quantize_with_accuracy_control(
            model,
            calibration_dataset=nncf.Dataset([images[int(i)][None] for i in order]),
            validation_dataset=nncf.Dataset(list(range(len(images))), lambda index: images[int(index)][None]),
            validation_fn=_validation(len(images), cost),
            max_drop=1.0,
            drop_type=nncf.DropType.ABSOLUTE,
            subset_size=len(order),
            ignored_scope=nncf.IgnoredScope(types=list(HEAD), validate=False),
            advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKING_IMAGES),
        )
    except (RuntimeError, ValueError) as error:
        raise RuntimeFailure(f"NNCF cannot quantise this graph: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantised, str(target), compress_to_fp16=False)


def _validation(
    count: int, cost: Callable[[NDArray[np.float32]], float]
) -> Callable[[Any, Iterable[Any]], tuple[float, list[list[NDArray[np.float32]]]]]:
    """Returns NNCF's measure, higher is better: 0 in f32, -1 at the allowed cost. For subsets, only the outputs count."""

    def validate(compiled: Any, items: Iterable[Any]) -> tuple[float, list[list[NDArray[np.float32]]]]:
        port = next(port for port in compiled.outputs if "malignancy" in port.get_names())
        answers = [np.array(compiled(item)[port], np.float32) for item in items]
        malignancy = np.clip(np.concatenate(answers), 1e-6, 1 - 1e-6)
        log_odds = np.log(malignancy / (1 - malignancy))
        measure = -cost(malignancy) if len(malignancy) == count else 0.0
        return measure, [[value[None]] for value in log_odds]

    return validate
