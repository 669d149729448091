"""Downloads that survive bad connections: retries, resume, checksums, and nothing half-written under a final name."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import httpx

from aiderm_core.bundle.store import sha256_file

ATTEMPTS: Final = 6
LONGEST_WAIT: Final = 300.0
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(ValueError):
    """Raised when a server does not deliver what was requested, after all retries."""


class Refused(DownloadError):  # noqa: N818 (the usual word: the request was refused)
    """Raised for an answer that a retry will not change; ``status`` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Fetcher:
    """An HTTP client that waits and retries where that may help.

    Args:
        client: made with the timeouts to use.
        attempts: total number of attempts for one request.
        sleep: waits for a number of seconds.
    """

    def __init__(self, client: httpx.Client, attempts: int = ATTEMPTS, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._attempts = attempts
        self._sleep = sleep

    def json(self, url: str, params: dict[str, Any] | None = None) -> Any:
        """Returns the decoded JSON body of a GET.

        Raises:
            DownloadError: no answer, an error, or a body that is not JSON.
        """

        def once() -> Any:
            response = self._client.get(url, params=params)
            _check(response)
            try:
                return response.json()
            except ValueError as error:
                raise DownloadError(f"{response.url.copy_with(query=None)} did not answer with JSON") from error

        return self._retried(once, url)

    def file(self, url: str, part: Path, size: int | None, limit: int) -> None:
        """Downloads ``url`` into ``part``, resuming where an earlier attempt or process stopped.

        Args:
            url: what to fetch.
            part: a temporary name; the caller checks the content and renames it.
            size: bytes that the file must have; None: as many as the server announces.
            limit: bytes that the file may have at most.

        Raises:
            DownloadError: no answer, an error, or another number of bytes.
        """
        self._retried(lambda: self._download_once(url, part, size, limit), url)

    def _download_once(self, url: str, part: Path, size: int | None, limit: int) -> None:
        have = part.stat().st_size if part.exists() else 0
        if size is not None and have > size:
            part.unlink()
            have = 0
        if size is not None and have == size:
            return
        # A compressed transfer would write other bytes to disk than those that a range counts.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self._client.stream("GET", url, headers=headers) as response:
            if have and response.status_code == 416:
                part.unlink()
                raise _Again("the server has less than was fetched before")
            _check(response)
            going_on = response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {have}-")
            got = have if going_on else 0
            announced = response.headers.get("content-length", "")
            whole = size if size is not None else got + int(announced) if announced.isdecimal() else None
            with part.open("ab" if going_on else "wb") as file:
                for chunk in response.iter_raw():  # unbuffered: what arrived before an interruption is kept
                    got += len(chunk)
                    if got > (limit if whole is None else min(whole, limit)):
                        break
                    file.write(chunk)
        if got > limit:
            part.unlink()
            raise DownloadError(f"the file is too large. Received: more than {limit} bytes")
        if whole is not None and got != whole:
            if got > whole:
                part.unlink()
            raise _Again(f"the file has {got} bytes, expected {whole}")

    def _retried(self, once: Callable[[], Any], url: str) -> Any:
        for attempt in range(1, self._attempts + 1):
            try:
                return once()
            except (httpx.TransportError, _Again) as error:
                if attempt == self._attempts:
                    shown = httpx.URL(url).copy_with(query=None)  # signed addresses hold credentials in their query
                    raise DownloadError(f"{shown}: {error or type(error).__name__}, after {attempt} attempts") from error
                asked = error.wait if isinstance(error, _Again) else None
                backoff = min(60.0, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
                self._sleep(min(LONGEST_WAIT, backoff if asked is None else asked))
        raise AssertionError("unreachable")


class _Again(Exception):  # noqa: N818 (a request to go on, not a failure)
    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    message = f"HTTP {response.status_code} {response.reason_phrase}"
    if response.status_code in _RETRIED:
        raise _Again(message, _retry_after(response.headers.get("retry-after", "")))
    raise Refused(f"{response.url.copy_with(query=None)}: {message}", response.status_code)


def _retry_after(value: str) -> float | None:
    """Parses RFC 9110's Retry-After, a number of seconds or a date, to seconds."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A finished file: its id and size variant, its path below the ledger's folder, its bytes and checksum."""

    key: str
    form: str
    path: str
    size: int
    sha256: str


class Ledger:
    """The finished files of a folder, one JSON object per line. A line is written after its file; an incomplete line is ignored.

    Args:
        path: the ledger; the entries' paths are relative to its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, LedgerEntry] = {}
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    entry = LedgerEntry(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                self._entries[entry.key] = entry
            # If the last line is incomplete, the next one still starts on a line of its own.
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def sound(self, key: str, form: str) -> LedgerEntry | None:
        """Returns the entry of a file whose size and checksum still match; None if it must be downloaded."""
        entry = self._entries.get(key)
        if entry is None or entry.form != form:
            return None
        file = self._path.parent / entry.path
        if not file.is_file() or file.stat().st_size != entry.size or sha256_file(file) != entry.sha256:
            return None
        return entry

    def add(self, entry: LedgerEntry) -> None:
        """Records a finished file."""
        with self._lock:
            self._entries[entry.key] = entry
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(entry)) + "\n")


def checksum(data: bytes) -> str:
    """The SHA-256 of ``data``, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
