"""Decodes what the fast decoders do not: every format through Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from aiderm_core.imaging.colour import to_srgb
from aiderm_core.imaging.errors import ImageError, check_size, truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers import Header, tiff_orientation
from aiderm_core.imaging.limits import Limits

# The plugins' classes are called directly: Image.open would add a warning about large images that depends on a global.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "gif": GifImagePlugin.GifImageFile,
}
_TRUNCATION = ("truncat", "premature", "unexpected end")


def decode(
    data: bytes, name: str, header: Header, limits: Limits, scale: int, notes: list[str]
) -> tuple[Pixels, int, tuple[int, int]]:
    """Decodes a file's first frame.

    Returns:
        pixels as stored, uint8 ``[H, W, 3]`` in sRGB; their EXIF orientation; width and height in full before it is applied.

    Raises:
        ImageError: undecodable, truncated, too_many_pixels or too_small.
    """
    refusal: ImageError
    try:
        with _open(data, name, notes) as image:
            check_size(*image.size, limits)  # the decoder's word counts, should it differ from the header's
            if header.more_frames or (name in ("gif", "png", "webp") and getattr(image, "is_animated", False)):
                notes.append("first_frame")
            if scale > 1:
                image.draft(image.mode, (image.width // scale, image.height // scale))
            image.load()
            if scale == 1:
                check_size(*image.size, limits)
            size = image.size if scale == 1 else (header.width, header.height)
            orientation = header.orientation if name == "jpeg" else _orientation(image)
            return np.array(to_srgb(image, notes), np.uint8), orientation, size
    except ImageError as error:
        refusal = ImageError(error.code, error.detail)
    # Pillow's plugins raise whatever a broken file provokes: OSError, SyntaxError, struct.error, KeyError, zlib.error ...
    except Exception as error:
        text = str(error).lower()
        if isinstance(error, Image.DecompressionBombError):  # a GIF's frame, larger than its screen
            refusal = ImageError("too_many_pixels", f"Received a frame with more pixels; allowed: at most {limits.max_pixels:,}.")
        elif isinstance(error, EOFError) or any(sign in text for sign in _TRUNCATION):
            refusal = truncated(data, name)
        else:
            refusal = undecodable(data, name)
    # Raised here, without the decoder's exception: its traceback would keep the decoder's buffers alive.
    raise refusal


def _open(data: bytes, name: str, notes: list[str]) -> ImageFile.ImageFile:
    try:
        return _PLUGINS[name](io.BytesIO(data))
    except Exception:
        # Pillow refuses a PNG for a broken profile; its pixels do not depend on one.
        start = data.find(b"iCCP") - 4 if name == "png" else -1
        if start < 8 or start > data.find(b"IDAT"):
            raise
        length = int.from_bytes(data[start : start + 4], "big")
        image = _PLUGINS[name](io.BytesIO(data[:start] + data[start + 12 + length :]))
        notes.append("icc_ignored")
        return image


def _orientation(image: Image.Image) -> int:
    # PNG and WebP keep EXIF where only their decoder finds it; Pillow turns a TIFF itself and then drops the tag.
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return tiff_orientation(exif)
    tags = getattr(image, "tag_v2", None)
    value = tags.get(274, 1) if tags is not None else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
