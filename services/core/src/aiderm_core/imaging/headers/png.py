"""Reads PNG headers (PNG specification, third edition): the chunks, with their checksums."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from aiderm_core.imaging.headers.exif import exif_orientation
from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_BITS = {GREY: {1, 2, 4, 8, 16}, RGB: {8, 16}, PALETTE: {1, 2, 4, 8}, GREY_ALPHA: {8, 16}, RGBA: {8, 16}}
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_READ = _PIXELS | {b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"acTL"}
_MAX_PROFILE = 4_000_000
_LARGE_PIXELS = 2_000_000
# Code points of ITU-T H.273 for sRGB: its primaries, its transfer function, RGB, full range.
_SRGB_CODE_POINTS = {(1, 13, 0, 1), (1, 1, 0, 1)}


@dataclass(frozen=True)
class PngHeader(Header):
    """A PNG file.

    Attributes:
        colour: colour type 0, 2, 3, 4 or 6.
        transparent: has a tRNS chunk.
        pixels: offset and length of the chunks that hold pixels, palette and transparency.
        only_pixels: there are no other chunks between the signature and the end of the image.
        gamma: exponent of the samples (0.45455 for sRGB), if declared and no profile, sRGB or cICP chunk overrides it.
        chromaticities: x and y of white, red, green and blue, under the same condition.
        bad_profile: holds a profile that cannot be read.
        interlaced: stored in seven passes.
    """

    colour: int = RGB
    transparent: bool = False
    pixels: tuple[tuple[int, int], ...] = ()
    only_pixels: bool = True
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    bad_profile: bool = False
    interlaced: bool = False

    @property
    def large(self) -> bool:
        """Whether the image is so large that the decoder is chosen for its memory use."""
        return self.width * self.height > _LARGE_PIXELS


def read(data: bytes) -> PngHeader:
    """Reads a PNG file's header and verifies the checksums of all chunks that matter; raises HeaderError if it is invalid."""
    if data[12:16] != b"IHDR":
        raise HeaderError("The PNG file does not begin with its size.", truncated=len(data) < 16)
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if width <= 0 or height <= 0:
        raise HeaderError(f"The PNG header declares {width} x {height} pixels.")
    if bits not in _BITS.get(colour, ()):
        raise HeaderError(f"The PNG file declares colour type {colour} with {bits} bits.")
    found: dict[bytes, bytes] = {}
    pixels: list[tuple[int, int]] = []
    view, at, only_pixels, complete = memoryview(data), len(SIGNATURE), True, False
    for _ in range(MAX_SEGMENTS):
        if at + 12 > len(data):
            break
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if kind in _READ:
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise HeaderError(f"The checksum of a chunk {kind.decode()} of the PNG file is wrong.", truncated=True)
            if kind != b"IDAT":
                found.setdefault(kind, data[at + 8 : end - 4])
        elif not kind[0] & 0x20:
            raise HeaderError(f"The PNG file needs a chunk of type {kind!r}, which is unknown or damaged.", truncated=True)
        if kind in _PIXELS:
            pixels.append((at, 12 + length))
        else:
            only_pixels = False
        if kind == b"IEND":
            complete = True
            break
        at = end
    else:
        raise HeaderError(f"The PNG file holds more than {MAX_SEGMENTS} chunks.")
    profile = _profile(found.get(b"iCCP"))
    gamma, chromaticities = _colours(found)
    return PngHeader(
        width, height, exif_orientation([found.get(b"eXIf", b"")]), _CHANNELS[colour], bits, profile,
        complete=complete, more_frames=b"acTL" in found, colour=colour, transparent=b"tRNS" in found, pixels=tuple(pixels),
        only_pixels=only_pixels, gamma=gamma, chromaticities=chromaticities, bad_profile=b"iCCP" in found and profile is None,
        interlaced=data[28:29] == b"\1",
    )  # fmt: skip


def _profile(chunk: bytes | None) -> bytes | None:
    """The profile in an iCCP chunk; None if there is no chunk, or it cannot be read."""
    if chunk is None:
        return None
    body = chunk[chunk.find(b"\0") + 2 :]
    try:
        unpacked = zlib.decompressobj()
        profile = unpacked.decompress(body, _MAX_PROFILE)
    except zlib.error:
        return None
    return profile if profile and unpacked.eof else None


def _colours(found: dict[bytes, bytes]) -> tuple[float | None, tuple[float, ...] | None]:
    """The exponent of gAMA and the chromaticities of cHRM, unless a profile, sRGB or cICP takes precedence."""
    code_points = found.get(b"cICP")
    if code_points is not None and tuple(code_points) not in _SRGB_CODE_POINTS:
        raise HeaderError(f"The PNG file has colours of the code points {tuple(code_points)}; allowed: sRGB, or an ICC profile.")
    if code_points is not None or b"iCCP" in found or b"sRGB" in found:
        return None, None
    gamma, primaries = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    return (
        int.from_bytes(gamma, "big") / 100_000 if len(gamma) == 4 and any(gamma) else None,
        tuple(each / 100_000 for each in struct.unpack(">8I", primaries)) if len(primaries) == 32 else None,
    )
