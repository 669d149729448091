"""Runs a bundle's graph with OpenVINO, which reads the SavedModel without TensorFlow."""

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

# Along with OpenVINO, pip installs a package that reports usage to an analytics service; OpenVINO works without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# OpenVINO also imports its model converter if it can. It is not needed here, and takes longer than the rest of OpenVINO.
_CONVERTER = "openvino.tools.ovc"
sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402

if sys.modules[_CONVERTER] is None:
    del sys.modules[_CONVERTER]  # others may import it

OPENVINO_GRAPH = "openvino.xml"
"""File in a bundle that holds the SavedModel in OpenVINO's own format; the weights are in the .bin file beside it."""


class OpenVinoRuntime:
    """A graph that is compiled for the CPU once for each core, and once for all cores together.

    The graphs for one core compute in the thread that calls them. OpenVINO's own threads would compete with those that decode:
    two cores processed 106 images per second with them and 129 without them (decoding and quality included). Each graph takes one
    image at a time, whatever the batch: a fixed shape saves about a tenth of the time, and batches gain nothing on a CPU.

    Args:
        path: the folder of a SavedModel, or the .xml file of a quantised graph. If the folder holds ``OPENVINO_GRAPH``, that file
            is read instead: it is the same graph, and converting the SavedModel would take ten times as long.
        threads: cores to use; None: all.
        precision: ``f32``; ``bf16`` on processors that support it; ``int8`` for a graph with activations and weights quantised
            to 8 bits, whose other parts are computed in f32.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None, precision: Precision = "f32") -> None:
        self.precision: str = precision
        cores = threads or usable_cores()
        try:
            core = ov.Core()
            # With memory-mapped weights, truncating their file would kill this process (SIGBUS).
            core.set_property({"ENABLE_MMAP": False})
            if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                raise RuntimeFailure("this processor does not compute in bf16; allowed here: f32 and int8")
            converted = path / OPENVINO_GRAPH
            model = core.read_model(str(converted if converted.exists() else path))
            self._size = fix_shape(model)
            # f32 is set explicitly: the default is bf16 on processors that support it, which flipped 7-13% of decisions.
            common: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
            if precision != "int8":
                # Unless this is off, OpenVINO computes a quantised graph in integers, whatever the precision hint.
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
        self._threads = ThreadPoolExecutor(cores, "openvino")  # threads start when first needed

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
    """Several copies of one graph; each computes one answer at a time."""

    def __init__(self, compiled: Sequence[Any]) -> None:
        self.compiled = compiled
        self._free: SimpleQueue[Any] = SimpleQueue()
        self._places: dict[str, int] = {}
        for graph in compiled:
            names = {name: place for place, port in enumerate(graph.outputs) for name in port.get_names()}
            self._places = {name: names[name] for name in outputs_in(names)}
            self._free.put(graph.create_infer_request())

    def answer(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Returns the outputs for uint8 ``[1, S, S, 3]``; waits until a graph is free."""
        return self._infer(self._free.get(), image)

    def answer_at_once(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]] | None:
        """As ``answer``, but returns None at once if no graph is free."""
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
    """Copies a compiled graph, once for each of ``settings``, in a fifth of the time that compiling takes."""
    if not settings:
        return []
    blob = compiled.export_model().getvalue()
    with ThreadPoolExecutor(min(len(settings), usable_cores())) as pool:
        return list(pool.map(lambda chosen: core.import_model(io.BytesIO(blob), "CPU", chosen), settings))


def fix_shape(model: Any) -> int | None:
    """Fixes the batch size to one image; returns the side of an image, or None if the graph leaves it open."""
    port = model.inputs[0]
    shape = port.get_partial_shape()
    shape[0] = 1
    model.reshape({port: shape})
    side = shape[1]
    return side.get_length() if side.is_static else None


def write_openvino_graph(folder: Path) -> None:
    """Writes the SavedModel in ``folder`` as ``OPENVINO_GRAPH`` too, in float32 and for one image at a time.

    Raises:
        RuntimeError: OpenVINO cannot read the SavedModel.
    """
    from openvino._offline_transformations import compress_quantize_weights_transformation

    model = ov.Core().read_model(str(folder))
    fix_shape(model)
    # Weights that the graph quantises to 255 levels are stored as those levels: the same values in a quarter of the space.
    compress_quantize_weights_transformation(model)
    ov.save_model(model, str(folder / OPENVINO_GRAPH), compress_to_fp16=False)
