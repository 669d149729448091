"""How many bytes decoding an image holds at once, estimated from its header before any decoder runs."""

from __future__ import annotations

from aiderm_core.imaging.headers import Header

# Bytes a pixel, measured as the growth of the peak resident memory over files of 12 and 50 megapixels: what the decoder holds,
# and the conversions after it.
_BYTES = {"webp": 28, "bmp": 10, "gif": 10, "tiff": 20}
_PLAIN_PNG, _OTHER_PNG = 13, 20
_PLAIN_JPEG, _OTHER_JPEG = 6, 13
_COEFFICIENT = 2  # bytes, kept for every sample of a progressive JPEG at any scale
# Below this an image costs no more than its decoder's fixed buffers.
_LEAST = 1_000_000


def decoding_bytes(name: str, header: Header, scale: int = 1) -> int:
    """Bytes that decoding a file of format ``name`` holds at once, at most.

    Args:
        name: jpeg, png, webp, bmp, tiff or gif.
        header: as the file declares it.
        scale: 1, 2, 4 or 8, by which a JPEG is reduced each way while it is decoded.
    """
    pixels = header.width * header.height
    if name == "jpeg":
        cost = pixels * (_PLAIN_JPEG if header.plain else _OTHER_JPEG) // scale**2
        if header.progressive:
            cost += pixels * header.channels * _COEFFICIENT
    elif name == "png":
        cost = pixels * (_PLAIN_PNG if header.channels in (1, 3) and header.bits <= 8 else _OTHER_PNG)
    else:
        cost = pixels * _BYTES[name]
    return max(_LEAST, cost)
