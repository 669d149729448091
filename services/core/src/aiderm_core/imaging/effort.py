"""Estimates how long decoding an image takes, from its header and before any decoder runs."""

from __future__ import annotations

from aiderm_core.imaging.headers import Header
from aiderm_core.imaging.headers.bmp import RLE4, RLE8, BmpHeader
from aiderm_core.imaging.headers.dicom import JPEG_2000, DicomHeader
from aiderm_core.imaging.headers.gif import GifHeader
from aiderm_core.imaging.headers.jpeg import JpegHeader
from aiderm_core.imaging.headers.png import PngHeader
from aiderm_core.imaging.headers.tiff import LZW, TiffHeader
from aiderm_core.imaging.headers.webp import WebpHeader

QUICK_SECONDS = 0.25
"""An image that may take longer is slow: it is decoded in a process that can be stopped, and does not delay quick images."""
_MEGA = 1_000_000


def decoding_seconds(header: Header, stored: int, scale: int = 1) -> float:
    """The most seconds on one core that decoding a file takes.

    The factors are seconds per megapixel and per megabyte, measured with noise images of 6 megapixels, which compression does
    not shrink.

    Args:
        header: the file's header.
        stored: size of the file in bytes.
        scale: 1, 2, 4 or 8, by which each side of a JPEG is reduced during decoding.
    """
    megapixels, megabytes = header.width * header.height / _MEGA, stored / _MEGA
    by_pixel, by_byte = _factors(header)
    decoded = megapixels / scale**2
    profile = 0.1 if header.profile is not None or header.channels == 4 else 0.0
    turned = 0.015 if header.orientation != 1 else 0.0
    return megapixels * by_pixel + megabytes * by_byte + decoded * (profile + turned)


def _factors(header: Header) -> tuple[float, float]:
    match header:
        case JpegHeader():
            return 0.005 * header.scans, 0.014
        case PngHeader():
            return (0.045 if header.bits <= 8 and header.channels in (1, 3) and not header.transparent else 0.08), 0.002
        case WebpHeader():
            return 0.1, 0.002
        case BmpHeader():
            return 0.02, 0.8 if header.compression in (RLE8, RLE4) else 0.001
        case GifHeader():
            return 0.02, 0.75
        case DicomHeader(jpeg=inner) if inner is not None:
            return _factors(inner)
        case DicomHeader():
            return (0.05, 0.2) if header.coding == JPEG_2000 else (0.03, 0.05)
        case TiffHeader():
            return 0.05, 0.9 if header.compression == LZW else 0.02
    return 0.1, 1.0
