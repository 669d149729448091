"""Estimates the peak memory that decoding an image takes, from its header and before any decoder runs."""

from __future__ import annotations

from aiderm_core.imaging.headers import Header
from aiderm_core.imaging.headers.bmp import RLE4, RLE8, BmpHeader
from aiderm_core.imaging.headers.dicom import JPEG_2000, NATIVE, PALETTE, RGB, RLE, DicomHeader
from aiderm_core.imaging.headers.gif import GifHeader
from aiderm_core.imaging.headers.jpeg import JpegHeader
from aiderm_core.imaging.headers.png import PngHeader
from aiderm_core.imaging.headers.tiff import JPEG, TiffHeader
from aiderm_core.imaging.headers.webp import WebpHeader

# The least cost of an image: its decoder's fixed buffers.
_LEAST = 1_000_000
_HANDED_OVER = 6  # bytes per pixel: the decoder's own pixels, and the copy that both processes share
_COEFFICIENT = 2  # bytes kept for every sample of a progressive JPEG at any scale
_BAND = 5_000_000  # bytes used while colours are converted band by band
_ROWS = 5_000_000  # bytes for the rows and tables of libpng and zlib, whatever the size of the image
_TURNED = 3  # bytes per pixel: the turned image in addition to the stored one


def decoding_bytes(header: Header, stored: int, scale: int = 1, *, apart: bool = False) -> int:
    """The most bytes that decoding a file holds at once; the file itself, which the caller holds, is not counted.

    The factors are the growth of peak resident memory for noise images of several megapixels, rounded up. A test compares them
    with the measured growth for every variant of every format.

    Args:
        header: the file's header.
        stored: size of the file in bytes.
        scale: 1, 2, 4 or 8, by which each side of a JPEG is reduced during decoding.
        apart: decoding runs in a separate process, which receives the file and holds a second copy of the pixels to hand over.
    """
    factor, copies = _factors(header, scale)
    if apart:
        factor, copies = max(factor, _HANDED_OVER), copies + 2
    fixed = _BAND if header.profile is not None or header.channels == 4 else 0
    if isinstance(header, PngHeader) and header.large:
        fixed += _ROWS
    return max(_LEAST, header.width * header.height * factor // scale**2 + fixed + copies * stored)


def _factors(header: Header, scale: int) -> tuple[int, int]:
    """Bytes per pixel, and the number of copies of the file that the decoder makes."""
    turned = _TURNED if header.orientation != 1 else 0
    match header:
        case JpegHeader():
            kept = header.channels * _COEFFICIENT * scale**2 if header.scans > 1 else 0
            return {1: 4, 3: 4, 4: 8}[header.channels] + kept + turned, 0
        case PngHeader() if header.large and header.bits == 8 and not header.transparent and header.channels != 2:
            return (9 if header.channels == 4 else 6) + turned, 0 if header.only_pixels else 2
        case PngHeader():
            return 20 + turned, 0 if header.only_pixels else 2
        case WebpHeader():
            return (13 if header.channels == 4 else 10) + turned, 1
        case BmpHeader():
            return (6 if header.compression in (RLE8, RLE4) else 14), 0
        case GifHeader():
            return 17, 1
        case DicomHeader(jpeg=inner) if inner is not None:
            return _factors(inner, scale)[0], 3
        case DicomHeader():
            if header.coding == JPEG_2000:
                return 32, 2
            return (4 if header.coding == NATIVE and header.colours in (RGB, PALETTE) else 13), 2 if header.coding == RLE else 1
        case TiffHeader() if header.compression == JPEG and not header.extra:
            return 2 * header.channels + (1 if header.channels == 3 else 4) + turned, 0
        case TiffHeader():
            return 14 + 4 * header.channels * (2 if header.planar and header.bits > 8 else 1) + turned, 2
    raise TypeError(f"there is no estimate for {type(header).__name__}")
