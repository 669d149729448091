"""OpenVINO reads the SavedModel itself: no TensorFlow needed to serve."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiderm_core.runtime.cores import usable_cores
from aiderm_core.runtime.protocol import Hint, Outputs, Precision, RuntimeFailure, check_batch, joined, outputs_in

# pip installs a package with OpenVINO that reports its use to an analytics service; OpenVINO works without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402


class OpenVinoRuntime:
    """A graph compiled twice for the CPU, from one reading of the file: once for speed of one answer, once for many.

    One image at a time goes through each request, whatever the batch: with a fixed shape an image takes about a tenth less
    than with a free one, and batches gain nothing on a CPU (measured: 12.0 ms of processor time for an image, 13.1 ms with a
    free first dimension, 13-19 ms in batches of 4 and 8). Requests of one compiled graph run side by side and share its
    weights.

    Args:
        path: the folder of a SavedModel, or the .xml file of a quantised graph.
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
            model = core.read_model(str(path))
            self._size = fix_shape(model)
            # f32 is asked for by name: the default is bf16 on processors that have it, which flipped 7-13% of decisions.
            common: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
            if precision != "int8":
                # A graph that rounds its maps and weights is computed in integers unless this is off, whatever else is asked for.
                common["LP_TRANSFORMS_MODE"] = "NO"
            if cores == 1:
                # Each process would tie its thread to the machine's first core: two of them did 75 images a second, untied 109.
                common["ENABLE_CPU_PINNING"] = False
            one_core_each = common | {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
            together = common | {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores}
            settings = [one_core_each, together] if cores > 1 else [one_core_each]
            with ThreadPoolExecutor(len(settings)) as pool:  # side by side: half of the time to get ready goes into this
                compiled = list(pool.map(lambda chosen: core.compile_model(model, "CPU", chosen), settings))
            self._streams = _Requests(compiled[0], cores)
            self._all_cores = _Requests(compiled[1], 1) if cores > 1 else self._streams
        except RuntimeFailure:
            raise
        except RuntimeError as error:
            raise RuntimeFailure(f"OpenVINO cannot load {path}: {error}") from error

    def run(
        self, batch: NDArray[np.uint8], hint: Hint = "latency", during_inference: Callable[[], None] | None = None
    ) -> Outputs:
        """Scores uint8 ``[N, S, S, 3]``, see ``Runtime.run``."""
        check_batch(batch, self._size)
        images = np.ascontiguousarray(batch)
        if len(images) == 1 and hint == "latency":
            with self._all_cores.at_once(1) as requests:
                if requests:
                    return joined(_infer(images, requests, self._all_cores.ports, during_inference))
        wanted = 1 if hint == "throughput" else len(images)
        with self._streams.at_least_one(wanted) as requests:
            return joined(_infer(images, requests, self._streams.ports, during_inference))


class _Requests:
    """The inference requests of one compiled graph; made when first needed, for each holds memory of its own."""

    def __init__(self, compiled: Any, most: int) -> None:
        self.compiled = compiled
        self.most = most
        names = {name: port for port in compiled.outputs for name in port.get_names()}
        self.ports = {name: names[name] for name in outputs_in(names)}
        self._made = 0
        self._free: list[Any] = []
        self._returned = threading.Condition()

    @contextmanager
    def at_once(self, wanted: int) -> Iterator[list[Any]]:
        """Up to ``wanted`` requests that are free now; may be none."""
        with self._returned:
            requests = self._take(wanted)
        try:
            yield requests
        finally:
            self._give_back(requests)

    @contextmanager
    def at_least_one(self, wanted: int) -> Iterator[list[Any]]:
        """Up to ``wanted`` requests; waits for the first one."""
        with self._returned:
            while not (requests := self._take(wanted)):
                self._returned.wait()
        try:
            yield requests
        finally:
            self._give_back(requests)

    def _take(self, wanted: int) -> list[Any]:
        taken = [self._free.pop() for _ in range(min(wanted, len(self._free)))]
        while len(taken) < wanted and self._made < self.most:
            taken.append(self.compiled.create_infer_request())
            self._made += 1
        return taken

    def _give_back(self, requests: list[Any]) -> None:
        with self._returned:
            self._free += requests
            self._returned.notify_all()


def fix_shape(model: Any) -> int | None:
    """Fixes the first dimension to one image; returns the side of an image, or None where the graph leaves that free."""
    port = model.inputs[0]
    shape = port.get_partial_shape()
    shape[0] = 1
    model.reshape({port: shape})
    side = shape[1]
    return side.get_length() if side.is_static else None


def _infer(
    images: NDArray[np.uint8], requests: list[Any], ports: dict[str, Any], during_inference: Callable[[], None] | None
) -> list[dict[str, NDArray[np.float32]]]:
    """Answers for each image in order, by as many at once as there are requests."""
    answers = []
    running: deque[Any] = deque()
    try:
        for index, image in enumerate(images):
            if index < len(requests):
                request = requests[index]
            else:
                request = running.popleft()
                request.wait()
                answers.append(_read(request, ports))
            request.set_input_tensor(ov.Tensor(image[np.newaxis]))
            request.start_async()
            running.append(request)
            if index == 0 and during_inference is not None:
                during_inference()
    finally:
        for request in running:  # none may be in use when it is given back
            request.wait()
    answers += [_read(request, ports) for request in running]
    return answers


def _read(request: Any, ports: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    # Copies: the request reuses its output memory on the next call.
    return {name: np.array(request.get_tensor(port).data, np.float32) for name, port in ports.items()}
