"""TIFF headers (TIFF 6.0 and BigTIFF): the first directory."""

from __future__ import annotations

import struct

from aiderm_core.imaging.headers.model import BEYOND_THE_END, Header, HeaderError


def read(data: bytes) -> Header:
    """Reads a TIFF file's header; HeaderError where it breaks the format."""
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


def tiff_orientation(exif: bytes) -> int:
    """The EXIF orientation 1..8 in a TIFF structure; 1 when it is absent or malformed."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    try:
        tags, _ = _tiff_directory(exif)
    except (HeaderError, *BEYOND_THE_END):
        return 1
    return _orientation(tags)
