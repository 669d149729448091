"""The one decode path: bytes of an upload or a training file -> checked, oriented RGB -> model input."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
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

from aiderm_core.imaging.headers import ALLOWED, Header, HeaderError, describe, read_header, sniff, tiff_orientation
from aiderm_core.imaging.icc import lab_to_rgb, through_profile
from aiderm_core.imaging.polyglot import polyglot_type

Pixels = NDArray[np.uint8]

# The plugins' classes are called directly: Image.open would add a warning about large pictures that depends on a global.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "gif": GifImagePlugin.GifImageFile,
}
_TRUNCATION = ("truncat", "premature", "unexpected end")
_JPEG_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The scale's bit alone: the names with COLOR in them ask for blue first as well.
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}

QUALITY_SIDE = 224
"""Side in pixels at which a picture's quality is measured."""
_SPARE = 2  # times the side that is needed are left by a reduced decoding: what follows averages areas as it always does


@dataclass(frozen=True)
class Limits:
    """What a picture may measure: bytes of the file, pixels in all, pixels of the shorter side."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    min_side: int = 100


class ImageError(ValueError):
    """A file that cannot be judged.

    Attributes:
        code: empty_file, unsupported_type, undecodable, truncated, too_small, too_many_pixels or too_large.
        detail: text for whoever sent the file: what was received and what is allowed.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True)
class DecodedImage:
    """An upright picture.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB in sRGB; all of them, or a half, a quarter or an eighth each way.
        format: jpeg, png, webp, bmp, tiff or gif.
        width: of the upright picture in full.
        height: of the upright picture in full.
        notes: codes of what was done to get there: ``first_frame``, ``oriented``, ``alpha_flattened``, ``reduced_to_8_bit``,
            ``icc_converted``, ``icc_ignored``, ``cmyk_converted``.
    """

    pixels: Pixels
    format: str
    width: int
    height: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Region:
    """A rectangle of the upright picture, in pixels."""

    x: int
    y: int
    width: int
    height: int


def decode_image(data: bytes, limits: Limits = Limits(), size: int | None = None) -> DecodedImage:
    """Decodes a file's first frame to upright sRGB.

    The format comes from the magic bytes and the size from the header, before any pixel is decoded. Transparent parts
    become white, as viewers show them. The same bytes give the same pixels.

    Args:
        data: a file's bytes.
        limits: what the picture may measure.
        size: side of the model's input, where only that and the quality are wanted. A JPEG so large that a half, a quarter or
            an eighth of it each way leaves twice that side (and twice ``QUALITY_SIDE``) is decoded at that scale, which takes a
            fraction of the time and memory. None: every pixel.

    Raises:
        ImageError: anything that cannot be decoded whole, or lies outside ``limits``; no other exception leaves here.
    """
    if not data:
        raise ImageError("empty_file", f"Received an empty file; allowed: {ALLOWED}.")
    if len(data) > limits.max_bytes:
        raise ImageError("too_large", f"Received {len(data):,} bytes; allowed: at most {limits.max_bytes:,}.")
    name = sniff(data)
    if name is None:
        raise ImageError("unsupported_type", f"Received {describe(data)}; allowed: {ALLOWED}.")
    other = polyglot_type(data)
    if other is not None:
        raise ImageError(
            "unsupported_type", f"Received a {name.upper()} file that is {other} as well; allowed: a plain {ALLOWED}."
        )
    try:
        header = read_header(data, name)
    except HeaderError as error:
        code = "truncated" if error.truncated else "undecodable"
        raise ImageError(code, f"{error} Received {len(data):,} bytes; allowed: a complete {ALLOWED}.") from error
    _check_size(header.width, header.height, limits)
    if not header.complete:
        raise _truncated(data, name)
    notes: list[str] = []
    scale = 1 if size is None or name != "jpeg" else _reduction(header.width, header.height, size)
    if header.plain:
        pixels, orientation = _decode_plain_jpeg(data, header, scale), header.orientation
        width, height = header.width, header.height
    else:
        pixels, orientation, (width, height) = _decode_any(data, name, header, limits, scale, notes)
    if orientation != 1 or header.orientation != 1:
        notes.append("oriented")
    if orientation > 4:
        width, height = height, width
    return DecodedImage(_upright(pixels, orientation), name, width, height, tuple(notes))


def assessed_region(width: int, height: int, geometry: str = "center_square") -> Region:
    """The part of a ``width`` x ``height`` picture that the model judges: its largest centred square.

    Raises:
        ValueError: an unknown geometry or an empty picture.
    """
    if geometry != "center_square":
        raise ValueError(f"geometry must be center_square. Received: {geometry!r}")
    if width < 1 or height < 1:
        raise ValueError(f"a picture must have pixels. Received: {width} x {height}")
    side = min(width, height)
    return Region((width - side) // 2, (height - side) // 2, side, side)


def crop(pixels: Pixels, region: Region) -> Pixels:
    """A view of ``region`` in ``pixels`` ``[H, W, 3]``.

    Raises:
        ValueError: the region is empty or leaves the picture.
    """
    height, width = pixels.shape[:2]
    inside = region.x >= 0 and region.y >= 0 and region.x + region.width <= width and region.y + region.height <= height
    if not inside or region.width < 1 or region.height < 1:
        raise ValueError(f"the region must lie inside {width} x {height} pixels. Received: {region}")
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]


