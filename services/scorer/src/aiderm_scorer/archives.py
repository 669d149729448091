"""Lists the members of zip and tar archives once, then reads each by itself, wherever the archive is stored.

Archives are not trusted: headers, names and the size of unpacked data are limited before anything is kept.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from aiderm_scorer.bounded_tar import BoundedTar
from aiderm_scorer.items import Item, ItemProblem, Span, Streamed, printable
from aiderm_scorer.unpacked import ArchiveError, unpacked

_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", ".tar", *_TARS)
MAX_NAME = 4096  # bytes; longer paths cannot be opened on Linux either
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END_RECORD = struct.Struct("<4s4H2LH")
_END, _CENTRAL_HEADER = b"PK\x05\x06", b"PK\x01\x02"
_ENCRYPTED = 0x1
_BROKEN = (
    OSError, ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


def is_archive(name: str) -> bool:
    """Whether a file counts as an archive, by its name."""
    return name.lower().endswith(SUFFIXES)


def members(archive: str, file: IO[bytes]) -> Iterator[Item]:
    """Yields an item for each member that is a file, in the archive's order, and one with a problem if the archive breaks off.

    Names of items are unique: a second member with the same name is another image, ``NAME#2``.

    Args:
        archive: its path or address.
        file: its bytes; must allow seeking.
    """
    named: set[str] = set()
    counts: dict[str, int] = {}
    try:
        for name, inside, problem in _zip(file) if archive.lower().endswith(".zip") else _tar(archive, file):
            if len(name) > MAX_NAME:
                raise ArchiveError(f"a member's name has {len(name):,} characters; allowed: at most {MAX_NAME:,}")
            first = label = printable(name)
            while label in named:  # a member's own name may also be NAME#2
                counts[first] = counts.get(first, 1) + 1
                label = f"{first}#{counts[first]}"
            named.add(label)
            yield Item(f"{printable(archive)}::{label}", archive, inside, problem=problem)
    except _BROKEN as error:
        yield Item(
            printable(archive), archive, problem=ItemProblem("unreadable", f"The archive breaks off: {error or 'no more bytes'}")
        )


def _zip(file: IO[bytes]) -> Iterator[tuple[str, Span | None, ItemProblem | None]]:
    with zipfile.ZipFile(_without_comment(file)) as archive:
        infos = archive.infolist()
        overlapping = _overlapping(infos, archive.start_dir)
        for index, info in enumerate(infos):
            if info.filename.endswith("/"):  # not is_dir, which fails on an empty name
                continue
            problem = None
            if index in overlapping:
                problem = ItemProblem("unreadable", "The member shares bytes with another one; allowed: bytes of its own.")
            elif info.flag_bits & _ENCRYPTED:
                problem = ItemProblem("unreadable", "The member is encrypted; allowed: members without a password.")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                name = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
                problem = ItemProblem("unreadable", f"The member is compressed by {name}; allowed: stored or deflated.")
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            yield info.filename, Span(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated), problem


def _overlapping(infos: list[zipfile.ZipInfo], end: int) -> set[int]:
    """The indices of members that overlap the next one, or the directory at ``end``.

    With overlaps, a few kilobytes can unpack to many gigabytes (D. Fifield, A better zip bomb, WOOT 2019). Of members that start
    at the same place, one is kept.
    """
    found = set()
    for index in sorted(range(len(infos)), key=lambda index: infos[index].header_offset, reverse=True):
        info = infos[index]
        if info.header_offset + _LOCAL_HEADER.size + info.compress_size > end:
            found.add(index)
        end = info.header_offset
    return found


def _without_comment(file: IO[bytes]) -> IO[bytes]:
    """Returns the zip without its comment, because ``zipfile`` uses the last end record even if it is inside the comment."""
    size = file.seek(0, io.SEEK_END)
    start = max(0, size - _END_RECORD.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_END)
    while place >= 0:
        if len(tail) - place >= _END_RECORD.size:
            *_, entries, length, _, comment = _END_RECORD.unpack_from(tail, place)
            end = place + _END_RECORD.size
            if end + comment == len(tail) and (comment == 0 or _directory_ends_at(file, start + place, entries, length)):
                return io.BufferedReader(_Beginning(file, start + end)) if comment else file
        place = tail.rfind(_END, 0, place)
    return file


def _directory_ends_at(file: IO[bytes], place: int, entries: int, length: int) -> bool:
    """Whether a central directory of this length ends right before an end record; True without a check if empty or ZIP64."""
    if entries == 0 or 0xFFFFFFFF in (length, entries) or entries == 0xFFFF:
        return True
    if length > place:
        return False
    file.seek(place - length)
    return file.read(len(_CENTRAL_HEADER)) == _CENTRAL_HEADER


class _Beginning(io.RawIOBase):
    """A file up to ``end``; its last two bytes, the length of the comment, read as zero."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file, self._end = file, end
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._end}[whence]
        if base + offset < 0:
            raise ValueError(f"a place must not be negative. Received: {base + offset}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._place)
        data = bytearray(self._file.read(max(0, min(len(buffer), self._end - self._place))))
        for index in range(max(0, self._end - 2 - self._place), len(data)):
            data[index] = 0
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _tar(name: str, file: IO[bytes]) -> Iterator[tuple[str, Span | Streamed | None, ItemProblem | None]]:
    compressed = name.lower().endswith(_TARS)
    with BoundedTar.open(fileobj=unpacked(file) if compressed else file, mode="r|" if compressed else "r:") as archive:
        index = -1
        while (member := archive.next()) is not None:
            index += 1
            if member.isdir():
                continue
            if not (member.isreg() or member.islnk()):
                yield member.name, None, ItemProblem("unreadable", "The member is no regular file.")
            elif member.issparse() or member.islnk():
                problem = ItemProblem("unreadable", "The member is a link or has holes; allowed: a plain copy of the file.")
                yield member.name, None, problem
            elif compressed:
                yield member.name, Streamed(index), None
            else:
                yield member.name, Span(member.offset_data, member.size, member.size), None


def read_span(file: IO[bytes], span: Span) -> bytes:
    """Reads a member's bytes.

    Raises:
        ArchiveError: they are cut off, damaged, or not those that the archive lists.
    """
    start = span.start
    if span.crc is not None:
        file.seek(start)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise ArchiveError("the member's header is damaged")
        _, name_length, extra_length = _LOCAL_HEADER.unpack_from(header)
        start += _LOCAL_HEADER.size + name_length + extra_length
    file.seek(start)
    data = file.read(span.stored)
    if len(data) < span.stored:
        raise ArchiveError(f"the member is cut off: {len(data):,} of {span.stored:,} bytes are there")
    if span.deflated:
        try:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            data = unpacker.decompress(data, span.size + 1)  # limited by the size that the archive declares
        except zlib.error as error:
            raise ArchiveError(f"the member is damaged: {error}") from error
    if len(data) != span.size or (span.crc is not None and zlib.crc32(data) != span.crc):
        raise ArchiveError("the member is damaged: its checksum or size is not what the archive lists")
    return data


class TarStream:
    """Reads members of a compressed tar in order; reading an earlier member takes a new stream."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = BoundedTar.open(fileobj=unpacked(file), mode="r|")
        self.next = 0

    def read(self, index: int, most: int) -> bytes:
        """Reads at most ``most`` + 1 bytes of member ``index``.

        Raises:
            ArchiveError: the archive breaks off before them.
        """
        try:
            while True:
                member = self._archive.next()
                if member is None:
                    raise ArchiveError("the archive breaks off before the member")
                self.next += 1
                if self.next > index:
                    file = self._archive.extractfile(member)
                    return b"" if file is None else bytes(file.read(most + 1))
        except _BROKEN as error:
            raise ArchiveError(f"the archive breaks off: {error or 'no more bytes'}") from error
