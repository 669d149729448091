"""Defines the interface of the engines that run a bundle's graph, and loads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

OUTPUTS = ("probability", "malignancy", "heatmap", "novelty")
OPTIONAL_OUTPUTS = ("outline",)
"""Outputs that only newer graphs have."""

Precision = Literal["f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")
Hint = Literal["latency", "throughput"]
HINTS: tuple[Hint, ...] = ("latency", "throughput")
"""What a call optimises: latency, using all cores, or throughput, leaving the other cores to concurrent calls."""


class RuntimeFailure(RuntimeError):  # noqa: N818 (RuntimeError is taken)
    """A graph cannot be loaded, or lacks outputs that ``Outputs`` describes."""


@dataclass(frozen=True)
class Outputs:
    """The graph's answer for a batch of N images; all float32.

    Attributes:
        probability: ``[N, C]``, rows sum to 1, in the manifest's label order.
        malignancy: ``[N]``, 0..1.
        heatmap: ``[N, h, w]``, 0..1, already scaled by the malignancy.
        novelty: ``[N]``.
        outline: ``[N, h, h]``, 0..1, the probability that each place lies inside the lesion; None if the graph has no such
            output.
    """

    probability: NDArray[np.float32]
    malignancy: NDArray[np.float32]
    heatmap: NDArray[np.float32]
    novelty: NDArray[np.float32]
    outline: NDArray[np.float32] | None = None


class Runtime(Protocol):
    """One loaded graph. ``run`` may be called from several threads at once."""

    name: str
    precision: str

    def run(self, batch: NDArray[np.uint8], hint: Hint = "latency") -> Outputs:
        """Scores RGB images.

        Args:
            batch: uint8 ``[N, S, S, 3]``.
            hint: ``latency``: use all cores for this call; ``throughput``: use one, because other calls run at the same time.
                The answer is the same up to rounding. An engine that cannot choose ignores the hint.

        Raises:
            ValueError: ``batch`` has another shape or type than the graph takes.
        """
        ...


def load_runtime(name: str, path: Path, *, threads: int | None = None, precision: Precision = "f32") -> Runtime:
    """Loads one variant of a bundle's graph.

    Args:
        name: ``openvino`` or ``tensorflow``.
        path: path of the variant: the folder that holds saved_model.pb, or a graph's .xml file.
        threads: cores to use; None: all.
        precision: precision of the variant; ``tensorflow`` computes in ``f32`` only.

    Raises:
        RuntimeFailure: the runtime is unknown or not installed, it or the processor does not support the precision, or the
            graph is unreadable or lacks outputs.
    """
    allowed = ("f32",) if name == "tensorflow" else PRECISIONS
    if precision not in allowed:
        raise RuntimeFailure(f"precision of {name} must be {' or '.join(allowed)}. Received: {precision!r}")
    try:
        loader = _loader(name)
    except ImportError as error:
        raise RuntimeFailure(f"the {name} runtime is not installed here: {error}") from error
    return loader(path, threads, precision)


def import_engine(name: str) -> None:
    """Imports an engine ahead of ``load_runtime``, which then holds the GIL only briefly.

    Raises:
        RuntimeFailure: the runtime is unknown.
        ImportError: it is not installed.
    """
    _loader(name)


def _loader(name: str) -> Callable[[Path, int | None, Precision], Runtime]:
    # Engines are imported on demand: the API's image holds no TensorFlow.
    if name == "openvino":
        from aiderm_core.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime
    if name == "tensorflow":
        from aiderm_core.runtime.tensorflow import TensorFlowRuntime

        return TensorFlowRuntime
    raise RuntimeFailure(f"runtime must be openvino or tensorflow. Received: {name!r}")


def outputs_in(names: Collection[str]) -> list[str]:
    """Returns those of ``OUTPUTS`` and ``OPTIONAL_OUTPUTS`` that are among a graph's output names.

    Raises:
        RuntimeFailure: one of ``OUTPUTS`` is missing.
    """
    missing = [name for name in OUTPUTS if name not in names]
    if missing:
        raise RuntimeFailure(f"the graph lacks {', '.join(missing)}; it has: {', '.join(sorted(names))}")
    return [name for name in (*OUTPUTS, *OPTIONAL_OUTPUTS) if name in names]


def joined(answers: Sequence[Mapping[str, NDArray[np.float32]]]) -> Outputs:
    """Concatenates the answers for several batches, output by output."""
    if len(answers) == 1:
        return Outputs(**answers[0])
    return Outputs(**{name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]})


def check_batch(batch: NDArray[np.uint8], size: int | None) -> None:
    """Checks that a batch is uint8 ``[N, S, S, 3]``, so that both engines fail in the same way.

    Raises:
        ValueError: it is not.
    """
    square = batch.ndim == 4 and batch.shape[0] > 0 and batch.shape[3] == 3 and batch.shape[1] == batch.shape[2]
    if batch.dtype != np.uint8 or not square or (size is not None and batch.shape[1] != size):
        want = size or "S"
        raise ValueError(f"batch must be uint8 [N, {want}, {want}, 3]. Received: {batch.dtype} {list(batch.shape)}")
