"""Loads the default model's graph while the main thread imports the rest of the program.

Each of the two takes more than half a second, and compiling a graph does not hold the GIL.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.precision import PrecisionChoice, chosen_variant
from aiderm_core.runtime import Precision, Runtime, import_engine, load_runtime


class EarlyRuntime:
    """The runtime of a model's promoted version: its bundle is verified at once, and a thread loads its graph.

    Whatever goes wrong is left to the registry, which then loads the model itself and reports what is wrong.

    Args:
        store, name, runtime, threads, precision: as in ``ModelRegistry``, for its default model.
    """

    def __init__(
        self, store: ModelStore, name: str, runtime: str, threads: int | None, precision: PrecisionChoice = "f32"
    ) -> None:
        self._manifest: Manifest | None = None
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None
        with suppress(Exception):
            version = store.serving(name)
            self._manifest = store.verified(name, version, promoted=True)
            variant = chosen_variant(self._manifest, precision, runtime)
            import_engine(runtime)  # in this thread, because two threads that import at the same time slow each other down
            arguments = (runtime, store.path(name, version) / variant.path, threads, variant.precision)
            self._thread = threading.Thread(target=self._load, args=arguments, name="early-runtime")
            self._thread.start()

    def _load(self, runtime: str, path: Path, threads: int | None, precision: Precision) -> None:
        with suppress(Exception):
            self._runtime = load_runtime(runtime, path, threads=threads, precision=precision)

    def take(self, manifest: Manifest) -> Runtime | None:
        """Waits for the thread and hands the runtime over; only the first call gets it.

        Args:
            manifest: of the bundle to serve. It lists the checksums of all files, so an equal one means the same graph.

        Returns:
            None if the graph could not be loaded, or is that of another bundle.
        """
        if self._thread is not None:
            self._thread.join()
        runtime, self._runtime = self._runtime, None
        return runtime if manifest == self._manifest else None
