"""The load generator: one process with persistent connections. It shares the cores with what it measures."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

BOUNDARY = b"aiderm-benchmark"
WARM_UP = 0.15  # share of the time whose answers do not count


@dataclass
class Result:
    """Result of one load; ``milliseconds`` are the latencies of answers with status 200, ``refused`` those of all others."""

    seconds: float = 0.0
    answered: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    milliseconds: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    client_seconds: float = 0.0
    sent: int = 0
    """Requests with an answer, including those of the warm-up."""


def request(path: str, image: bytes, *, field_name: str = "file", host: str = "127.0.0.1") -> bytes:
    """A whole HTTP request that uploads ``image`` as a form's part."""
    head = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="lesion.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = head % (BOUNDARY, field_name.encode()) + image + b"\r\n--" + BOUNDARY + b"--\r\n"
    lines = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """Sends one request at a time and parses only as much of the answer as is needed to find its end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[int] | None = None
        self._needed: int | None = None
        self._status = 0
        self._close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._needed is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._status = int(head[9:12])
            start = head.find(b"\r\ncontent-length:")
            if start < 0:
                self._settle(ValueError("an answer without Content-Length"))
                return
            stop = head.find(b"\r\n", start + 2)
            self._needed = end + 4 + int(head[start + 17 : stop if stop > 0 else len(head)])
            self._close = b"\r\nconnection: close" in head
        if len(self._buffer) >= self._needed:
            self._settle(None)

    def _settle(self, error: Exception | None) -> None:
        waiter, self._waiter = self._waiter, None
        self._buffer.clear()
        self._needed = None
        if (self._close or error) and self.transport is not None:
            self.transport.close()
            self.transport = None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(self._status)
            else:
                waiter.set_exception(error)

    async def ask(self, data: bytes) -> int:
        """Sends a request; returns the status of the answer."""
        if self.transport is None:
            raise ConnectionResetError("not connected")
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return await self._waiter


async def drive(port: int, requests: list[bytes], concurrency: int, seconds: float, rate: float | None = None) -> Result:
    """Keeps ``concurrency`` clients busy for ``seconds``.

    Args:
        port: port on this machine.
        requests: complete requests; each client goes through them, starting at a different one.
        concurrency: clients with a connection each.
        seconds: duration; the first part is the warm-up.
        rate: requests per second of all clients together; by default as fast as they are answered.
    """
    loop = asyncio.get_running_loop()
    result = Result()
    statuses: Counter[str] = Counter()
    used = time.process_time()
    begin = time.perf_counter()
    counted, end = begin + WARM_UP * seconds, begin + seconds
    interval = None if rate is None else concurrency / rate

    async def client(number: int) -> None:
        connection = _Connection()
        turn, due = number, begin + (interval or 0.0) * number / concurrency
        while time.perf_counter() < end:
            if interval is not None:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due = max(due + interval, time.perf_counter() - interval)  # a longer delay is not made up for
            started = time.perf_counter()
            try:
                if connection.transport is None:
                    _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
                status = await connection.ask(requests[turn % len(requests)])
            except (OSError, ValueError):
                if counted <= time.perf_counter() <= end:
                    result.broken += 1
                connection = _Connection()
                await asyncio.sleep(0.01)
                continue
            now = time.perf_counter()
            turn += 1
            result.sent += 1
            if counted <= now <= end:
                statuses[str(status)] += 1
                (result.milliseconds if status == 200 else result.refused).append((now - started) * 1000)
        if connection.transport is not None:
            connection.transport.close()

    async with asyncio.TaskGroup() as group:
        for number in range(concurrency):
            group.create_task(client(number))
    result.seconds = end - counted
    result.answered = statuses["200"]
    result.statuses = dict(statuses)
    result.client_seconds = time.process_time() - used
    return result


async def ask_once(port: int, data: bytes) -> int | None:
    """The status of one request; None when there is no answer (yet)."""
    try:
        transport, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
        try:
            async with asyncio.timeout(60):
                return await connection.ask(data)
        finally:
            transport.close()
    except (OSError, ValueError):
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    requests = [request(options.path, image.read_bytes()) for image in options.images]
    result = asyncio.run(drive(options.port, requests, options.concurrency, options.seconds, options.rate))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
