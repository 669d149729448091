"""Assesses images on this machine: one worker process per core."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from aiderm_scorer.items import Item
from aiderm_scorer.score_rows import to_table
from aiderm_scorer.scoring_model import Model
from aiderm_scorer.worker_process import WorkerProcess

Chunk = Sequence[Item]


@contextmanager
def on_this_machine(
    chunks: Sequence[Chunk], model: Model, table_schema: pa.Schema, *, jobs: int, timeout: float
) -> Iterator[Iterator[pa.Table]]:
    """Assesses chunks in ``jobs`` processes; tables come as chunks are finished, in any order.

    Leaving the block ends the processes, even when work is unfinished.

    Raises:
        WorkerProcessError: the model cannot be loaded; the iterator raises it.
    """
    left = iter(chunks)
    taking = threading.Lock()
    stop = threading.Event()
    supervised: list[WorkerProcess] = []
    # Bounded, so that nothing piles up while the disk is slow.
    finished: queue.Queue[pa.Table | BaseException | None] = queue.Queue(2 * jobs)

    def work() -> None:
        try:
            with WorkerProcess(model, timeout) as worker:
                supervised.append(worker)
                while not stop.is_set():
                    with taking:
                        chunk = next(left, None)
                    if chunk is None:
                        break
                    rows = []
                    for row in worker.score(chunk):
                        rows.append(row)
                        if stop.is_set():
                            return
                    finished.put(to_table(rows, table_schema))
        except BaseException as error:
            finished.put(error)
        finally:
            finished.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(jobs, len(chunks))))]

    for thread in threads:
        thread.start()
    try:
        yield _tables(finished, len(threads))
    finally:
        stop.set()
        for worker in supervised:
            worker.end()
        while any(thread.is_alive() for thread in threads):
            _discard_all(finished)
            for thread in threads:
                thread.join(0.02)


def _tables(finished: queue.Queue[pa.Table | BaseException | None], running: int) -> Iterator[pa.Table]:
    """Yields tables until each of the ``running`` threads has put its None; raises the exception that one of them put."""
    while running:
        found = finished.get()
        if found is None:
            running -= 1
        elif isinstance(found, BaseException):
            raise found
        else:
            yield found


def _discard_all(finished: queue.Queue[pa.Table | BaseException | None]) -> None:
    """Discards what waits in the queue, so that no thread blocks on adding more."""
    while True:
        try:
            finished.get_nowait()
        except queue.Empty:
            return
