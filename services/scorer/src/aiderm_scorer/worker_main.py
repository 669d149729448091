"""Runs a worker process, which reads images, assesses them and sends rows; an image that crashes it affects nothing else."""

from __future__ import annotations

import signal
import time
from multiprocessing.connection import Connection

import cv2

from aiderm_compute.parent_watch import end_with_parent
from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import DecisionRule
from aiderm_core.bundle.self_check import self_check
from aiderm_core.imaging.errors import ImageError
from aiderm_core.runtime import Runtime, load_runtime
from aiderm_scorer import score_rows
from aiderm_scorer.decode_budget import SharedBudget
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader, read_ahead
from aiderm_scorer.scoring_model import Model

TOGETHER, SECONDS = 16, 0.25
"""Rows to send at once, and seconds after which fewer are sent; with batches, the receiver is woken less often."""


class ItemAssessor:
    """A loaded model on one core, which returns a row for every item.

    Raises:
        BundleError, RuntimeFailure, SelfCheckError: the model cannot be loaded here, or fails its self-check.
    """

    def __init__(self, model: Model) -> None:
        cv2.setNumThreads(1)  # the other cores have processes of their own
        self._limits = model.limits
        self._budget = SharedBudget()
        self._precision = model.precision
        self._manifest = model.manifest
        variant = self._manifest.variant("openvino", model.precision)
        self._rule: DecisionRule = variant.decision or self._manifest.decision
        with model.on_disk() as bundle:
            self._runtime: Runtime = load_runtime("openvino", bundle / variant.path, threads=1, precision=model.precision)
            self_check(bundle, self._manifest, self._runtime, variant.golden)

    def row(self, item: Item, data: bytes | ItemProblem) -> score_rows.Row:
        """The image's row; never raises because of the image."""
        if isinstance(data, ItemProblem):
            return score_rows.failed(item, data, self._manifest, self._precision)
        try:
            found = assess(
                data, manifest=self._manifest, runtime=self._runtime, rule=self._rule, limits=self._limits,
                before_inference=lambda: "throughput", budget=self._budget,
            )  # fmt: skip
        except ImageError as error:
            problem = ItemProblem(error.code, error.detail)
        except Exception as error:
            problem = ItemProblem("internal", f"{type(error).__name__}: {error}"[:300])
        else:
            return score_rows.assessed(item, data, found, self._manifest, self._rule, self._precision)
        return score_rows.failed(item, problem, self._manifest, self._precision, data)


def serve(connection: Connection, model: Model) -> None:
    """Sends None once the model is ready, or an exception; then, for each list of items received, lists of their rows in order.

    Each list of items comes with a flag for going one by one: then each row is sent before the next image is assessed. Ends when
    the other side closes the connection.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    try:
        try:
            assessor = ItemAssessor(model)
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
            return
        connection.send(None)
        with Reader(model.limits.max_bytes) as reader:
            while True:
                items, one_by_one = connection.recv()
                rows: list[score_rows.Row] = []
                sent = time.monotonic()
                for item, data in read_ahead(items, reader):
                    rows.append(assessor.row(item, data))
                    if one_by_one or len(rows) == TOGETHER or time.monotonic() - sent > SECONDS:
                        connection.send(rows)
                        rows, sent = [], time.monotonic()
                if rows:
                    connection.send(rows)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
