"""Decodes the bytes of an upload or a training file to checked, upright sRGB pixels: the project's only decode path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiderm_core.imaging import processes
from aiderm_core.imaging.budget import Budget
from aiderm_core.imaging.cost import decoding_bytes
from aiderm_core.imaging.decoders import bmp, dicom, gif, jpeg, png, tiff, webp
from aiderm_core.imaging.effort import QUICK_SECONDS, decoding_seconds
from aiderm_core.imaging.errors import ImageError, check_size, truncated
from aiderm_core.imaging.formats import ALLOWED, describe, sniff
from aiderm_core.imaging.geometry import Pixels, upright
from aiderm_core.imaging.headers import Header, HeaderError, read_header
from aiderm_core.imaging.headers.bmp import RLE4, RLE8, BmpHeader
from aiderm_core.imaging.headers.dicom import JPEG_2000, RLE, DicomHeader
from aiderm_core.imaging.headers.gif import GifHeader
from aiderm_core.imaging.headers.jpeg import JpegHeader
from aiderm_core.imaging.headers.png import PngHeader
from aiderm_core.imaging.headers.tiff import TiffHeader
from aiderm_core.imaging.headers.webp import WebpHeader
from aiderm_core.imaging.image import DecodedImage
from aiderm_core.imaging.limits import DEFAULT_LIMITS, Limits

QUALITY_SIDE = 224
"""Side in pixels at which an image's quality is measured."""
_SPARE = 2  # decoding at a reduced scale leaves at least this many times the needed side, so that resizing still averages areas
_QUICK_RUN_LENGTH_PIXELS = 1_000_000
_QUICK_JPEG_PIXELS = 150_000_000  # pixels times scans: takes about a second


@dataclass(frozen=True)
class DecodePlan:
    """How a file would be decoded, derived from its header.

    Attributes:
        name: name of the format.
        header: the file's header.
        scale: 1, 2, 4 or 8, by which each side of a JPEG is reduced.
        cost: most bytes that decoding holds at once.
        seconds: most seconds on one core that decoding takes.
        apart: whether to decode in a separate process, which can be stopped.
    """

    name: str
    header: Header
    scale: int
    cost: int
    seconds: float
    apart: bool


def plan(data: bytes, limits: Limits = DEFAULT_LIMITS, size: int | None = None, *, stoppable: bool = True) -> DecodePlan:
    """Reads a file's header and decides how to decode it, without decoding anything.

    Args:
        data: a file's bytes.
        limits: size limits for the image.
        size: as for ``decode_image``.
        stoppable: there is a deadline at which decoding must end, so slow images are decoded in a separate process.

    Raises:
        ImageError: the file is refused because of its header.
    """
    name, header = _examine(data, limits)
    scale = _scale(header, size)
    seconds = decoding_seconds(header, len(data), scale)
    apart = _may_overrun(header) or (stoppable and seconds > QUICK_SECONDS)
    return DecodePlan(name, header, scale, decoding_bytes(header, len(data), scale, apart=apart), seconds, apart)


def check_budget(planned: DecodePlan, budget: Budget) -> None:
    """Checks that an image can fit into ``budget``.

    Raises:
        ImageError: it never can.
    """
    if planned.cost > budget.largest:
        header = planned.header
        received = f"a {planned.name.upper()} file of {header.width} x {header.height} pixels"
        raise ImageError(
            "too_many_pixels",
            f"Received {received}, which takes {planned.cost:,} bytes to decode; allowed: at most {budget.largest:,}.",
        )


def decode_image(data: bytes, limits: Limits = DEFAULT_LIMITS, size: int | None = None) -> DecodedImage:
    """Decodes a file's first frame to upright sRGB.

    The format comes from the magic bytes and the size from the header, before any pixel is decoded. Transparent parts
    become white, as viewers show them. The same bytes always give the same pixels.

    Args:
        data: a file's bytes.
        limits: size limits for the image.
        size: side of the model's input, if only the input and the quality are needed. A large JPEG is then decoded at a half, a
            quarter or an eighth of its size, as long as that leaves twice this side (and twice ``QUALITY_SIDE``), which takes a
            fraction of the time and memory. None: full size.

    Raises:
        ImageError: the file cannot be decoded faithfully, or lies outside ``limits``.
    """
    with decoding(data, limits, size) as image:
        return image


