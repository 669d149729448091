"""Decodes TIFF: the checked page gets a new, plain directory and goes to Pillow; JPEG blocks go to libjpeg-turbo."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from aiderm_core.imaging.colour import from_pillow, on_white, to_srgb
from aiderm_core.imaging.decoders import jpeg
from aiderm_core.imaging.decoders.lzw import unpacked_length
from aiderm_core.imaging.decoders.pillow import refusing, to_8_bit
from aiderm_core.imaging.errors import truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers import tiff as t
from aiderm_core.imaging.headers.jpeg import read as read_jpeg
from aiderm_core.imaging.headers.model import BEYOND_THE_END, HeaderError

_MODES = {t.WHITE_IS_ZERO: "L", t.BLACK_IS_ZERO: "L", t.RGB: "RGB", t.PALETTE: "L", t.CMYK: "CMYK", t.LAB: "LAB", t.YCBCR: "RGB"}
_ALPHA = (1, 2)
_LONG, _SHORT = 4, 3


def decode(data: bytes, header: t.TiffHeader, notes: list[str]) -> Pixels:
    """Decodes the page that holds the full image.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    _check_blocks(data, header)
    with refusing(data, "tiff"):
        if header.compression == t.JPEG:
            return _join(_jpeg_samples(data, header), header, notes)
        if header.planar:
            return _join(_planes(data, header, notes), header, notes)
        with TiffImagePlugin.TiffImageFile(io.BytesIO(_page(data, header))) as image:
            image.load()
            return from_pillow(to_8_bit(image, header.bits, notes, header.photometric == t.WHITE_IS_ZERO), header.profile, notes)


