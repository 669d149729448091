"""Supervises a worker process: one that dies or hangs is replaced, and only the image that it was working on is reported."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from aiderm_scorer import score_rows
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.scoring_model import Model
from aiderm_scorer.worker_main import serve

START_SECONDS = 120.0
_CHANCES = 2  # tries per image: a process may also die because others use up the memory
_SPAWN = multiprocessing.get_context("spawn")


class WorkerProcessError(RuntimeError):
    """No process that loads the model can be started."""


class WorkerProcess:
    """Assesses items one after another in a process of its own. Used by one thread.

    Args:
        model: a verified bundle.
        timeout: seconds that one image may take, including reading it.
    """

    def __init__(self, model: Model, timeout: float = 60.0) -> None:
        self._model = model
        self._timeout = timeout
        self._ended = False
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def score(self, items: Sequence[Item]) -> Iterator[score_rows.Row]:
        """Yields one row per item, in order, as they are finished; fewer only after ``end``.

        Raises:
            WorkerProcessError: the model cannot be loaded.
        """
        done, strikes, one_by_one = 0, 0, False
        while done < len(items):
            connection = self._connection or self._start()
            try:
                connection.send((items[done:], one_by_one))
                while done < len(items):
                    if not connection.poll(self._timeout):
                        raise TimeoutError
                    for row in connection.recv():
                        done, strikes = done + 1, 0
                        yield row
            except (EOFError, OSError) as error:  # a timeout is an OSError as well
                if self._ended:
                    return
                hung = isinstance(error, TimeoutError)
                code = self.close()
                if not one_by_one:  # the failing image is not known yet: earlier rows may not have been sent
                    one_by_one = True
                    continue
                strikes += 1
                if strikes == _CHANCES:
                    strikes = 0
                    problem = (
                        ItemProblem("timeout", f"Not assessed within {self._timeout:g} s, {_CHANCES} times.")
                        if hung
                        else ItemProblem("worker_died", f"The process that assessed it ended ({code}), {_CHANCES} times.")
                    )
                    item, done = items[done], done + 1
                    yield score_rows.failed(item, problem, self._model.manifest, self._model.precision)

    def end(self) -> None:
        """Ends the process and ``score`` at once; may be called from another thread."""
        self._ended = True
        process = self._process
        if process is not None:
            with suppress(ValueError):  # closed meanwhile
                process.kill()

    def close(self) -> str:
        """Ends the process and returns how it ended."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return "not started"
        process.join(0.5)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        return f"signal {-code}" if code is not None and code < 0 else f"exit {code}"

    def _start(self) -> Connection:
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=serve, args=(there, self._model), daemon=True)
        process.start()
        there.close()
        self._process, self._connection = process, here
        error: Exception | None = WorkerProcessError(f"no answer within {START_SECONDS:g} s")
        with suppress(EOFError, OSError):
            if here.poll(START_SECONDS):
                error = here.recv()
                if error is None:
                    return here
        raise WorkerProcessError(f"a worker process could not be started ({self.close()}): {error}")
