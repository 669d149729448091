"""What the first bytes of a file say, read without decoding a pixel: its format, its size, its orientation."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ALLOWED = "JPEG, PNG, WebP, BMP, TIFF or GIF"

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
)
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)
_HEIC = "a HEIC picture, as Apple devices write by default; export or photograph as JPEG"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_TEXT = (
    (re.compile(rb"<(?:!doctype\s+)?svg\b", re.I), "an SVG drawing"),
    (re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.I), "an HTML page"),
    (re.compile(rb"\s*<\?xml\b"), "an XML document"),
    (re.compile(rb"\s*[{\[][\s\"{\[\d\]}tfn-]"), "JSON"),
)
# In entropy-coded data 0xff is followed by a stuffed zero or a restart marker; anything else is the next marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
# Each scan of a progressive JPEG costs a pass over all pixels; encoders write about ten.
_MAX_JPEG_SCANS = 32
# Pictures hold up to a few thousand; millions of empty ones would cost seconds.
_MAX_SEGMENTS = 20_000
# What reading behind the end of the bytes raises; OverflowError for the 64-bit places of a BigTIFF.
_BEYOND_THE_END = (struct.error, IndexError, OverflowError)


class HeaderError(ValueError):
    """A header that breaks its format; ``truncated`` when the file ends inside it."""

    def __init__(self, detail: str, *, truncated: bool = False) -> None:
        super().__init__(detail)
        self.truncated = truncated


@dataclass(frozen=True)
class Header:
    """A picture as its header declares it, before orientation.

    Attributes:
        orientation: EXIF orientation 1..8 of a JPEG or TIFF; other formats keep it where their decoder finds it.
        plain: 8-bit grey or YCbCr JPEG without a colour profile, for which the fast decoder is exact.
        complete: False when the file ends before its picture does.
        more_frames: a TIFF with further pages.
    """

    width: int
    height: int
    orientation: int = 1
    plain: bool = False
    complete: bool = True
    more_frames: bool = False


def sniff(data: bytes) -> str | None:
    """The allowed format that the magic bytes name: jpeg, png, webp, bmp, tiff, gif; None for anything else."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    # "BM" alone also begins ordinary text; the size of the header that follows tells a bitmap.
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in {12, 16, 40, 52, 56, 64, 108, 124}:
        return "bmp"
    return None


def describe(data: bytes) -> str:
    """Names what a refused file is, for the person who sent it."""
    if data[4:8] == b"ftyp":
        brands = {data[8:12]} | {data[at : at + 4] for at in range(16, min(64, len(data) - 3), 4)}
        if brands & {b"avif", b"avis"}:
            return "an AVIF picture; export as JPEG"
        return _HEIC if brands & _HEIC_BRANDS else "an MP4 or QuickTime video"
    if data[128:132] == b"DICM":
        return "a DICOM file; export the picture as JPEG or PNG"
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            return name
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _TEXT[:2]:
        if pattern.search(head):
            return name
    for pattern, name in _TEXT[2:]:
        if pattern.match(head):
            return name
    return "a file of an unknown type"


def read_header(data: bytes, name: str) -> Header:
    """Reads what the header of a file of format ``name`` declares.

    Raises:
        HeaderError: the header breaks its format or is cut off.
    """
    try:
        header = _READERS[name](data)
    except _BEYOND_THE_END as error:
        raise HeaderError(f"The {name.upper()} file ends inside its header.", truncated=True) from error
    if header.width <= 0 or header.height <= 0:
        raise HeaderError(f"The {name.upper()} header declares {header.width} x {header.height} pixels.")
    return header


