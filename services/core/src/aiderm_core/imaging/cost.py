"""How many bytes decoding an image holds at once, estimated from its header before any decoder runs."""

from __future__ import annotations

from aiderm_core.imaging.headers import Header
from aiderm_core.imaging.headers.bmp import BmpHeader
from aiderm_core.imaging.headers.jpeg import JpegHeader
from aiderm_core.imaging.headers.png import PngHeader
from aiderm_core.imaging.headers.tiff import TiffHeader
from aiderm_core.imaging.headers.webp import WebpHeader

# Below this an image costs no more than its decoder's fixed buffers.
_LEAST = 1_000_000
_HANDED_OVER = 6  # bytes a pixel: the decoder's own pixels, and those that both processes see
_COEFFICIENT = 2  # bytes, kept for every sample of a progressive JPEG at any scale


def decoding_bytes(header: Header, scale: int = 1, *, apart: bool = False) -> int:
    """Bytes that decoding a file holds at once, at most.

    The factors for JPEG, PNG and WebP are the growth of the peak resident memory over files of 12 megapixels, rounded up, and
    leave room for a turn. Those for BMP, GIF and TIFF are what their decoders hold by design, not measured.

    Args:
        header: as the file declares it.
        scale: 1, 2, 4 or 8, by which a JPEG is reduced each way while it is decoded.
        apart: in a process of its own, which holds the pixels once more while it hands them over.
    """
    factor = max(_factor(header, scale), _HANDED_OVER if apart else 0)
    return max(_LEAST, header.width * header.height * factor // scale**2)


def _factor(header: Header, scale: int) -> int:
    turned = 3 if header.orientation != 1 else 0
    match header:
        case JpegHeader():
            samples = {1: 4, 3: 4, 4: 8}[header.channels]
            kept = header.channels * _COEFFICIENT * scale**2 if header.scans > 1 else 0
            return max(samples + kept, samples + turned)
        case PngHeader() if not header.large:
            return 20
        case PngHeader() if header.bits == 8 and not header.transparent and header.channels != 2:
            return 12 if header.channels == 4 else 7
        case PngHeader():
            return 20
        case WebpHeader():
            return 13 if header.channels == 4 else 10
        case BmpHeader():
            return 14
        case TiffHeader():
            return 14 + 4 * header.channels * (2 if header.bits > 8 else 1)
    return 14
