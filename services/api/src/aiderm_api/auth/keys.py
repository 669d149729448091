"""API keys: ``aiderm-api keys`` writes their hashes to a file, which a running service reloads when it changes.

A key is 256 random bits, and the file holds its plain SHA-256. Slow password hashes protect guessable secrets; these cannot be
guessed (NIST SP 800-63B, 5.1.2.2: secrets of 112 bits of entropy or more need no more than an approved one-way function).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from aiderm_core.files import replacing

SCHEMA_VERSION: Final = 1
MAX_FILE_BYTES = 4_000_000
_KEY = re.compile(rb"aiderm_([0-9a-f]{8})_[0-9a-f]{64}")
_NOBODY = "0" * 64  # compared with if there is no such key, so that the answer takes as long
log = structlog.get_logger(__name__)


class KeysError(ValueError):
    """A key file that cannot be used; the text says why and what to do."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(_Record):
    """A rate limit: how fast a token bucket fills, in images per second, and how many images it holds."""

    per_second: Annotated[float, Field(gt=0, le=10_000)]
    burst: Annotated[int, Field(ge=1, le=100_000)]


class ApiKey(_Record):
    """What is stored about a key. ``rate`` is None if the service's default limit applies."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    rate: Rate | Literal["unlimited"] | None = None

    def expired(self, now: datetime) -> bool:
        """Whether the key has expired."""
        return self.expires_at is not None and now >= self.expires_at


class KeyFile(_Record):
    """The content of the file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    keys: list[ApiKey] = []


def new_key(
    name: str, *, expires_at: datetime | None = None, rate: Rate | Literal["unlimited"] | None = None
) -> tuple[ApiKey, str]:
    """Creates a key. Returns the record to store, and the secret to hand out, which is stored nowhere."""
    identifier = secrets.token_hex(4)
    secret = f"aiderm_{identifier}_{secrets.token_hex(32)}"
    stored = ApiKey(
        id=identifier,
        name=name,
        sha256=hashlib.sha256(secret.encode("ascii")).hexdigest(),
        created_at=datetime.now(UTC).replace(microsecond=0),
        expires_at=expires_at,
        rate=rate,
    )
    return stored, secret


def read_keys(path: Path) -> list[ApiKey]:
    """Reads a key file.

    Raises:
        KeysError: the file is missing, unreadable, malformed, or writable by others than its owner.
    """
    try:
        with path.open("rb") as file:
            _refuse_unsafe(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise KeysError(f"There is no file of keys at {path}. Create one with: aiderm-api keys add NAME --file {path}") from error
    except OSError as error:
        raise KeysError(
            f"The file of keys {path} cannot be read by user {os.geteuid()}: {error.strerror}. "
            f"Make that user its owner, or let it read: chmod 644 {path} (it holds hashes, from which no key can be recovered)."
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise KeysError(f"The file of keys {path} is larger than {MAX_FILE_BYTES:,} bytes, so it cannot be one.")
    try:
        keys = KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise KeysError(f"The file of keys {path} is damaged at '{where}': {first['msg']}. Restore or recreate it.") from error
    if len({key.id for key in keys}) != len(keys):
        raise KeysError(f"The file of keys {path} holds the same id twice. Remove one of them.")
    return keys


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    """Refuses a file that others could change or replace: they could add their own keys."""
    if not stat.S_ISREG(status.st_mode):
        raise KeysError(f"{path} is not a regular file; a file of keys is created with: aiderm-api keys add NAME")
    if status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        raise KeysError(f"The file of keys {path} may be written by others than its owner (mode {mode:o}). Do: chmod go-w {path}")
    folder = path.resolve().parent
    mode = folder.stat().st_mode
    if mode & 0o002 and not mode & stat.S_ISVTX:
        raise KeysError(f"Anybody may replace files in {folder}, and so the keys. Do: chmod o-w {folder}")


@contextmanager
def changing(path: Path) -> Iterator[list[ApiKey]]:
    """Yields the keys of a file, to be changed in place; they are written back at the end unless an error occurs.

    A missing file has no keys. Two processes that change the file at once take turns. The new file replaces the old one when it
    is complete; its mode is 0600, or that of the old file.

    Raises:
        KeysError: the file cannot be read or written.
    """
    path = path.resolve()  # a symbolic link is followed, not replaced
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeysError(f"The folder {path.parent} cannot be used: {error.strerror}. Make it first.") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        _write(path, keys)
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    text = KeyFile(keys=list(keys)).model_dump_json(indent=2) + "\n"
    try:
        before = path.stat() if path.exists() else None
        with replacing(path, permissions=stat.S_IMODE(before.st_mode) if before else 0o600) as file:
            file.write(text.encode())
            if before:
                with suppress(PermissionError):  # only root may change a file's owner
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
    except OSError as error:
        raise KeysError(f"{path} cannot be written by user {os.geteuid()}: {error.strerror}. Nothing was changed.") from error


class KeyRing:
    """The keys that a running service accepts.

    Args:
        path: the key file.
        now: the current time.

    Raises:
        KeysError: the file cannot be used, or none of its keys is valid, so that the service would refuse everybody.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path = path
        self._now = now
        self._keys: dict[str, ApiKey] = {}
        self._signature: tuple[int, ...] | None = None
        self.load_error: str | None = None
        self._load()
        if not self.valid:
            raise KeysError(
                f"Keys are required, and the file {path} holds none that is valid (of {len(self._keys)}). "
                f"Add one with: aiderm-api keys add NAME --file {path}"
            )

    @property
    def valid(self) -> int:
        """How many keys are valid."""
        now = self._now()
        return sum(not key.expired(now) for key in self._keys.values())

    def find(self, secret: bytes) -> ApiKey | None:
        """The key with this secret, expired or not; None if there is none."""
        match = _KEY.fullmatch(secret)
        key = self._keys.get(match[1].decode("ascii")) if match else None
        digest = hashlib.sha256(secret).hexdigest()
        return key if hmac.compare_digest(digest, key.sha256 if key else _NOBODY) and key else None

    def expired(self, key: ApiKey) -> bool:
        """Whether the key has expired."""
        return key.expired(self._now())

    def refresh(self) -> None:
        """Reloads the file if it has changed. If it cannot be used, the loaded keys stay, and the failure is logged once."""
        try:
            if self._stat() == self._signature and self.load_error is None:
                return
            self._load()
        except (KeysError, OSError) as error:
            reason = str(error)
            if reason != self.load_error:
                log.error("keys not reloaded", reason=reason, keys=len(self._keys))
            self.load_error = reason
            return
        self.load_error = None
        log.info("keys reloaded", keys=len(self._keys), valid=self.valid)

    def _load(self) -> None:
        signature = None
        with suppress(OSError):  # reading the file reports what is wrong
            signature = self._stat()  # before reading, so that a later change is noticed next time
        self._keys = {key.id: key for key in read_keys(self._path)}
        self._signature = signature

    def _stat(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode
