"""A file system that fails on purpose: at the n-th call the process dies, an error occurs, or the disk becomes full."""

from __future__ import annotations

import _io
import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

Kind = Literal["kill", "error", "full"]
KINDS: tuple[Kind, ...] = ("kill", "error", "full")
_CALLS = (
    "open", "close", "fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "chmod", "fchmod", "stat", "lstat",
    "scandir", "listdir", "sendfile", "utime", "readlink",
)  # fmt: skip
_NEED_SPACE = frozenset({"write", "create", "mkdir", "fsync", "rename", "replace", "sendfile"})


class Killed(BaseException):
    """Simulates SIGKILL: afterwards no call of the process has any effect, not even in its clean-up."""


class FailingDisk:
    """Counts the file-system calls of this process while it is ``active``, and makes the n-th one fail.

    Args:
        kind: ``kill``: the process dies before the call, or halfway through if it is a write; ``error``: this call fails with
            EIO; ``full``: this call and all later ones that need space fail with ENOSPC.
        at: the call's number, from 1; with 0 none fails.
        die: a function that ends the process; by default only ``Killed`` is raised.
    """

    def __init__(self, kind: Kind = "kill", at: int = 0, die: Callable[[], None] | None = None) -> None:
        self.kind, self.at = kind, at
        self.calls = 0
        self.dead = False
        self._die = die
        self._descriptors: set[int] = set()
        self._files: list[Any] = []
        self._real = {name: getattr(os, name) for name in _CALLS}
        self._real_open = io.open

    def before(self, call: str) -> bool:
        """Counts a call and raises its error, if any. If True is returned, the caller must do half the write and call ``end``."""
        if self.dead:
            raise Killed
        self.calls += 1
        if not self.at or self.calls < self.at:
            return False
        if self.kind == "kill":
            if self.calls == self.at:
                if call == "write":
                    return True
                self.end()
        elif self.kind == "error" and self.calls == self.at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif self.kind == "full" and call in _NEED_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return False

    def end(self) -> None:
        """Ends the process."""
        if self._die is not None:
            self._die()
        self.dead = True
        raise Killed

    @contextmanager
    def active(self) -> Iterator[None]:
        """Replaces the calls while the block runs, then closes what a dead process left open, as the kernel would."""
        with suppress(Killed):
            try:
                for name in _CALLS:
                    setattr(os, name, self._wrapped(name))
                builtins.open = io.open = _io.open = self._open  # type: ignore[assignment]
                yield
            finally:
                for name, function in self._real.items():
                    setattr(os, name, function)
                builtins.open = io.open = _io.open = self._real_open
                for file in self._files:
                    with suppress(OSError):
                        file.close()
                for descriptor in self._descriptors:
                    with suppress(OSError):
                        os.close(descriptor)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any, **options: Any) -> Any:
            create = name == "open" and arguments[1] & os.O_CREAT
            self.before("create" if create else name)
            found = real(*arguments, **options)
            if name == "open":
                self._descriptors.add(found)
            elif name == "close":
                self._descriptors.discard(arguments[0])
            return found

        return call

    def _open(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wxa+")
        if not options.get("opener"):  # an opener calls os.open, which is counted
            self.before("create" if writes else "open")
        if not writes:
            opened = self._real_open(file, mode, *arguments, **options)
            self._descriptors.discard(opened.fileno())
            self._files.append(opened)
            return opened
        assert "b" in mode, "text would be buffered"
        options = {key: value for key, value in options.items() if key in ("opener", "closefd")}
        opened = self._real_open(file, mode, 0, **options)
        self._descriptors.discard(opened.fileno())
        self._files.append(opened)
        return _Written(opened, self)


class _Written:
    """An unbuffered file: each write is a counted call and reaches the disk at once."""

    def __init__(self, file: Any, disk: FailingDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: bytes) -> int:
        """Writes all the data, or writes half of it and ends the process."""
        if self._disk.before("write"):
            self._file.write(bytes(data)[: len(data) // 2])
            self._disk.end()
        return int(self._file.write(data))

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if not self._disk.dead:
            self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
