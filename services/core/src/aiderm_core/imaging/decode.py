"""The one decode path: bytes of an upload or a training file -> checked, upright sRGB pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from aiderm_core.imaging import pillow_decoder
from aiderm_core.imaging.budget import DecodeBudget
from aiderm_core.imaging.cost import decoding_bytes
from aiderm_core.imaging.errors import ImageError, check_size, truncated, undecodable
from aiderm_core.imaging.formats import ALLOWED, describe, sniff
from aiderm_core.imaging.geometry import Pixels, upright
from aiderm_core.imaging.headers import Header, HeaderError, read_header
from aiderm_core.imaging.limits import DEFAULT_LIMITS, Limits

_JPEG_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The scale's bit alone: the names with COLOR in them ask for blue first as well.
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

QUALITY_SIDE = 224
"""Side in pixels at which an image's quality is measured."""
_SPARE = 2  # a reduced decoding leaves this many times the side that is needed, so that what follows still averages areas


@dataclass(frozen=True)
class ImageInfo:
    """What an answer says of an image.

    Attributes:
        format: jpeg, png, webp, bmp, tiff or gif.
        width: of the upright image in full.
        height: of the upright image in full.
        notes: codes of what was done to decode it: ``first_frame``, ``oriented``, ``alpha_flattened``, ``reduced_to_8_bit``,
            ``icc_converted``, ``icc_ignored``, ``cmyk_converted``.
    """

    format: str
    width: int
    height: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DecodedImage(ImageInfo):
    """An upright image.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB in sRGB; all of them, or a half, a quarter or an eighth each way.
    """

    pixels: Pixels

    @property
    def info(self) -> ImageInfo:
        """The same without the pixels."""
        return ImageInfo(self.format, self.width, self.height, self.notes)


def decode_image(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    size: int | None = None,
    budget: DecodeBudget | None = None,
    deadline: float | None = None,
) -> DecodedImage:
    """Decodes a file's first frame to upright sRGB.

    The format comes from the magic bytes and the size from the header, before any pixel is decoded. Transparent parts
    become white, as viewers show them. The same bytes give the same pixels.

    Args:
        data: a file's bytes.
        limits: what the image may measure.
        size: side of the model's input, where only that and the quality are wanted. A JPEG so large that a half, a quarter or
            an eighth of it each way leaves twice that side (and twice ``QUALITY_SIDE``) is decoded at that scale, which takes a
            fraction of the time and memory. None: every pixel.
        budget: holds the bytes that decoding takes, until this returns; ``decoding`` holds them until the pixels are used.
        deadline: as ``time.monotonic`` counts; for waiting and decoding.

    Raises:
        ImageError: the file cannot be decoded faithfully, lies outside ``limits``, or would never fit into ``budget``.
        BudgetTimeoutError: no room in ``budget`` before the deadline.
        DecodeTimeoutError: not decoded before the deadline.
    """
    with decoding(data, limits, size, budget, deadline) as image:
        return image


@contextmanager
def decoding(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    size: int | None = None,
    budget: DecodeBudget | None = None,
    deadline: float | None = None,
) -> Iterator[DecodedImage]:
    """As ``decode_image``, but the budget is held until the block ends: keep the pixels no longer than that."""
    name, header = _examine(data, limits)
    scale = 1 if size is None or name != "jpeg" else _reduction(header.width, header.height, size)
    if budget is None:
        yield _decode(data, name, header, limits, scale)
        return
    cost = decoding_bytes(name, header, scale)
    if cost > budget.limit:
        received = f"a {name.upper()} file of {header.width} x {header.height} pixels, which takes {cost:,} bytes to decode"
        raise ImageError("too_many_pixels", f"Received {received}; allowed: at most {budget.limit:,}.")
    with budget.admit(cost, deadline):
        yield _decode(data, name, header, limits, scale)


def _examine(data: bytes, limits: Limits) -> tuple[str, Header]:
    """Format and header of a file that may be decoded.

    Raises:
        ImageError: it may not.
    """
    if not data:
        raise ImageError("empty_file", f"Received an empty file; allowed: {ALLOWED}.")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"Received {len(data):,} bytes; allowed: at most {limits.max_bytes:,}.")
    name = sniff(data)
    if name is None:
        raise ImageError("unsupported_type", f"Received {describe(data)}; allowed: {ALLOWED}.")
    try:
        header = read_header(data, name)
    except HeaderError as error:
        code = "truncated" if error.truncated else "undecodable"
        raise ImageError(code, f"{error} Received {len(data):,} bytes; allowed: a complete {ALLOWED}.") from None
    check_size(header.width, header.height, limits)
    if not header.complete:
        raise truncated(data, name)
    return name, header


def _decode(data: bytes, name: str, header: Header, limits: Limits, scale: int) -> DecodedImage:
    notes: list[str] = []
    if header.plain:
        pixels, orientation = _decode_plain_jpeg(data, header, scale), header.orientation
        width, height = header.width, header.height
    else:
        pixels, orientation, (width, height) = pillow_decoder.decode(data, name, header, limits, scale, notes)
    if orientation != 1 or header.orientation != 1:
        notes.append("oriented")
    if orientation > 4:
        width, height = height, width
    return DecodedImage(name, width, height, tuple(notes), upright(pixels, orientation))


def _reduction(width: int, height: int, size: int) -> int:
    least = _SPARE * max(size, QUALITY_SIDE)
    return next((scale for scale in (8, 4, 2) if min(width, height) // scale >= least), 1)


def _decode_plain_jpeg(data: bytes, header: Header, scale: int) -> Pixels:
    # OpenCV and Pillow give the same pixels here; OpenCV is faster, and leaves orientation to us.
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _JPEG_FLAGS | _REDUCED[scale])
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None or pixels.shape != (-(-header.height // scale), -(-header.width // scale), 3):
        raise undecodable(data, "jpeg")
    return np.asarray(pixels, np.uint8)
