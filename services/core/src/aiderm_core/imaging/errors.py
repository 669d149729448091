"""Defines the errors of decoding: the file is refused, or the deadline has passed."""

from __future__ import annotations

from aiderm_core.imaging.formats import ALLOWED
from aiderm_core.imaging.limits import Limits


class ImageError(ValueError):
    """A file that cannot be assessed.

    Attributes:
        code: empty_file, unsupported_type, undecodable, truncated, too_small, too_many_pixels or too_large.
        detail: text for the person who sent the file: what was received and what is allowed.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class DecodeTimeoutError(TimeoutError):
    """The deadline passed before the image was decoded; decoding has stopped."""


def truncated(data: bytes, name: str) -> ImageError:
    """Builds the error for a file of format ``name`` that is incomplete or damaged."""
    detail = f"Received a {name.upper()} file that is incomplete or damaged ({len(data):,} bytes); send the original file again."
    return ImageError("truncated", detail)


def undecodable(data: bytes, name: str, cause: str = "cannot be decoded") -> ImageError:
    """Builds the error for a file of format ``name``; ``cause`` completes the clause "a file that"."""
    detail = f"Received a {name.upper()} file ({len(data):,} bytes) that {cause}; allowed: {ALLOWED}."
    return ImageError("undecodable", detail)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Checks an image's size against ``limits``.

    Raises:
        ImageError: too_many_pixels or too_small.
    """
    if width * height > limits.max_pixels:
        received = f"{width} x {height} = {width * height:,} pixels"
        raise ImageError("too_many_pixels", f"Received {received}; allowed: at most {limits.max_pixels:,}.")
    if min(width, height) < limits.min_side:
        allowed = f"a shorter side of at least {limits.min_side}"
        raise ImageError("too_small", f"Received {width} x {height} pixels; allowed: {allowed}.")
