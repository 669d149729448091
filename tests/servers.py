"""Server processes that tests start on this machine and stop again."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

import pytest


@dataclass
class Server:
    """A running process that listens on a port of 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Terminates the process and kills it after ten seconds."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """An unused port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_server(
    command: Sequence[object],
    port: int,
    path: str,
    log: Path,
    *,
    output: IO[bytes] | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Starts a server, waits until it answers, and stops it at the end.

    Args:
        command: the program and its arguments.
        port: where it will answer.
        path: what it answers with status 200 once it is up.
        log: its last lines are shown if it does not start.
        output: where its output goes; the test's own by default.
        env: its environment; the test's own by default.
    """
    server = Server(port, subprocess.Popen([str(part) for part in command], env=env, stdout=output, stderr=output))
    try:
        deadline = time.monotonic() + 60
        while not _answers(port, path):
            if server.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(
                    f"{command[0]} did not start:\n{log.read_text('utf-8', 'replace')[-3000:] if log.exists() else 'no log'}"
                )
            time.sleep(0.02)
        yield server
    finally:
        server.stop()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
