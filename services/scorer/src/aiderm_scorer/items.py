"""The items to score: one per image, with the location of its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aiderm_scorer.addresses import Allowed


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a member inside an archive that can be read at any place.

    Attributes:
        start: where they begin, in bytes; of a zip its local header.
        stored: how many lie there.
        size: how many they are once unpacked.
        crc: CRC-32 of the unpacked ones; None in a tar, which has none.
        deflated: whether they are compressed.
    """

    start: int
    stored: int
    size: int
    crc: int | None = None
    deflated: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """A member of a compressed tar, which can only be read from its beginning; ``index`` is 0-based."""

    index: int


@dataclass(frozen=True, slots=True)
class ItemProblem:
    """Why an image has no score: a stable code for programs, a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Item:
    """One image, and one row of the table.

    Attributes:
        image: its name in the table, by which it is known: the path or address; of a member ``ARCHIVE::MEMBER``.
        where: path or address of the file, or of the archive that it is in.
        inside: where in that archive; None for a file of its own.
        listed: as the list wrote it that named it; None where no list did.
        problem: known before anything was read.
        allowed: addresses that the list may reach that named it; None where the operator named the image.
        lesion: that the image shows, as the list names it; None where no list says.
    """

    image: str
    where: str
    inside: Span | Streamed | None = None
    listed: str | None = None
    problem: ItemProblem | None = None
    allowed: Allowed | None = None
    lesion: str | None = None


def is_address(text: str) -> bool:
    """Whether a text is an address such as ``s3://bucket/key``, and no path of this machine."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(":", "").isalnum()


def printable(name: str) -> str:
    """A file's name as valid text: a byte that is not UTF-8 is written as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