@contextmanager
def decoding(
    data: bytes,
    limits: Limits = DEFAULT_LIMITS,
    size: int | None = None,
    budget: Budget | None = None,
    deadline: float | None = None,
    planned: DecodePlan | None = None,
) -> Iterator[DecodedImage]:
    """As ``decode_image``, within a memory budget and a deadline. Do not keep the pixels after the block.

    Args:
        data, limits, size: as for ``decode_image``.
        budget: holds the bytes that decoding takes until the block ends.
        deadline: for waiting and decoding, as ``time.monotonic`` counts.
        planned: result of ``plan`` for the same arguments, if it was called before.

    Raises:
        ImageError: as for ``decode_image``, or the image would never fit into ``budget``.
        BudgetTimeoutError: ``budget`` had no room before the deadline.
        DecodeTimeoutError: the image was not decoded before the deadline.
    """
    if planned is None:
        planned = plan(data, limits, size, stoppable=deadline is not None)
    if budget is None:
        yield _decode(data, planned, limits, size, deadline)
        return
    check_budget(planned, budget)
    with budget.admit(planned.cost, deadline):
        yield _decode(data, planned, limits, size, deadline)


def decode_here(data: bytes, limits: Limits, size: int | None) -> DecodedImage:
    """As ``decode_image``, but always in this process; the decoder processes use it.

    Raises:
        ImageError: as for ``decode_image``.
    """
    name, header = _examine(data, limits)
    return _decode_examined(data, name, header, _scale(header, size))


def _decode_examined(data: bytes, name: str, header: Header, scale: int) -> DecodedImage:
    notes: list[str] = []
    pixels = _decode_stored(data, header, scale, notes)
    width, height = header.width, header.height
    if header.orientation != 1:
        notes.append("oriented")
    if header.orientation > 4:
        width, height = height, width
    return DecodedImage(name, width, height, tuple(notes), upright(pixels, header.orientation), spacing=_spacing(header))


def _spacing(header: Header) -> tuple[float, float] | None:
    return header.spacing if isinstance(header, DicomHeader) else None


def _examine(data: bytes, limits: Limits) -> tuple[str, Header]:
    """Returns the format and header of a file that may be decoded.

    Raises:
        ImageError: the file must not be decoded.
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
        if error.size is not None:
            check_size(*error.size, limits)
        code = "truncated" if error.truncated else "undecodable"
        raise ImageError(code, f"{error} Received {len(data):,} bytes; allowed: a complete {ALLOWED}.") from None
    check_size(header.width, header.height, limits)
    if not header.complete:
        raise truncated(data, name)
    return name, header


def _decode(data: bytes, planned: DecodePlan, limits: Limits, size: int | None, deadline: float | None) -> DecodedImage:
    if not planned.apart:
        return _decode_examined(data, planned.name, planned.header, planned.scale)
    return processes.shared().decode(data, limits, size, planned.cost, deadline)


def _may_overrun(header: Header) -> bool:
    """Whether the header does not tightly bound the decoder's time and memory, or decoding is simply slow."""
    match header:
        case TiffHeader() | GifHeader():
            return True
        case BmpHeader():
            return header.compression in (RLE8, RLE4) and header.width * header.height > _QUICK_RUN_LENGTH_PIXELS
        case DicomHeader(jpeg=None):
            return header.coding in (JPEG_2000, RLE)
        case DicomHeader(jpeg=inner) if inner is not None:
            return _may_overrun(inner)
        case JpegHeader():
            return header.scans > 1 and header.scans * header.width * header.height > _QUICK_JPEG_PIXELS
    return False


def _decode_stored(data: bytes, header: Header, scale: int, notes: list[str]) -> Pixels:
    match header:
        case JpegHeader():
            return jpeg.decode(data, header, scale, notes)
        case PngHeader():
            return png.decode(data, header, notes)
        case WebpHeader():
            return webp.decode(data, header, notes)
        case BmpHeader():
            return bmp.decode(data, header, notes)
        case GifHeader():
            return gif.decode(data, header, notes)
        case TiffHeader():
            return tiff.decode(data, header, notes)
        case DicomHeader():
            return dicom.decode(data, header, scale, notes)
    raise TypeError(f"there is no decoder for {type(header).__name__}")


def _scale(header: Header, size: int | None) -> int:
    if size is None or not (isinstance(header, JpegHeader) or (isinstance(header, DicomHeader) and header.jpeg)):
        return 1
    least = _SPARE * max(size, QUALITY_SIDE)
    return next((scale for scale in (8, 4, 2) if min(header.width, header.height) // scale >= least), 1)
