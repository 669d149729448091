"""Makes images of every format that cost far more than their size suggests: valid ones, and ones that lie about their content."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageCms
from tests import dicom_files

MEGABYTE = 1_000_000
SIDE = 200  # side of the small images that contain a bomb


def encoded(mode: str, width: int, height: int, kind: str, **options: object) -> bytes:
    """An image of one colour."""
    return saved(Image.new(mode, (width, height), tuple([90, 60, 120, 255][: len(mode)])), kind, **options)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def soft(width: int, height: int, channels: int = 3) -> np.ndarray:
    """Smooth noise, which every format compresses, but none well: uint8 ``[H, W, C]``."""
    noise = np.random.default_rng(width).integers(0, 256, (height // 2, width // 2, channels), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)).reshape(height, width, channels)


def opencv(extension: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(extension, pixels, list(options))[1].tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@cache
def zeros(megabytes: int = 150) -> bytes:
    """Zeros, compressed to a thousandth of their size."""
    squeeze = zlib.compressobj(6)
    return b"".join([*(squeeze.compress(bytes(MEGABYTE)) for _ in range(megabytes)), squeeze.flush()])


def png_with(*chunks: bytes) -> bytes:
    whole = encoded("RGB", SIDE, SIDE, "PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def png_of(width: int, height: int, bits: int, colour: int, stored: bytes, interlaced: bool = False, *before: bytes) -> bytes:
    """A PNG with ``stored`` as its compressed rows, valid or not."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + chunk(b"IDAT", stored) + chunk(b"IEND", b"")


def tiff_of(tags: dict[int, tuple[int, int, int]], behind: bytes = b"", next_page: int = 0) -> bytes:
    """A little-endian TIFF with one directory; ``tags`` maps a tag to type, count and value."""
    entries = b"".join(struct.pack("<HHII", tag, kind, count, value) for tag, (kind, count, value) in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page) + behind


def tiff_tags(width: int, height: int, **changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    tags = {
        **{256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)},
        **{273: (4, 1, 400), 278: (4, 1, height), 279: (4, 1, width * height)},
    }
    return tags | {int(tag.removeprefix("tag")): value for tag, value in changes.items()}


def tiff_with_a_giant_tile() -> bytes:
    """A TIFF of 200 x 200 pixels whose only tile measures 26,752 x 26,752."""
    tags = {256: 200, 257: 200, 258: 8, 259: 5, 262: 2, 277: 3, 322: 26_752, 323: 26_752, 324: 200, 325: 40}
    return tiff_of({tag: (4, 1, value) for tag, value in tags.items()}).ljust(200, b"\0") + bytes(40)


def tiff_of_strips() -> bytes:
    """A TIFF with 2.4 million strips for 200 rows."""
    count = 2_400_000
    tags = tiff_tags(SIDE, SIDE, tag273=(4, count, 400), tag279=(4, count, 400))
    return tiff_of(tags).ljust(400, b"\0") + bytes(4 * count)


def tiff_of_pages(loop: bool) -> bytes:
    """A TIFF with a chain of 60,000 directories, which ends or leads back to the first."""
    count, size = 60_000, 2 + 12 + 4
    pages = b"".join(
        struct.pack("<HHHIII", 1, 254, 4, 1, 1, 8 + size * ((number + 1) % count) if loop or number + 1 < count else 0)
        for number in range(count)
    )
    return b"II*\0" + struct.pack("<I", 8) + pages


def tiff_of_sub_pages() -> bytes:
    """A TIFF with a directory that lists itself many times as its sub-directory."""
    return tiff_of(tiff_tags(SIDE, SIDE, tag330=(4, 50_000, 400))).ljust(400, b"\0") + struct.pack("<I", 8) * 50_000


def big_tiff_beyond_everything() -> bytes:
    tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (273, 16, 2**62, 2**63), (279, 16, 2**62, 2**63)]
    entries = b"".join(struct.pack("<HHQQ", *each) for each in tags)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + entries + struct.pack("<Q", 16)


def bmp_with_run_lengths(bits: int = 8, side: int = 7_000) -> bytes:
    """A run-length encoded BMP whose deltas skip all pixels."""
    colours = 1 << bits
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, 1 if bits == 8 else 2, 1000, 2835, 2835, colours, 0)
    body = bytes(4 * colours) + b"\0\2\xff\xff" * 250 + b"\0\1"
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head) + 4 * colours) + head + body


def bmp_of_short_runs(side: int) -> bytes:
    """A run-length encoded BMP in which every pixel is its own run."""
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 2835, 2835, 256, 0)
    body = bytes(1024) + (b"\1\7" * side + b"\0\0") * side + b"\0\1"
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head) + 1024) + head + body


def bmp_of_commands(command: bytes, times: int) -> bytes:
    """A small BMP whose run-length data repeat one command."""
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, 0, 2835, 2835, 256, 0)
    body = bytes(1024) + command * times
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head) + 1024) + head + body


