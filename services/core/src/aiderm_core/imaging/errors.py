"""What decoding raises: a refusal of the file, or the end of the time that it was given."""

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
    """The deadline passed before the image was decoded; work on it has stopped."""


def truncated(data: bytes, name: str) -> ImageError:
    """The refusal of a file of format ``name`` that is incomplete or damaged."""
    detail = f"Received a {name.upper()} file that is incomplete or damaged ({len(data):,} bytes); send the original file again."
    return ImageError("truncated", detail)


def undecodable(data: bytes, name: str, cause: str = "cannot be decoded") -> ImageError:
    """The refusal of a file of format ``name`` that ``cause``."""
    detail = f"Received a {name.upper()} file ({len(data):,} bytes) that {cause}; allowed: {ALLOWED}."
    return ImageError("undecodable", detail)


def check_size(width: int, height: int, limits: Limits) -> None:
    """Holds an image's size against ``limits``.

    Raises:
        ImageError: too_many_pixels or too_small.
    """
    if width * height > limits.max_pixels:
        received = f"{width} x {height} = {width * height:,} pixels"
        raise ImageError("too_many_pixels", f"Received {received}; allowed: at most {limits.max_pixels:,}.")
    if min(width, height) < limits.min_side:
        allowed = f"a shorter side of at least {limits.min_side}"
        raise ImageError("too_small", f"Received {width} x {height} pixels; allowed: {allowed}.")
