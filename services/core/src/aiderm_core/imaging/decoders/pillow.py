"""Shared by the decoders that use Pillow: turns its exceptions into refusals, and reduces deep samples to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from aiderm_core.imaging.errors import ImageError, truncated, undecodable

_TRUNCATION = ("truncat", "premature", "unexpected end", "not enough")


@contextmanager
def refusing(data: bytes, name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into the refusal of a file of format ``name``.

    Raises:
        ImageError: without the decoder's exception, whose traceback would keep its buffers alive.
    """
    refusal: ImageError | None = None
    try:
        yield
    except ImageError as error:
        refusal = ImageError(error.code, error.detail)
    # Pillow's plugins raise whatever a broken file provokes: OSError, SyntaxError, struct.error, KeyError, zlib.error ...
    except Exception as error:
        early = isinstance(error, EOFError) or any(sign in str(error).lower() for sign in _TRUNCATION)
        refusal = truncated(data, name) if early else undecodable(data, name)
    if refusal is not None:
        try:
            raise refusal
        finally:
            del refusal  # its traceback would keep this frame, and so the file, alive


def to_8_bit(image: Image.Image, bits: int, notes: list[str], white_is_zero: bool = False) -> Image.Image:
    """Reduces samples of ``bits`` bits to their 8 high bits.

    Raises:
        ImageError: the samples have no fixed range.
    """
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)
        # Pillow returns 12-bit samples unscaled in 16 bits.
        samples = samples >> (bits - 8 if 8 < bits < 16 else 8)
        if white_is_zero:
            samples = 255 - samples
        notes.append("reduced_to_8_bit")
        return Image.fromarray(samples.astype(np.uint8), "L")
    if image.mode in ("I", "F"):
        raise ImageError("undecodable", f"Received samples of {bits} bits without a fixed range; allowed: 8 or 16 bits unsigned.")
    if bits == 16:  # Pillow has already reduced 16-bit RGB to the high bytes
        notes.append("reduced_to_8_bit")
    return image
