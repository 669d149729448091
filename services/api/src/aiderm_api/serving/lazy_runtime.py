"""A runtime whose model is loaded by the first request that needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aiderm_core.runtime import Hint, Outputs, Precision, Runtime


class LazyRuntime:
    """A runtime that is loaded by its first call.

    Args:
        name: name of the engine.
        precision: precision of the variant.
        load: creates the runtime; if it raises, so does ``run``, and the next call tries again.
    """

    def __init__(self, name: str, precision: Precision, load: Callable[[], Runtime]) -> None:
        self.name: str = name
        self.precision: str = precision
        self._load = load
        self._loading = threading.Lock()
        self._runtime: Runtime | None = None

    @property
    def loaded(self) -> bool:
        """Whether a call has loaded the model."""
        return self._runtime is not None

    def run(self, batch: NDArray[np.uint8], hint: Hint = "latency") -> Outputs:
        """See ``Runtime.run``."""
        with self._loading:
            runtime = self._runtime = self._runtime or self._load()
        return runtime.run(batch, hint)