def _join(samples: NDArray[np.uint8], header: t.TiffHeader, notes: list[str]) -> Pixels:
    """Converts samples ``[H, W, C]``, in the page's colours and with any extra samples, to sRGB on white."""
    mode = _MODES[header.photometric]
    colours = samples.shape[2] - len(header.extra)
    stored = samples[..., :colours]
    if header.photometric == t.WHITE_IS_ZERO:
        stored = 255 - stored
    alpha = next((samples[..., colours + number] for number, kind in enumerate(header.extra) if kind in _ALPHA), None)
    if alpha is not None and 1 in header.extra:  # undo premultiplied alpha, because the profile applies to the plain colours
        opacity = np.maximum(alpha, 1)[..., np.newaxis].astype(np.uint16)
        stored = np.minimum((stored.astype(np.uint16) * 255 + opacity // 2) // opacity, 255).astype(np.uint8)
    pixels = to_srgb(np.ascontiguousarray(stored[..., 0] if mode == "L" else stored), mode, header.profile, notes)
    return pixels if alpha is None else on_white(pixels, alpha, notes)


def _planes(data: bytes, header: t.TiffHeader, notes: list[str]) -> NDArray[np.uint8]:
    """Decodes every plane as a separate grey image; samples ``[H, W, C]``."""
    each = len(header.blocks) // header.channels
    samples = np.empty((header.height, header.width, header.channels), np.uint8)
    for plane in range(header.channels):
        page = _page(data, header, header.blocks[plane * each : (plane + 1) * each])
        with TiffImagePlugin.TiffImageFile(io.BytesIO(page)) as image:
            image.load()
            samples[..., plane] = np.asarray(to_8_bit(image, header.bits, notes if plane == 0 else []).convert("L"))
    return samples


def _page(data: bytes, header: t.TiffHeader, plane: Sequence[tuple[int, int]] | None = None) -> bytes:
    """``data`` with a new directory for the whole page, or for one plane of it as a grey image."""
    grey = plane is not None
    blocks = header.blocks if plane is None else plane
    channels = 1 if grey else header.channels
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (_LONG, [header.width]),
        257: (_LONG, [header.height]),
        258: (_SHORT, [header.bits] * channels),
        259: (_SHORT, [header.compression]),
        262: (_SHORT, [t.BLACK_IS_ZERO if grey else header.photometric]),
        277: (_SHORT, [channels]),
        317: (_SHORT, [header.predictor]),
    }
    offsets, lengths = ([block[number] for block in blocks] for number in (0, 1))
    if header.tiled:
        tags |= {322: (_LONG, [header.block[0]]), 323: (_LONG, [header.block[1]]), 324: (_LONG, offsets), 325: (_LONG, lengths)}
    else:
        tags |= {273: (_LONG, offsets), 278: (_LONG, [header.block[1]]), 279: (_LONG, lengths)}
    if header.extra and not grey:
        tags[338] = (_SHORT, header.extra)
    if header.palette:
        tags[320] = (_SHORT, header.palette)
    tags |= {tag: (_LONG if tag != 266 else _SHORT, [value]) for tag, value in header.options}
    # The pixels keep their offsets: the new directory follows the data, and the header points to it instead of the old one.
    start = len(data) + len(data) % 2
    after = start + 2 + 12 * len(tags) + 4
    entries, bodies = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        body = struct.pack(f"{header.order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        entries += struct.pack(f"{header.order}HHI", tag, kind, len(values))
        if len(body) > 4:
            entries += struct.pack(f"{header.order}I", after + len(bodies))
            bodies += body + bytes(len(body) % 2)
        else:
            entries += body.ljust(4, b"\0")
    magic = (b"II*\0" if header.order == "<" else b"MM\0*") + struct.pack(f"{header.order}I", start)
    count = struct.pack(f"{header.order}H", len(tags))
    return b"".join([magic, data[8:], bytes(len(data) % 2), count, entries, bytes(4), bodies])


def _jpeg_samples(data: bytes, header: t.TiffHeader) -> NDArray[np.uint8]:
    """The samples of all JPEG blocks ``[H, W, C]``."""
    planes = header.channels if header.planar else 1
    channels = header.channels // planes
    if channels not in (1, 3):
        raise undecodable(data, "tiff", f"has JPEG data of {channels} samples a pixel")
    first = data[header.blocks[0][0] :][:11]
    if header.photometric == t.YCBCR and not header.tables and first[6:] == b"JFIF\0":
        # Some writers mark RGB data in this way, and nothing in the file tells which it is.
        raise undecodable(data, "tiff", "has whole JFIF files as its YCbCr blocks, whose colours are ambiguous")
    # The directory decides the colours. Adobe's marker tells the decoder, which would guess otherwise.
    transform = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([header.photometric == t.YCBCR])
    tables = header.tables.removeprefix(b"\xff\xd8").removesuffix(b"\xff\xd9")
    samples = np.empty((header.height, header.width, header.channels), np.uint8)
    across, down = -(-header.width // header.block[0]), -(-header.height // header.block[1])
    for number, (offset, length) in enumerate(header.blocks):
        plane, position = divmod(number, across * down)
        x, y = position % across * header.block[0], position // across * header.block[1]
        stream = b"\xff\xd8" + transform + tables + data[offset : offset + length].removeprefix(b"\xff\xd8")
        try:
            found = read_jpeg(stream)
        except (HeaderError, *BEYOND_THE_END):
            raise truncated(data, "tiff") from None
        rows = header.block[1] if header.tiled else min(header.block[1], header.height - y)
        if found.channels != channels or found.width != header.block[0] or not rows <= found.height <= header.block[1]:
            raise undecodable(data, "tiff", "has JPEG data of another size than its directory says")
        block = jpeg.samples_of(stream, found.width, found.height, "GRAY" if channels == 1 else "RGB", name="tiff")
        block = block[: header.height - y, : header.width - x]
        samples[y : y + block.shape[0], x : x + block.shape[1], plane * channels : (plane + 1) * channels] = block
    return samples


def _check_blocks(data: bytes, header: t.TiffHeader) -> None:
    """Checks that compressed blocks are complete; libtiff stops reading as soon as it has enough pixels.

    Raises:
        ImageError: truncated.
    """
    if header.compression not in (t.LZW, t.DEFLATE, t.OLD_DEFLATE):
        return
    channels = 1 if header.planar else header.channels
    row = (header.block[0] * header.bits * channels + 7) // 8
    down = -(-header.height // header.block[1])
    across = -(-header.width // header.block[0])
    for number, (offset, length) in enumerate(header.blocks):
        y = number % (across * down) // across * header.block[1]
        rows = header.block[1] if header.tiled else min(header.block[1], header.height - y)
        block = data[offset : offset + length]
        if not (_deflate_is_whole(block, row * rows) if header.compression != t.LZW else _lzw_is_whole(block, row * rows)):
            raise truncated(data, "tiff")


def _deflate_is_whole(block: bytes, size: int) -> bool:
    unpacked = zlib.decompressobj()
    left = size
    try:
        while left > 0 and not unpacked.eof:
            part = unpacked.decompress(block, min(left, 1 << 20))
            block = unpacked.unconsumed_tail
            if not part and not block:
                return False
            left -= len(part)
        # The checksum follows the last byte.
        return left == 0 and (unpacked.eof or (not unpacked.decompress(block, 1) and unpacked.eof))
    except zlib.error:
        return False


def _lzw_is_whole(block: bytes, size: int) -> bool:
    try:
        return unpacked_length(block, 8, tiff=True, most=size) == size
    except ValueError:
        return False
