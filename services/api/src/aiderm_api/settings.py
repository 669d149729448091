"""Reads all settings of the service from ``AIDERM_*`` variables into one typed class with bounds."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aiderm_core.bundle.manifest import NAME_PATTERN
from aiderm_core.imaging.budget import default_limit
from aiderm_core.precision import PrecisionChoice
from aiderm_core.runtime.cores import usable_cores

MEGABYTE = 1_000_000
MOST_DECODED_BYTES = 440 * MEGABYTE  # by default: with models and uploads the process then stays below 1 GB
PREFIX = "AIDERM_"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# As browsers send it: no path, no trailing slash, lower case.
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class SettingsError(ValueError):
    """Settings that cannot be used; the text names each variable, its value and what is allowed."""


class KeysFile(BaseSettings):
    """Where the keys are: the only setting that ``aiderm-api keys`` needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    keys_file: Annotated[Path | None, Field(description="key file of aiderm-api keys; where it is set, requests need a key")] = (
        None
    )


class Settings(KeysFile):
    """The environment variable of ``models_dir`` is ``AIDERM_MODELS_DIR``, and so on."""

    models_dir: Path = Path("models")
    default_model: Annotated[str, Field(pattern=NAME_PATTERN)] = "melanoma"
    runtime: Literal["openvino", "tensorflow"] = "openvino"
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600, description="how often SERVING files are checked")] = 3.0

    precision: Annotated[
        PrecisionChoice,
        Field(description="of the serving variant; auto: int8 where the model offers it and the processor has VNNI or AMX"),
    ] = "auto"
    threads: Annotated[int | None, Field(ge=1, le=256, description="cores to use; all of them when unset")] = None
    workers: Annotated[
        int | None, Field(ge=1, le=256, description="images processed at once; one more than cores when unset")
    ] = None
    queue_size: Annotated[int, Field(ge=1, le=10_000, description="images that may wait for a worker")] = 128
    deadline_seconds: Annotated[float, Field(gt=0, le=600, description="from the complete upload to the answer")] = 15.0
    upload_seconds: Annotated[float, Field(gt=0, le=3600, description="for a whole upload to arrive")] = 120.0
    min_upload_rate: Annotated[
        int, Field(ge=0, le=100 * MEGABYTE, description="bytes per second, over ten seconds; slower uploads are cut off, 0: none")
    ] = 5_000
    drain_seconds: Annotated[int, Field(ge=0, le=600, description="for requests in progress when the service stops")] = 20

    max_upload_bytes: Annotated[int, Field(ge=1_000, le=1_000 * MEGABYTE)] = 20 * MEGABYTE
    max_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=10_000)] = 100
    batch_max_files: Annotated[int, Field(ge=1, le=1_000)] = 16
    batch_max_bytes: Annotated[int, Field(ge=1_000, le=10_000 * MEGABYTE)] = 60 * MEGABYTE
    max_decoded_bytes: Annotated[
        int | None,
        Field(
            ge=10 * MEGABYTE,
            description="decoded images in memory, all together, a sixth of it for small ones; a quarter of the memory, at most "
            "440 MB, when unset",
        ),
    ] = None
    max_inflight_bytes: Annotated[int, Field(ge=1_000, description="uploads in memory, all requests together")] = 100 * MEGABYTE

    key_rate: Annotated[float, Field(gt=0, le=10_000, description="images per second for a key without a rate of its own")] = 5.0
    key_burst: Annotated[int, Field(ge=1, le=100_000, description="images that such a key may send at once")] = 20

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="names by which the service may be addressed, besides loopback and AIDERM_HOST; *.NAME and * work"),
    ] = LOOPBACK
    limit_concurrency: Annotated[int, Field(ge=1, le=100_000, description="open connections")] = 1_000
    keep_alive_seconds: Annotated[int, Field(ge=1, le=600)] = 75
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    docs: bool = True
    metrics: bool = True
    frontend_dir: Annotated[Path | None, Field(description="also serve this folder at /, and the API under /api")] = None
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    audit: Annotated[str, Field(description="off, stdout, or a file that gets one line for each answer")] = "off"
    drift_window: Annotated[
        int, Field(ge=100, le=1_000_000, description="number of latest answers that are compared with the reference")
    ] = 1_000

    @field_validator("log_level", "log_format", "runtime", "precision", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", "hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Splits comma-separated values, in lower case because browsers write origins so."""
        return tuple(part.strip().lower() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                # "*" is refused too: any page on the web could then use a service inside a hospital's network.
                raise ValueError("each origin must be http(s)://host or http(s)://host:port, and end there; * is not allowed")
        return value

    @field_validator("hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if host != "*" and not _HOST.fullmatch(host) and not _is_address(host.strip("[]")):
                raise ValueError(
                    "each host must be a name or an address without port, *.name for all names below it, or * for any"
                )
        return tuple(host.strip("[]") for host in value)

    @field_validator("frontend_dir")
    @classmethod
    def _page(cls, value: Path | None) -> Path | None:
        if value is not None and not (value / "index.html").is_file():
            raise ValueError("must be a folder that contains index.html")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_max_bytes < self.max_upload_bytes:
            raise ValueError(
                "AIDERM_BATCH_MAX_BYTES must be at least AIDERM_MAX_UPLOAD_BYTES. "
                f"Received: {self.batch_max_bytes} and {self.max_upload_bytes}"
            )
        if self.max_inflight_bytes < self.batch_max_bytes:
            raise ValueError(
                "AIDERM_MAX_INFLIGHT_BYTES must be at least AIDERM_BATCH_MAX_BYTES. "
                f"Received: {self.max_inflight_bytes} and {self.batch_max_bytes}"
            )
        return self

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Host names, in lower case, under which the service may be addressed; ``*`` allows any."""
        return frozenset({*LOOPBACK, self.host.lower(), *self.hosts})

    @property
    def decoded_bytes(self) -> int:
        """Bytes that decoding may use; an image that needs more is refused."""
        return self.max_decoded_bytes or min(default_limit(), MOST_DECODED_BYTES)

    @property
    def worker_count(self) -> int:
        """By default one worker more than cores, so that a slow image leaves a worker for quick ones even on a single core."""
        return self.workers or (self.threads or usable_cores()) + 1


def load_settings() -> Settings:
    """Reads the environment.

    Raises:
        SettingsError: a variable is out of bounds or cannot be parsed.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for item in error.errors():
            variable = f"AIDERM_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
            received = f". Received: {item['input']!r}" if item["loc"] else ""
            lines.append(f"{variable}{item['msg']}{received}")
        raise SettingsError("\n".join(lines)) from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def unknown_settings() -> list[str]:
    """Warns of ``AIDERM_*`` variables that are not settings: a misspelt one could silently leave the service open."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    warnings = []
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            warnings.append(f"{variable} is no setting of the API" + (f"; did you mean {near[0]}?" if near else ""))
    return warnings
