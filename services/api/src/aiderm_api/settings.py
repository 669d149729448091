"""Every setting of the service: one typed, bounded class, read from ``AIDERM_*``."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aiderm_core.bundle.manifest import NAME_PATTERN
from aiderm_core.runtime import Precision
from aiderm_core.runtime.cores import usable_cores

MEGABYTE = 1_000_000
PREFIX = "AIDERM_"
# As browsers send it: no path, no closing slash, lower case.
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


class SettingsError(ValueError):
    """Settings that cannot be used; the text names each variable, what it held and what is allowed."""


class KeysFile(BaseSettings):
    """Where the keys are: all that ``aiderm-api keys`` needs to know."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    keys_file: Annotated[Path | None, Field(description="of aiderm-api keys; where it is set, requests need a key")] = None


class Settings(KeysFile):
    """The environment variable of ``models_dir`` is ``AIDERM_MODELS_DIR``, and so on."""

    models_dir: Path = Path("models")
    default_model: Annotated[str, Field(pattern=NAME_PATTERN)] = "melanoma"
    runtime: Literal["openvino", "tensorflow"] = "openvino"
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600, description="how often SERVING files are looked at")] = 3.0

    precision: Annotated[Precision, Field(description="of the form that serves; a bundle that does not offer it is refused")] = (
        "f32"
    )
    threads: Annotated[int | None, Field(ge=1, le=256, description="cores to use; all of them when unset")] = None
    workers: Annotated[
        int | None, Field(ge=1, le=256, description="pictures at work at once; one more than cores when unset")
    ] = None
    queue_size: Annotated[int, Field(ge=1, le=10_000, description="pictures that may wait for a worker")] = 128
    deadline_seconds: Annotated[float, Field(gt=0, le=600, description="from the complete upload to the answer")] = 15.0
    upload_seconds: Annotated[float, Field(gt=0, le=3600, description="for the upload to arrive")] = 120.0
    drain_seconds: Annotated[int, Field(ge=0, le=600, description="for requests in progress when the service stops")] = 20

    max_upload_bytes: Annotated[int, Field(ge=1_000, le=1_000 * MEGABYTE)] = 20 * MEGABYTE
    max_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=10_000)] = 100
    batch_max_files: Annotated[int, Field(ge=1, le=1_000)] = 16
    batch_max_bytes: Annotated[int, Field(ge=1_000, le=10_000 * MEGABYTE)] = 60 * MEGABYTE
    max_inflight_bytes: Annotated[int, Field(ge=1_000, description="uploads in memory, of all requests")] = 100 * MEGABYTE

    key_rate: Annotated[float, Field(gt=0, le=10_000, description="pictures a second for a key without a rate of its own")] = 5.0
    key_burst: Annotated[int, Field(ge=1, le=100_000, description="pictures that such a key may send at once")] = 20

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    limit_concurrency: Annotated[int, Field(ge=1, le=100_000, description="open connections")] = 1_000
    keep_alive_seconds: Annotated[int, Field(ge=1, le=600)] = 75
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    docs: bool = True
    metrics: bool = True
    frontend_dir: Annotated[Path | None, Field(description="serve this folder at / too, and the API under /api")] = None
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    audit: Annotated[str, Field(description="off, stdout, or a file that gets one line an answer")] = "off"
    drift_window: Annotated[int, Field(ge=100, le=1_000_000, description="latest answers, compared with the reference")] = 1_000

    @field_validator("log_level", "log_format", "runtime", "precision", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Comma-separated in the environment; browsers write origins in lower case."""
        return tuple(part.strip().lower() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                # "*" as well: any page on the web could then use a service inside a hospital's network.
                raise ValueError("each origin must be http(s)://host or http(s)://host:port, and end there; * is not allowed")
        return value

    @field_validator("frontend_dir")
    @classmethod
    def _page(cls, value: Path | None) -> Path | None:
        if value is not None and not (value / "index.html").is_file():
            raise ValueError("must be a folder that holds index.html")
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
    def pictures_at_once(self) -> int:
        """Workers: one more than cores, so that a picture is decoded while graphs run (measured: 5-10% more a second)."""
        return self.workers or (self.threads or usable_cores()) + 1


def load_settings() -> Settings:
    """Reads the environment.

    Raises:
        SettingsError: a variable that is out of bounds or unreadable.
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


def unknown_settings() -> list[str]:
    """What to tell of variables that look like settings and are none: a misspelt one leaves a door open that was to be shut."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    told = []
    for variable in sorted(os.environ):
        if variable.startswith(PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1)
            told.append(f"{variable} is no setting of the API" + (f"; did you mean {near[0]}?" if near else ""))
    return told
