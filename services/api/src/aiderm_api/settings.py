"""Every setting of the service: one typed, bounded class, read from ``AIDERM_*``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aiderm_core.manifest import NAME_PATTERN

MEGABYTE = 1_000_000


class SettingsError(ValueError):
    """Settings that cannot be used; the text names each variable, what it held and what is allowed."""


class Settings(BaseSettings):
    """The environment variable of ``models_dir`` is ``AIDERM_MODELS_DIR``, and so on."""

    model_config = SettingsConfigDict(env_prefix="AIDERM_", extra="ignore", frozen=True, env_ignore_empty=True)

    models_dir: Path = Path("models")
    default_model: Annotated[str, Field(pattern=NAME_PATTERN)] = "melanoma"
    runtime: Literal["openvino", "tensorflow"] = "openvino"
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600, description="how often SERVING files are looked at")] = 3.0

    workers: Annotated[int, Field(ge=1, le=64, description="threads that decode and infer, each with a request of its own")] = 2
    threads: Annotated[int | None, Field(ge=1, le=256, description="cores for one inference; all of them when unset")] = None
    queue_size: Annotated[int, Field(ge=1, le=10_000, description="pictures that may wait for a worker")] = 32
    deadline_seconds: Annotated[float, Field(gt=0, le=600, description="from the complete upload to the answer")] = 15.0
    upload_seconds: Annotated[float, Field(gt=0, le=3600, description="for the upload to arrive")] = 120.0
    drain_seconds: Annotated[int, Field(ge=0, le=600, description="for requests in progress when the service stops")] = 20

    max_upload_bytes: Annotated[int, Field(ge=1_000, le=1_000 * MEGABYTE)] = 20 * MEGABYTE
    max_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 50_000_000
    min_side: Annotated[int, Field(ge=1, le=10_000)] = 100
    batch_max_files: Annotated[int, Field(ge=1, le=1_000)] = 16
    batch_max_bytes: Annotated[int, Field(ge=1_000, le=10_000 * MEGABYTE)] = 60 * MEGABYTE
    max_inflight_bytes: Annotated[int, Field(ge=1_000, description="uploads in memory, of all requests")] = 256 * MEGABYTE

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

    @field_validator("log_level", "log_format", "runtime", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Comma-separated in the environment."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not origin.startswith(("http://", "https://")):
                # "*" as well: any page on the web could then use a service inside a hospital's network.
                raise ValueError("each origin must be http://host or https://host; * is not allowed")
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
