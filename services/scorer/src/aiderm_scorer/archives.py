"""Members of zip and tar archives: found once, then each read by itself, from wherever the archive lies.

Archives come from strangers: headers, names and what a compressed stream unpacks to are bounded before anything is kept.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from aiderm_scorer.items import Item, ItemProblem, Span, Streamed, printable

_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", ".tar", *_TARS)
MAX_NAME = 4096  # bytes; longer paths cannot be opened on Linux either
MAX_HEADERS = 1 << 20  # bytes of extended headers before one member, and of those that count for all of them
MAX_RATIO = 100  # unpacked bytes for each compressed one, of streams that unpack to more than this:
_UNSUSPICIOUS = 256 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END_RECORD = struct.Struct("<4s4H2LH")
_END, _CENTRAL_HEADER = b"PK\x05\x06", b"PK\x01\x02"
_ENCRYPTED = 0x1
_BROKEN = (
    OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip


class ArchiveError(OSError):
    """An archive, or a member of one, that cannot be read."""


def is_archive(name: str) -> bool:
    """Whether a file is taken for an archive, by its name."""
    return name.lower().endswith(SUFFIXES)


def members(archive: str, file: IO[bytes]) -> Iterator[Item]:
    """An item for each member that is a file, in the archive's order; a last one with a problem where it breaks off.

    Each item has a name of its own: a second member of one name is another image, ``NAME#2``.

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
            while label in named:  # a member may also be called NAME#2 by itself
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
        for info in archive.infolist():
            if info.is_dir():
                continue
            problem = None
            if info.flag_bits & _ENCRYPTED:
                problem = ItemProblem("unreadable", "The member is encrypted; allowed: members without a password.")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                name = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
                problem = ItemProblem("unreadable", f"The member is compressed by {name}; allowed: stored or deflated.")
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            yield info.filename, Span(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated), problem


def _without_comment(file: IO[bytes]) -> IO[bytes]:
    """The zip as if it had no comment: ``zipfile`` takes the last end record for the right one, even inside the comment."""
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
    """Whether a central directory of this length lies right before an end record, or one of ZIP64 does."""
    if entries == 0 or 0xFFFFFFFF in (length, entries) or entries == 0xFFFF:
        return True
    if length > place:
        return False
    file.seek(place - length)
    return file.read(len(_CENTRAL_HEADER)) == _CENTRAL_HEADER


class _Beginning(io.RawIOBase):
    """A file up to ``end``, whose last two bytes, the length of a comment, read as zero."""

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
    with _BoundedTar.open(fileobj=unpacked(file) if compressed else file, mode="r|" if compressed else "r:") as archive:
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


class _BoundedHeaders(tarfile.TarInfo):
    """A header whose extensions are bounded; ``tarfile`` reads a name of gigabytes into memory."""

    def _proc_member(self, tar: Any) -> Any:
        if self.type in (
            tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE,
        ):  # fmt: skip
            tar.count_header(self.size, for_all=self.type == tarfile.XGLTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE:
            return self._skip_map_of_holes(tar)
        return super()._proc_member(tar)  # type: ignore[misc]

    def _skip_map_of_holes(self, tar: Any) -> Any:
        """Files with holes are refused; only where they end must be known."""
        _, extended, apparent = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        while extended:
            tar.count_header(tarfile.BLOCKSIZE)
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            extended = len(block) == tarfile.BLOCKSIZE and block[504]
        self.sparse: Any = []
        self.offset_data = tar.fileobj.tell()
        tar.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        self.size = apparent
        return self

    def _proc_gnusparse_10(self, member: Any, headers: Any, tar: Any) -> None:
        member.sparse = []


class _BoundedTar(tarfile.TarFile):
    """A tar whose members are visited one by one and not kept."""

    tarinfo = _BoundedHeaders
    _headers = _headers_for_all = 0

    def next(self) -> tarfile.TarInfo | None:
        """The next member."""
        self.members: list[tarfile.TarInfo] = []
        self._headers = 0
        return super().next()

    def count_header(self, size: int, *, for_all: bool = False) -> None:
        """Counts an extended header.

        Raises:
            ArchiveError: there are too many bytes of them.
        """
        self._headers += size
        self._headers_for_all += size if for_all else 0
        if max(self._headers, self._headers_for_all) > MAX_HEADERS:
            raise ArchiveError(f"a header has {size:,} bytes; allowed before a member: at most {MAX_HEADERS:,}")


class _Unpacked(io.RawIOBase):
    """A compressed stream's bytes, no more than a stream of images unpacks to."""

    def __init__(self, packed: IO[bytes], stream: IO[bytes]) -> None:
        self._packed, self._stream = packed, stream
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._unpacked += len(data)
        if self._unpacked > max(_UNSUSPICIOUS, MAX_RATIO * self._packed.tell()):
            raise ArchiveError(f"it unpacks to more than {MAX_RATIO} times its size")
        return len(data)


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """The bytes of a file compressed by gzip, bzip2 or xz, or as they are; each piece that is read is bounded.

    ``tarfile`` unpacks whatever ten kilobytes hold at once: of bzip2, gigabytes.
    """
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        stream: IO[bytes] = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif start.startswith(b"BZh"):
        stream = bz2.BZ2File(file)
    elif start.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        stream = lzma.LZMAFile(file)  # noqa: SIM115 (the caller closes the file)
    else:
        return file
    return io.BufferedReader(_Unpacked(file, stream))


def read_span(file: IO[bytes], span: Span) -> bytes:
    """A member's bytes.

    Raises:
        ArchiveError: they are cut off, or are not those that the archive lists.
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
            data = unpacker.decompress(data, span.size + 1)  # never more than the archive admits to
        except zlib.error as error:
            raise ArchiveError(f"the member is damaged: {error}") from error
    if len(data) != span.size or (span.crc is not None and zlib.crc32(data) != span.crc):
        raise ArchiveError("the member is damaged: its checksum or size is not what the archive lists")
    return data


class TarStream:
    """Reads members of a compressed tar in their order; an earlier one only from a new stream."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = _BoundedTar.open(fileobj=unpacked(file), mode="r|")
        self.next = 0

    def read(self, index: int, most: int) -> bytes:
        """The bytes of member ``index``, at most ``most`` and one more.

        Raises:
            ArchiveError: the archive breaks off before.
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
