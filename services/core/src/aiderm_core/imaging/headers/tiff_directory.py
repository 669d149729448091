"""Reads directories of TIFF structures (TIFF 6.0, BigTIFF) within bounds."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiderm_core.imaging.headers.model import HeaderError

_MAX_TAGS = 4096
# Most numbers that a tag may hold: enough for the strips or tiles of the largest image, and for a palette.
_MAX_VALUES = 4_000_000
_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q", 13: "I", 18: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class Directory:
    """One directory.

    Attributes:
        tags: unsigned integers by tag, for tags of at most 16 values; ``values_of`` reads longer ones.
        places: type, count and offset of the values of every tag.
        following: offset of the next directory; 0 at the end.
        order: ``<`` or ``>``, as ``struct`` names byte orders.
        big: a BigTIFF.
    """

    tags: dict[int, tuple[int, ...]]
    places: dict[int, tuple[int, int, int]]
    following: int
    order: str
    big: bool


def read_directory(data: bytes, at: int | None = None) -> Directory:
    """Reads the directory at offset ``at``, or the first one.

    Raises:
        HeaderError: ``data`` is not a TIFF structure, or the directory has too many tags.
        struct.error, IndexError, OverflowError: the directory lies beyond the end of ``data``.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise HeaderError("The TIFF file names no byte order.")
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    # BigTIFF: 8-byte offsets and counts, 20-byte entries
    start, counter, pointer, entry = (8, "Q", "Q", 20) if big else (4, "H", "I", 12)
    if at is None:
        at = struct.unpack_from(order + pointer, data, start)[0]
    entries = struct.unpack_from(order + counter, data, at)[0]
    if entries > _MAX_TAGS:
        raise HeaderError(f"The TIFF file declares {entries} tags.")
    at += struct.calcsize(f"={counter}")
    inline = struct.calcsize(f"={pointer}")
    tags: dict[int, tuple[int, ...]] = {}
    places: dict[int, tuple[int, int, int]] = {}
    end = at + entries * entry
    for position in range(at, end, entry):
        tag, kind, count = struct.unpack_from(f"{order}HH{pointer}", data, position)
        if tag in places or not count or kind not in _SIZES:
            continue
        place = position + 4 + inline
        if count * _SIZES[kind] > inline:
            place = struct.unpack_from(order + pointer, data, place)[0]
        places[tag] = (kind, count, place)
        if kind in _LETTERS and count <= 16 and place + count * _SIZES[kind] <= len(data):
            tags[tag] = struct.unpack_from(f"{order}{count}{_LETTERS[kind]}", data, place)
    following = struct.unpack_from(order + pointer, data, end)[0] if end + inline <= len(data) else 0
    return Directory(tags, places, following, order, big)


def values_of(data: bytes, directory: Directory, tag: int, most: int = _MAX_VALUES) -> tuple[int, ...]:
    """Returns all unsigned integers of a tag; empty if the directory has no such tag.

    Raises:
        HeaderError: there are more than ``most``, or they have another type.
        struct.error: they lie beyond the end of ``data``.
    """
    if tag in directory.tags and len(directory.tags[tag]) <= most:
        return directory.tags[tag]
    if tag not in directory.places:
        return ()
    kind, count, place = directory.places[tag]
    if count > most or kind not in _LETTERS:
        raise HeaderError(f"The TIFF file's tag {tag} holds {count:,} values of type {kind}; its size implies at most {most:,}.")
    return struct.unpack_from(f"{directory.order}{count}{_LETTERS[kind]}", data, place)


def bytes_of(data: bytes, directory: Directory, tag: int) -> bytes | None:
    """Returns the bytes of a tag; None if it is absent or lies outside ``data``."""
    if tag not in directory.places:
        return None
    kind, count, place = directory.places[tag]
    size = count * _SIZES[kind]
    return data[place : place + size] if place + size <= len(data) else None