def to_model_input(pixels: Pixels, size: int, geometry: str = "center_square") -> Pixels:
    """Cuts the judged region out of uint8 ``[H, W, 3]`` and scales it to uint8 ``[size, size, 3]``.

    Shrinking averages areas, so that a large picture leaves no aliasing; enlarging interpolates.
    """
    height, width = pixels.shape[:2]
    region = assessed_region(width, height, geometry)
    square = crop(pixels, region)
    if region.width == size:
        return square.copy()
    method = cv2.INTER_AREA if region.width > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(square), (size, size), interpolation=method), np.uint8)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        received = f"{width} x {height} = {width * height:,} pixels"
        raise ImageError("too_many_pixels", f"Received {received}; allowed: at most {limits.max_pixels:,}.")
    if min(width, height) < limits.min_side:
        allowed = f"a shorter side of at least {limits.min_side}"
        raise ImageError("too_small", f"Received {width} x {height} pixels; allowed: {allowed}.")


def _truncated(data: bytes, name: str) -> ImageError:
    return ImageError(
        "truncated",
        f"Received a {name.upper()} file that ends before its picture does ({len(data):,} bytes); send it again whole.",
    )


def _undecodable(data: bytes, name: str, cause: str = "cannot be decoded") -> ImageError:
    return ImageError("undecodable", f"Received a {name.upper()} file ({len(data):,} bytes) that {cause}; allowed: {ALLOWED}.")


def _reduction(width: int, height: int, size: int) -> int:
    least = _SPARE * max(size, QUALITY_SIDE)
    return next((scale for scale in (8, 4, 2) if min(width, height) // scale >= least), 1)


def _decode_plain_jpeg(data: bytes, header: Header, scale: int) -> Pixels:
    # OpenCV and Pillow give the same pixels here; OpenCV is faster, and leaves orientation to us.
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _JPEG_FLAGS | _REDUCED[scale])
    except (cv2.error, MemoryError) as error:
        raise _undecodable(data, "jpeg") from error
    if pixels is None or pixels.shape != (-(-header.height // scale), -(-header.width // scale), 3):
        raise _undecodable(data, "jpeg")
    return np.asarray(pixels, np.uint8)


def _decode_any(
    data: bytes, name: str, header: Header, limits: Limits, scale: int, notes: list[str]
) -> tuple[Pixels, int, tuple[int, int]]:
    """Pixels, orientation, and the size in full before it is applied."""
    try:
        with _open(data, name, notes) as image:
            _check_size(*image.size, limits)  # the decoder's word counts, should it differ from the header's
            if header.more_frames or (name in ("gif", "png", "webp") and getattr(image, "is_animated", False)):
                notes.append("first_frame")
            if scale > 1:
                image.draft(image.mode, (image.width // scale, image.height // scale))
            image.load()
            if scale == 1:
                _check_size(*image.size, limits)
            size = image.size if scale == 1 else (header.width, header.height)
            rgb = _to_srgb(image, notes)
            orientation = header.orientation if name == "jpeg" else _orientation(image)
            pixels = np.array(rgb, np.uint8)
    except ImageError:
        raise
    # Pillow's plugins raise whatever a broken file provokes: OSError, SyntaxError, struct.error, KeyError, zlib.error ...
    except Exception as error:
        text = str(error).lower()
        if isinstance(error, Image.DecompressionBombError):  # a GIF's frame, larger than its screen
            raise ImageError(
                "too_many_pixels", f"Received a frame with more pixels; allowed: at most {limits.max_pixels:,}."
            ) from error
        if isinstance(error, EOFError) or any(sign in text for sign in _TRUNCATION):
            raise _truncated(data, name) from error
        raise _undecodable(data, name) from error
    return pixels, orientation, size


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


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation 1..8."""
    if orientation in (5, 7):  # mirrored along a diagonal: a transposition is a quarter turn after a flip
        pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
        orientation = {5: 8, 7: 6}[orientation]
    if orientation in _FLIPS:
        return np.asarray(cv2.flip(pixels, _FLIPS[orientation]), np.uint8)
    if orientation in _TURNS:
        return np.asarray(cv2.rotate(pixels, _TURNS[orientation]), np.uint8)
    return pixels


_FLIPS = {2: 1, 4: 0}
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def _to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode -> 8-bit RGB in sRGB on white."""
    profile = image.info.get("icc_profile")
    picture = _to_8_bit(image, notes)
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB")
    elif picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    converted = through_profile(picture, profile) if profile else None
    if profile and converted is not picture:
        notes.append("icc_ignored" if converted is None else "icc_converted")
    if converted is None:
        if picture.mode == "CMYK":
            notes.append("cmyk_converted")
        converted = lab_to_rgb(picture) if picture.mode == "LAB" else picture.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return converted
    notes.append("alpha_flattened")
    white = Image.new("RGB", converted.size, (255, 255, 255))
    return Image.composite(converted, white, alpha)


def _to_8_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    bits = _sample_bits(image)
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)
        # Twelve-bit TIFF samples arrive unscaled in sixteen.
        samples = samples >> (bits - 8 if 8 < bits < 16 else 8)
        if _white_is_zero(image):
            samples = 255 - samples
        notes.append("reduced_to_8_bit")
        return Image.fromarray(samples.astype(np.uint8), "L")
    if image.mode in ("I", "F"):
        raise ImageError(
            "undecodable",
            f"Received samples of {bits or 32} bits in a format without a fixed range; allowed: 8 or 16 bits unsigned.",
        )
    if bits == 16:  # Pillow keeps the high byte of 16-bit RGB
        notes.append("reduced_to_8_bit")
    return image


def _sample_bits(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        value = tags.get(258, 8)
        return int(value[0] if isinstance(value, tuple) else value)
    return 16 if image.mode.startswith("I;16") else 8


def _white_is_zero(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0
