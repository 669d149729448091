"""Reports progress: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0


class Meter:
    """Counts images, their rate and the time that is left.

    Args:
        total: images to do in this run.
        console: where progress is printed.
    """

    def __init__(self, total: int, console: Console) -> None:
        self.total = total
        self.done = 0
        self.errors = 0
        self.began = time.monotonic()
        self._console = console
        self._told = self.began
        self._bar: Progress | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draws a bar while the block runs, if the console is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.0f}/s"),
            TextColumn("{task.fields[errors]} errors"), TextColumn("left"), TimeRemainingColumn(compact=True),
        )  # fmt: skip
        with Progress(*columns, console=self._console, speed_estimate_period=60) as self._bar:
            self._task = self._bar.add_task("scoring", total=self.total, rate=0.0, errors=0)
            yield
        self._bar = None

    def add(self, done: int, errors: int) -> None:
        """Counts images that have a row now."""
        self.done += done
        self.errors += errors
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self.rate, errors=self.errors)
        elif time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            left = timedelta(seconds=round((self.total - self.done) / max(self.rate, 1e-9)))
            self._console.print(
                f"{self.done:,} of {self.total:,} images, {self.errors:,} errors, {self.rate:.1f}/s, {left} left",
                highlight=False, soft_wrap=True,
            )  # fmt: skip

    @property
    def rate(self) -> float:
        """Images per second since the start."""
        return self.done / max(time.monotonic() - self.began, 1e-9)
