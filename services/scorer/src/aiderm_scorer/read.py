"""Reads an item's bytes, wherever they are stored."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import fsspec

from aiderm_scorer.addresses import Allowed, fetch
from aiderm_scorer.archives import TarStream, read_span
from aiderm_scorer.items import Item, ItemProblem, Streamed, is_address

_REMOTE_READERS = 8  # several at once hide the latency of another machine


class Reader:
    """Reads items one after another and keeps the archive that it read from last open until it is closed.

    Args:
        max_bytes: largest size of a file; larger ones are refused, and never read whole.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._where: str | None = None
        self._file: Any = None
        self._stream: TarStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, item: Item) -> bytes | ItemProblem:
        """The bytes of one item, or the reason why there are none; never raises."""
        if item.problem is not None:
            return item.problem
        try:
            return self._read(item)
        except Exception as error:  # any failure of a disk, network or archive is reported for this image alone
            self.close()
            return ItemProblem("unreadable", _reason(error))

    def _read(self, item: Item) -> bytes | ItemProblem:
        if item.inside is None:
            return self._whole(item.where, item.allowed)
        if self._where != item.where:
            self.close()
            self._file = _open(item.where)
            self._where = item.where
        if not isinstance(item.inside, Streamed):
            # A few bytes in an archive may unpack to gigabytes.
            return self._too_large(max(item.inside.size, item.inside.stored)) or read_span(self._file, item.inside)
        if self._stream is None or self._stream.next > item.inside.index:
            self._file.seek(0)
            self._stream = TarStream(self._file)
        data = self._stream.read(item.inside.index, self._max)
        return self._too_large(len(data), "more than ") or data

    def _whole(self, where: str, allowed: Allowed | None) -> bytes | ItemProblem:
        if allowed is not None and where.lower().startswith(("http://", "https://")):
            data = fetch(where, allowed, self._max)
            return self._too_large(len(data), "more than ") or data
        if is_address(where):
            with _open(where) as file:
                data = bytes(file.read(self._max + 1))
                return self._too_large(len(data), "more than ") or data
        # Opening a pipe would block: open without blocking, and check the file's type before reading.
        descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return ItemProblem("unreadable", "Received no regular file.")
            # The message omits the size: the file may not be an image, and readers of the table need not know its size.
            # Files in /proc and /sys report no size, so the bytes that were read are checked as well.
            if problem := self._too_large(found.st_size, "more than "):
                return problem
            data = file.read(self._max + 1) or b""
            return self._too_large(len(data), "more than ") or data

    def _too_large(self, size: int, least: str = "") -> ItemProblem | None:
        if size <= self._max:
            return None
        received = f"{least}{self._max:,}" if least else f"{size:,}"
        return ItemProblem("too_large", f"Received {received} bytes; allowed: at most {self._max:,}.")

    def close(self) -> None:
        """Closes the archive that it read from last."""
        if self._file is not None:
            self._file.close()
        self._where = self._file = self._stream = None


def read_ahead(items: Sequence[Item], reader: Reader) -> Iterator[tuple[Item, bytes | ItemProblem]]:
    """Yields each item with its bytes, in order; the next ones are read while one is in use."""
    remote = bool(items) and all(item.inside is None and is_address(item.where) for item in items)
    readers = _REMOTE_READERS if remote else 1
    with ThreadPoolExecutor(readers) as pool:
        ahead = [pool.submit(reader.read, item) for item in items[:readers]]
        try:
            for index, item in enumerate(items):
                data = ahead.pop(0).result()
                if index + readers < len(items):
                    ahead.append(pool.submit(reader.read, items[index + readers]))
                yield item, data
        finally:
            for waiting in ahead:
                waiting.cancel()


def _open(where: str) -> Any:
    if is_address(where):
        return fsspec.open(where, "rb").open()
    return open(where, "rb")  # noqa: PTH123 (kept open; a name that is no UTF-8 as well)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return f"{type(error).__name__}: {error}"[:300]
