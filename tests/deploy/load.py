"""Sends a steady load of predictions and records each outcome: ``with Load([url], picture) as load: …; load.stop()``.

It runs in a separate process. Several clients each send one request after the other, each on a new connection. Several addresses
are used in turn, and one that accepts no connection is skipped, as a load balancer would do. So a request fails only if it was
sent and got no assessment with status 200, or if no address accepted it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Self

import httpx

MOST_SECONDS = 300
MOST_REQUESTS = 20_000


@dataclass(frozen=True)
class Request:
    """One request; times are from ``time.monotonic()``, a clock that all processes of a machine share."""

    identifier: str
    url: str
    started: float
    ended: float
    status: int
    error: str = ""
    version: str = ""  # of the model that made the assessment
    malignancy: float | None = None
    code: str = ""  # of the problem that was returned

    @property
    def failed(self) -> bool:
        """Whether the response is anything but an assessment with status 200."""
        return self.status != 200 or not self.version


@dataclass(frozen=True)
class Report:
    """The requests that were sent while the load ran."""

    requests: list[Request]

    @property
    def failures(self) -> list[Request]:
        return [request for request in self.requests if request.failed]

    def in_flight(self, moment: float) -> list[Request]:
        """The requests that had been sent and not yet answered at that moment."""
        return [request for request in self.requests if request.started <= moment < request.ended]

    def __str__(self) -> str:
        kinds = collections.Counter(f"{request.status or request.error}" for request in self.failures)
        slowest = max((request.ended - request.started for request in self.requests if not request.failed), default=0.0)
        what = "".join(f", {count} x {kind}" for kind, count in kinds.most_common(5))
        return f"{len(self.requests)} requests sent, {len(self.failures)} failed{what}; the slowest answer took {slowest:.1f} s"


class Load:
    """The process that sends the load; ``prefix`` is put before its command, for example to enter a network namespace."""

    def __init__(
        self,
        urls: list[str],
        picture: bytes,
        *,
        clients: int = 4,
        pause: float = 0.05,
        timeout: float = 30,
        prefix: tuple[str, ...] = (),
    ) -> None:
        command = [*prefix, sys.executable, __file__, "--clients", str(clients), "--pause", str(pause), "--timeout", str(timeout)]
        self._command = [*command, *urls]
        self._picture = picture
        self.report = Report([])

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pipe = self._process.stdin
        assert pipe
        pipe.write(len(self._picture).to_bytes(8, "big") + self._picture)
        pipe.flush()
        return self

    def stop(self) -> Report:
        """Stops sending, waits for the pending responses, and prints and returns the report."""
        output, _ = self._process.communicate(timeout=MOST_SECONDS)
        assert self._process.returncode == 0, f"the load generator ended with {self._process.returncode}"
        self.report = Report([Request(**fields) for fields in json.loads(output)])
        print(self.report)  # noqa: T201  (the figures that a test of a fault is asked for)
        return self.report

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


async def ask(urls: list[str], picture: bytes, client: httpx.AsyncClient) -> Request:
    """Requests one prediction from the first address that accepts the connection."""
    identifier = uuid.uuid4().hex
    for url in urls:
        started = time.monotonic()
        status, error, refused = 0, "", False
        version, malignancy, code = "", None, ""
        try:
            answer = await client.post(
                f"{url}/api/predict", files={"file": ("lesion.png", picture)}, headers={"X-Request-ID": identifier}
            )
            status, found = answer.status_code, answer.json()
            if status == 200:
                version, malignancy = found["model"]["version"], found["malignancy"] and found["malignancy"]["probability"]
            else:
                code = found["code"]
        except (ValueError, KeyError) as caught:
            error = type(caught).__name__
        except (httpx.ConnectError, httpx.ConnectTimeout) as caught:
            error, refused = type(caught).__name__, True
        except httpx.HTTPError as caught:
            error = type(caught).__name__
        request = Request(identifier, url, started, time.monotonic(), status, error, version, malignancy, code)
        if not refused:
            break
    return request


async def generate(urls: list[str], picture: bytes, clients: int, pause: float, timeout: float) -> list[Request]:
    """Sends requests until standard input ends, or the limit of time or number is reached."""
    requests: list[Request] = []
    stopped = asyncio.Event()
    turn = itertools.count()
    end = time.monotonic() + MOST_SECONDS

    async def one_client() -> None:
        while not stopped.is_set() and time.monotonic() < end and len(requests) < MOST_REQUESTS:
            first = next(turn) % len(urls)
            requests.append(await ask([*urls[first:], *urls[:first]], picture, client))
            await asyncio.sleep(pause)

    async def wait_for_end_of_input() -> None:
        await asyncio.to_thread(sys.stdin.buffer.read)
        stopped.set()

    no_keep_alive = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=no_keep_alive, timeout=httpx.Timeout(timeout, connect=2)) as client:
        watch = asyncio.create_task(wait_for_end_of_input())
        await asyncio.gather(*(one_client() for _ in range(clients)))
        await watch
    return requests


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Standard input: the picture's size in 8 bytes, the picture; its end ends the load."
    )
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    options = parser.parse_args()
    picture = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "big"))
    requests = asyncio.run(generate(options.urls, picture, options.clients, options.pause, options.timeout))
    sys.stdout.write(json.dumps([asdict(request) for request in requests]))


if __name__ == "__main__":
    main()
