"""The items to score: one per image, with the location of its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aiderm_scorer.addresses import Allowed


@dataclass(frozen=True, slots=True)
class Span:
    """The location of a member's bytes in an archive that can be read at any position.

    Attributes:
        start: offset of the first byte; in a zip, that of the member's local header.
        stored: number of bytes there.
        size: number of bytes once unpacked.
        crc: CRC-32 of the unpacked bytes; None in a tar, which has none.
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
    """Why an image has no score: a stable code for programs and a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Item:
    """One image, and one row of the table.

    Attributes:
        image: its unique name in the table: the path or address, or ``ARCHIVE::MEMBER``.
        where: path or address of the file, or of the archive that it is in.
        inside: location in that archive; None for a separate file.
        listed: name as written in the list; None if no list names the image.
        problem: known before anything is read; None if there is none.
        allowed: addresses that the list with the image may reach; None if the operator named the image.
        lesion: name of the lesion shown, as in the list; None if no list names it.
    """

    image: str
    where: str
    inside: Span | Streamed | None = None
    listed: str | None = None
    problem: ItemProblem | None = None
    allowed: Allowed | None = None
    lesion: str | None = None


def is_address(text: str) -> bool:
    """Whether a text is an address such as ``s3://bucket/key``, not a path on this machine."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").replace(":", "").isalnum()


def printable(name: str) -> str:
    """A file's name as valid text: a byte that is not UTF-8 is written as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