def tiff_orientation(exif: bytes) -> int:
    """The EXIF orientation 1..8 in a TIFF structure; 1 when it is absent or malformed."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    try:
        tags, _ = _tiff_directory(exif)
    except (HeaderError, *_BEYOND_THE_END):
        return 1
    return _orientation(tags)


def _jpeg(data: bytes) -> Header:
    width = height = 0
    orientation, scans, complete = 1, 0, False
    precision, components, profile, odd_colours = 8, 3, False, False
    for marker, body in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if width:
                raise HeaderError("The JPEG file declares its size twice.")
            precision, height, width, components = struct.unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            orientation = tiff_orientation(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00"):
            profile = True
        elif marker == 0xEE and body.startswith(b"Adobe"):
            odd_colours = components not in (1, 3)
        elif marker == 0xDA:
            scans += 1
            if not width:
                raise HeaderError("The JPEG file holds pixels before it declares their number.")
            if scans > _MAX_JPEG_SCANS:
                raise HeaderError(f"The JPEG file holds more than {_MAX_JPEG_SCANS} scans.")
        elif marker == 0xD9:
            complete = scans > 0
    if not width:
        raise HeaderError("The JPEG file ends before it declares its size.", truncated=True)
    plain = precision == 8 and components in (1, 3) and not profile and not odd_colours
    return Header(width, height, orientation, plain, complete)


_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of each segment up to the end of the image, as a JPEG decoder walks them."""
    at, pattern = 2, _JPEG_MARKER
    for _ in range(_MAX_SEGMENTS):
        found = pattern.search(data, at)
        if not found:
            return
        marker, at, pattern = found[1][0], found.end(), _JPEG_MARKER
        if marker == 0xD9:
            yield marker, b""
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker == 0xD8:
            raise HeaderError("The JPEG file begins a second time inside itself.")
        if at + 2 > len(data):
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2:
            raise HeaderError("The JPEG file holds a segment without a length.")
        yield marker, data[at + 2 : at + length]
        at += length
        if marker == 0xDA:
            pattern = _JPEG_MARKER_AFTER_SCAN
    raise HeaderError(f"The JPEG file holds more than {_MAX_SEGMENTS} segments.")


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise HeaderError("The PNG file does not begin with its size.", truncated=len(data) < 16)
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    for _ in range(_MAX_SEGMENTS):
        if data[at + 4 : at + 8] == b"IEND":
            return Header(width, height)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at >= len(data):
            return Header(width, height, complete=False)
    raise HeaderError(f"The PNG file holds more than {_MAX_SEGMENTS} chunks.")


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    palette = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    return Header(width, height, complete=len(data) > 13 + palette)


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header(width, abs(height))  # negative: rows from top to bottom


def _webp(data: bytes) -> Header:
    complete = struct.unpack_from("<I", data, 4)[0] + 8 <= len(data)
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if len(data) < 30:
            raise HeaderError("The WebP file ends inside its header.", truncated=True)
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise HeaderError("The WebP file holds no picture where it should.", truncated=len(data) < 16)
    return Header(width, height, complete=complete)


def _tiff(data: bytes) -> Header:
    tags, following = _tiff_directory(data)
    complete = True
    for offsets, counts in _TIFF_DATA:
        if offsets in tags and counts in tags:
            complete &= tags[offsets] + tags[counts] <= len(data)
    return Header(tags.get(256, 0), tags.get(257, 0), _orientation(tags), complete=complete, more_frames=following != 0)


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(274, 1)
    return value if 1 <= value <= 8 else 1


# Where the strips, or the tiles, stand and how many bytes they hold.
_TIFF_DATA = ((273, 279), (324, 325))


def _tiff_directory(data: bytes) -> tuple[dict[int, int], int]:
    """Integer tags of a TIFF's first directory (of the data's places and lengths the last one), and the next one's place."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise HeaderError("The TIFF file names no byte order.")
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    # BigTIFF: 8-byte offsets and counts, 20-byte entries
    start, counter, pointer, entry = (8, "Q", "Q", 20) if big else (4, "H", "I", 12)
    at = struct.unpack_from(order + pointer, data, start)[0]
    entries = struct.unpack_from(order + counter, data, at)[0]
    at += struct.calcsize(f"={counter}")
    if entries > 4096:
        raise HeaderError(f"The TIFF file declares {entries} tags.")
    end = at + entries * entry
    tags: dict[int, int] = {}
    for position in range(at, end, entry):
        tag, kind, count = struct.unpack_from(f"{order}HH{pointer}", data, position)
        letter = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if letter is None or tag in tags or not count:
            continue
        place = position + 4 + struct.calcsize(f"={pointer}")
        if tag in (273, 279, 324, 325):
            size = struct.calcsize(f"={letter}")
            if count * size > struct.calcsize(f"={pointer}"):
                place = struct.unpack_from(order + pointer, data, place)[0]
            place += (count - 1) * size
        tags[tag] = struct.unpack_from(order + letter, data, place)[0]
    following = struct.unpack_from(order + pointer, data, end)[0] if end + struct.calcsize(f"={pointer}") <= len(data) else 0
    return tags, following


_READERS = {"jpeg": _jpeg, "png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp, "tiff": _tiff}
