"""OpenVINO reads the SavedModel itself: no TensorFlow needed to serve."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiderm_core.runtime.cores import usable_cores
from aiderm_core.runtime.protocol import Hint, Outputs, Precision, RuntimeFailure, check_batch, joined, outputs_in

# pip installs a package with OpenVINO that reports its use to an analytics service; OpenVINO works without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402

OPENVINO_GRAPH = "openvino.xml"
"""File of a bundle: its SavedModel in OpenVINO's own format, with the weights in the .bin file beside it."""


class OpenVinoRuntime:
    """A graph compiled for the CPU once for each core, and once for all cores together.

    The graphs for one core compute in the thread that calls them. OpenVINO's own threads compete with those that decode: with
    them two cores answered 106 images a second, without them 129 (decoding and quality included). Each graph takes one image at
    a time, whatever the batch: an image takes about a tenth less time with a fixed shape, and batches gain nothing on a CPU.

    Args:
        path: the folder of a SavedModel, or the .xml file of a quantised graph. Where the folder holds ``OPENVINO_GRAPH``, that
            is read: the same graph, in a tenth of the time that converting the SavedModel takes.
        threads: cores to use; all of them when None.
        precision: ``f32``; ``bf16`` on processors that compute in it; ``int8`` for a graph that rounds its maps and weights to
            8 bits, whose other parts are computed in f32.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None, precision: Precision = "f32") -> None:
        self.precision: str = precision
        cores = threads or usable_cores()
        try:
            core = ov.Core()
            # Weights that stay mapped would end this process (SIGBUS) as soon as somebody truncates their file.
            core.set_property({"ENABLE_MMAP": False})
            if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                raise RuntimeFailure("this processor does not compute in bf16; allowed here: f32 and int8")
            converted = path / OPENVINO_GRAPH
            model = core.read_model(str(converted if converted.exists() else path))
            self._size = fix_shape(model)
            # f32 is asked for by name: the default is bf16 on processors that have it, which flipped 7-13% of decisions.
            common: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
            if precision != "int8":
                # A graph that rounds its maps and weights is computed in integers unless this is off, whatever else is asked for.
                common["LP_TRANSFORMS_MODE"] = "NO"
            one_core = common | {"NUM_STREAMS": 0}
            together = common | {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores}
            first = core.compile_model(model, "CPU", one_core)
            others = [one_core] * (cores - 1) + ([together] if cores > 1 else [])
            compiled = [first, *_compiled_alike(core, first, others)]
        except RuntimeFailure:
            raise
        except RuntimeError as error:
            raise RuntimeFailure(f"OpenVINO cannot load {path}: {error}") from error
        self._one_core = _Graphs(compiled[:cores])
        self._all_cores = _Graphs(compiled[cores:])
        self._threads = ThreadPoolExecutor(cores, "openvino")  # they start when first needed

    def run(self, batch: NDArray[np.uint8], hint: Hint = "latency") -> Outputs:
        """Scores uint8 ``[N, S, S, 3]``, see ``Runtime.run``."""
        check_batch(batch, self._size)
        images = np.ascontiguousarray(batch)
        if len(images) == 1 and hint == "latency" and (answer := self._all_cores.answer_at_once(images)) is not None:
            return joined([answer])
        one_by_one = len(images) == 1 or hint == "throughput"
        answers = (map if one_by_one else self._threads.map)(self._one_core.answer, np.split(images, len(images)))
        return joined(list(answers))


class _Graphs:
    """The same graph several times; each computes one answer at a time."""

    def __init__(self, compiled: Sequence[Any]) -> None:
        self.compiled = compiled
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._places: dict[str, int] = {}
        for graph in compiled:
            names = {name: place for place, port in enumerate(graph.outputs) for name in port.get_names()}
            self._places = {name: names[name] for name in outputs_in(names)}
            self._free.put(graph.create_infer_request())

    def answer(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The outputs for uint8 ``[1, S, S, 3]``; waits for a graph that is free."""
        return self._infer(self._free.get(), image)

    def answer_at_once(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]] | None:
        """The same, or None where no graph is free."""
        try:
            free = self._free.get_nowait()
        except Empty:
            return None
        return self._infer(free, image)

    def _infer(self, request: Any, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        try:
            request.set_input_tensor(ov.Tensor(image))
            request.start_async()
            request.wait()
            # Copies: the request reuses its output memory on the next call.
            return {name: np.array(request.get_output_tensor(place).data, np.float32) for name, place in self._places.items()}
        finally:
            self._free.put(request)


def _compiled_alike(core: Any, compiled: Any, settings: Sequence[dict[str, Any]]) -> list[Any]:
    """Copies of a compiled graph, one for each of ``settings``, made in a fifth of the time that compiling takes."""
    if not settings:
        return []
    blob = compiled.export_model().getvalue()
    with ThreadPoolExecutor(min(len(settings), usable_cores())) as pool:
        return list(pool.map(lambda chosen: core.import_model(io.BytesIO(blob), "CPU", chosen), settings))


def fix_shape(model: Any) -> int | None:
    """Fixes the first dimension to one image; returns the side of an image, or None where the graph leaves that free."""
    port = model.inputs[0]
    shape = port.get_partial_shape()
    shape[0] = 1
    model.reshape({port: shape})
    side = shape[1]
    return side.get_length() if side.is_static else None


def write_openvino_graph(folder: Path) -> None:
    """Writes the SavedModel in ``folder`` a second time, as ``OPENVINO_GRAPH``: in float32, and for one image at a time.

    Raises:
        RuntimeError: OpenVINO cannot read the SavedModel.
    """
    from openvino._offline_transformations import compress_quantize_weights_transformation

    model = ov.Core().read_model(str(folder))
    fix_shape(model)
    # Weights that the graph rounds to 255 levels are stored as those levels: the same values in a quarter of the space.
    compress_quantize_weights_transformation(model)
    ov.save_model(model, str(folder / OPENVINO_GRAPH), compress_to_fp16=False)