def jpeg_beyond_its_data(width: int, height: int) -> bytes:
    """A JPEG whose header declares many more pixels than its data contain."""
    whole = bytearray(encoded("RGB", SIDE, SIDE, "JPEG"))
    struct.pack_into(">HH", whole, whole.index(b"\xff\xc0") + 5, height, width)
    return bytes(whole)


def gif_with(blocks: bytes, at_the_end: bool = False) -> bytes:
    whole = encoded("L", SIDE, SIDE, "GIF")
    at = len(whole) - 1 if at_the_end else 13 + (3 << (whole[10] & 7) + 1)
    return whole[:at] + blocks + whole[at:]


def gif_frames(count: int) -> bytes:
    frame = b"\x2c\0\0\0\0" + struct.pack("<HH", SIDE, SIDE) + b"\0\x02\x02\x4c\x01\0"
    return gif_with(frame * count, at_the_end=True)


def jpeg_scans(times: int, side: int = 3_000) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    whole = encoded("RGB", side, side, "JPEG", progressive=True, quality=10)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * times + whole[-2:]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    whole = encoded("RGB", SIDE, SIDE, "JPEG")
    added = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return whole[:2] + added + whole[2:]


def exif(body: bytes) -> tuple[int, bytes]:
    return 0xE1, b"Exif\0\0" + body


def exif_loop() -> bytes:
    """An Exif block whose directories refer to each other, with an orientation of two billion values."""
    first = struct.pack("<HHHIIHHIII", 2, 0x112, 3, 2**31, 0, 0x8769, 4, 1, 8, 38)
    return b"II*\0" + struct.pack("<I", 8) + first + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 38, 8)


