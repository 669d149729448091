"""Starts, uses, stops and replaces the processes for decodes that may overrun."""

from __future__ import annotations

import atexit
import json
import math
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from aiderm_core.imaging.errors import DecodeTimeoutError, ImageError
from aiderm_core.imaging.image import DecodedImage
from aiderm_core.imaging.limits import Limits
from aiderm_core.imaging.process import receive, send
from aiderm_core.runtime.cores import usable_cores

_MOST_SECONDS = 30.0
_IDLE_SECONDS = 20.0


class _Process:
    """A running decoder process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "aiderm_core.imaging.process", str(theirs.fileno())]
            self._child = subprocess.Popen(  # noqa: S603 (this interpreter and this package)
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        self._socket = ours
        self.used = time.monotonic()

    def ask(self, request: bytes, descriptors: tuple[int, int], seconds: float) -> dict[str, Any]:
        """Sends a request and returns the answer.

        Raises:
            TimeoutError: there was no answer in time; stop the process.
            EOFError: the process has ended.
        """
        self._socket.settimeout(max(0.001, seconds))
        try:
            send(self._socket, request, descriptors)
            answer, _ = receive(self._socket)
        except ConnectionError:
            answer = b""
        if not answer:
            raise EOFError
        self.used = time.monotonic()
        found: dict[str, Any] = json.loads(answer)
        return found

    def stop(self) -> None:
        """Kills the process, whatever it is doing, and waits for its end."""
        self._socket.close()
        self._child.kill()
        self._child.wait()


class DecoderProcesses:
    """At most ``most`` processes that decode for this one. Each is started when needed and stopped when it has been idle.

    By default there are as many as a service has workers by default, so that no worker waits for another's image.

    Thread-safe. If an image is not decoded in time, its process is stopped.
    """

    def __init__(self, most: int | None = None, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._free: list[_Process] = []
        self._slots = threading.Semaphore(most or usable_cores() + 1)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def decode(self, data: bytes, limits: Limits, size: int | None, cost: int, deadline: float | None) -> DecodedImage:
        """Returns the result of ``decode.decode_here`` for these bytes.

        Args:
            data: a file's bytes.
            limits: as for ``decode_image``.
            size: as for ``decode_image``.
            cost: bytes that decoding takes; the process may use little more.
            deadline: as ``time.monotonic`` counts.

        Raises:
            ImageError: the file cannot be decoded, or exceeds its memory or the time that every image gets.
            DecodeTimeoutError: the image was not decoded before the deadline; decoding has stopped.
        """
        latest = time.monotonic() + _MOST_SECONDS
        until = latest if deadline is None else min(deadline, latest)
        if not self._slots.acquire(timeout=max(0.0, (until if deadline is None else deadline) - time.monotonic())):
            raise DecodeTimeoutError("No process was free to decode the image before the deadline.")
        try:
            return self._decode(data, limits, size, cost, until, late=until == deadline)
        finally:
            self._slots.release()

    def _decode(self, data: bytes, limits: Limits, size: int | None, cost: int, until: float, *, late: bool) -> DecodedImage:
        with self._lock:
            process = self._free.pop() if self._free else None
        process = process or _Process()
        refusal: ImageError
        source, target = os.memfd_create("aiderm-source"), os.memfd_create("aiderm-pixels")
        try:
            with open(source, "wb", closefd=False) as file:
                file.write(data)
            request = json.dumps({"limits": asdict(limits), "size": size, "cost": cost}).encode()
            answer = process.ask(request, (source, target), until - time.monotonic())
            if "error" in answer:
                refusal = ImageError(*answer["error"])
            else:
                info, shape = answer["info"], answer["shape"]
                spacing = tuple(info["spacing"]) if info["spacing"] else None
                pixels = np.frombuffer(mmap.mmap(target, math.prod(shape)), np.uint8).reshape(shape)
                return DecodedImage(info["format"], info["width"], info["height"], tuple(info["notes"]), pixels, spacing=spacing)
        except TimeoutError:
            process.stop()
            process = None
            if late:
                raise DecodeTimeoutError("The image was not decoded before the deadline.") from None
            refusal = ImageError("undecodable", f"Received an image that takes more than {_MOST_SECONDS:g} s to decode.")
        except EOFError:
            process.stop()
            process = None
            refusal = ImageError("undecodable", "Received an image that a decoder cannot take.")
        except BaseException:
            process.stop()
            process = None
            raise
        finally:
            os.close(source)
            os.close(target)
            if process is not None:
                self._give_back(process)
        try:
            raise refusal
        finally:
            del refusal  # its traceback would keep this frame, and so the file, alive

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._free.append(process)
            if self._timer is None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._idle_seconds, self._stop_idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_idle(self) -> None:
        oldest = time.monotonic() - self._idle_seconds
        with self._lock:
            idle = [process for process in self._free if process.used <= oldest]
            self._free = [process for process in self._free if process.used > oldest]
            self._timer = None
            if self._free:
                self._start_timer()
        for process in idle:
            process.stop()

    def close(self) -> None:
        """Stops the free processes; a busy one finishes its image and is stopped once it has been idle."""
        with self._lock:
            free, self._free = self._free, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for process in free:
            with suppress(OSError):
                process.stop()


_processes = DecoderProcesses()
atexit.register(lambda: _processes.close())


def _after_fork() -> None:
    # A fork must not use the parent's decoder processes: parent and child would read each other's answers.
    global _processes
    _processes = DecoderProcesses()


os.register_at_fork(after_in_child=_after_fork)


def shared() -> DecoderProcesses:
    """Returns the decoder processes of this process."""
    return _processes