def profile_with(tag: bytes, body: bytes) -> bytes:
    """An sRGB ICC profile whose tag is replaced by ``body``."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for at in range(132, 132 + 12 * count, 12):
        if profile[at : at + 4] == tag:
            struct.pack_into(">II", profile, at + 4, len(profile), len(body))
    profile += body
    struct.pack_into(">I", profile, 0, len(profile))
    return bytes(profile)


def webp_of(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(each)) + each + bytes(len(each) % 2) for kind, each in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_canvas(width: int, height: int, flags: int = 2) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def webp_frame() -> bytes:
    """The VP8L data of a small image."""
    return encoded("RGB", SIDE, SIDE, "WEBP", lossless=True)[20:]


def webp_frames(count: int, canvas: int) -> bytes:
    body = webp_frame()
    size = (SIDE - 1).to_bytes(3, "little") * 2
    frame = bytes(6) + size + b"\1\0\0\0" + b"VP8L" + struct.pack("<I", len(body)) + body
    return webp_of(webp_canvas(canvas, canvas), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * count)


LEGAL: dict[str, Callable[[], bytes]] = {
    # at the limits, and beyond them
    "webp lossless 17 MP": lambda: encoded("RGB", 4200, 4000, "WEBP", lossless=True, quality=0, method=0),
    "webp lossless 50 MP": lambda: encoded("RGB", 7100, 7000, "WEBP", lossless=True, quality=0, method=0),
    "webp lossy 25 MP": lambda: encoded("RGB", 5000, 5000, "WEBP", quality=1, method=0),
    "png rgba 24 MP": lambda: encoded("RGBA", 5000, 4900, "PNG", compress_level=1),
    "png rgb 38 MP": lambda: encoded("RGB", 7000, 5400, "PNG", compress_level=1),
    "png rgb 50 MP": lambda: encoded("RGB", 7100, 7000, "PNG", compress_level=1),
    "png 16 bits 20 MP": lambda: opencv(".png", np.full((4000, 5000, 3), 9_000, np.uint16), cv2.IMWRITE_PNG_COMPRESSION, 1),
    "png interlaced 36 MP": lambda: png_of(6000, 6000, 8, 2, zeros(), True),
    "png one bit 49 MP": lambda: png_of(7000, 7000, 1, 0, zeros(10)),
    "jpeg progressive 50 MP": lambda: encoded("RGB", 7100, 7000, "JPEG", progressive=True),
    "jpeg of 22 scans": lambda: jpeg_scans(12),
    "jpeg cmyk 30 MP": lambda: encoded("CMYK", 6000, 5000, "JPEG", progressive=True),
    "gif 49 MP": lambda: encoded("L", 7000, 7000, "GIF"),
    "tiff packbits 49 MP": lambda: encoded("L", 7000, 7000, "TIFF", compression="packbits"),
    "tiff lzw 4 MP of noise": lambda: saved(Image.fromarray(soft(2000, 2000)), "TIFF", compression="tiff_lzw"),
    "bmp run lengths 49 MP": bmp_with_run_lengths,
    "bmp run lengths of 4 bits": lambda: bmp_with_run_lengths(4),
    "bmp short runs 4 MP": lambda: bmp_of_short_runs(2000),
}
"""Valid images whose decoding takes much time or memory."""

LYING: dict[str, Callable[[], bytes]] = {
    "png unfolds behind many pixels": lambda: png_of(1800, 1400, 8, 2, zeros(300)),
    "png unfolds": lambda: png_of(SIDE, SIDE, 8, 2, zeros()),
    "png profile unfolds": lambda: png_with(chunk(b"iCCP", b"a\0\0" + zeros())),
    "png text unfolds": lambda: png_with(*[chunk(b"zTXt", b"a\0\0" + zeros())] * 20),
    "png of empty chunks": lambda: png_with(chunk(b"IDAT", b"") * 500_000),
    "png of unknown chunks": lambda: png_with(chunk(b"abCd", b"") * 500_000),
    "png animated": lambda: png_with(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), chunk(b"fcTL", bytes(26)) * 19_000),
    "jpeg of 1,000 scans": lambda: jpeg_scans(1_000),
    "jpeg of segments": lambda: jpeg_with(*[(0xFE, b"")] * 400_000),
    "jpeg of profiles": lambda: jpeg_with(
        *[(0xE2, b"ICC_PROFILE\0" + bytes([n % 255 + 1, 255]) + bytes(65_000)) for n in range(255)]
    ),
    "jpeg of markers": lambda: jpeg_with()[:-2] + b"\xff\xd0" * 5_000_000 + b"\xff\xd9",
    "jpeg of fill bytes": lambda: jpeg_with()[:2] + b"\xff" * 15_000_000 + jpeg_with()[2:],
    "exif that leads back": lambda: jpeg_with(exif(exif_loop())),
    "exif of directories": lambda: jpeg_with(*[exif(exif_loop().ljust(65_000, b"\xff"))] * 200),
    "profile of curves": lambda: jpeg_of_profile(
        profile_with(b"rTRC", b"curv" + bytes(4) + struct.pack(">I", 2**31) + bytes(100))
    ),
    "profile of a long curve": lambda: jpeg_of_profile(
        profile_with(b"rTRC", b"curv" + bytes(4) + struct.pack(">I", 2_000_000) + bytes(4_000_000))
    ),
    "profile of a table": lambda: jpeg_of_profile(
        profile_with(b"A2B0", b"mft2" + bytes(4) + bytes([3, 3, 255, 0]) + bytes(40) + struct.pack(">HH", 4096, 4096))
    ),
    "gif of frames": lambda: gif_frames(100_000),
    "gif of comments": lambda: gif_with(b"\x21\xfe\1a\0" * 1_000_000),
    "gif of a comment": lambda: gif_with(b"\x21\xfe" + b"\1a" * 5_000_000 + b"\0"),
    "gif of comments behind": lambda: gif_with(b"\x21\xfe" + b"\1a" * 5_000_000 + b"\0", at_the_end=True),
    "tiff of a tile": tiff_with_a_giant_tile,
    "tiff of strips": tiff_of_strips,
    "tiff of pages": lambda: tiff_of_pages(loop=False),
    "tiff of pages that lead back": lambda: tiff_of_pages(loop=True),
    "tiff of sub-pages": tiff_of_sub_pages,
    "tiff of a long tag": lambda: tiff_of(tiff_tags(SIDE, SIDE, tag305=(2, 2**31, 8))).ljust(400, b"\0") + bytes(SIDE * SIDE),
    "big tiff": big_tiff_beyond_everything,
    "webp of frames": lambda: webp_frames(15_000, SIDE),
    "webp small frame on a large canvas": lambda: webp_frames(2, 7_000),
    "webp of empty chunks": lambda: webp_of(webp_canvas(SIDE, SIDE), *[(b"XXXX", b"")] * 1_000_000),
    "webp canvas of 2^24": lambda: webp_of(webp_canvas(2**24, 2**24, 0), (b"VP8L", webp_frame())),
    "bmp of row ends": lambda: bmp_of_commands(b"\0\0", 9_000_000),
    "bmp of moves by nothing": lambda: bmp_of_commands(b"\0\2\0\0", 4_500_000),
    "bmp of literal runs": lambda: bmp_of_commands(b"\0\xff" + bytes(256), 70_000),
    "png of a long exif": lambda: png_with(chunk(b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 10_000_000)),
    "jpeg of 50 MP without data": lambda: jpeg_beyond_its_data(65_500, 763),
    "bmp of 2^31 rows": lambda: b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, SIDE, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    **dicom_files.HOSTILE,
}
"""Small images whose other parts claim, contain or decompress to a lot of data."""


def jpeg_of_profile(profile: bytes) -> bytes:
    parts = [profile[at : at + 65_000] for at in range(0, len(profile), 65_000)]
    return jpeg_with(*[(0xE2, b"ICC_PROFILE\0" + bytes([number + 1, len(parts)]) + each) for number, each in enumerate(parts)])


ALL = LEGAL | LYING


def make(name: str) -> bytes:
    """Makes the image with that name, which must be below the upload limit of 20 MB."""
    data = ALL[name]()
    if len(data) > 20 * MEGABYTE:
        raise ValueError(f"{name} has {len(data):,} bytes")
    return data
