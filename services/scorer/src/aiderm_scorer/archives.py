"""Members of zip and tar archives: found once, then each read by itself, from wherever the archive lies."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from aiderm_scorer.items import Item, Problem, Span, Streamed, printable

_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SUFFIXES = (".zip", ".tar", *_TARS)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1


class ArchiveError(OSError):
    """An archive, or a member of one, that cannot be read."""


def is_archive(name: str) -> bool:
    """Whether a file is taken for an archive, by its name."""
    return name.lower().endswith(SUFFIXES)


def members(archive: str, file: IO[bytes]) -> Iterator[Item]:
    """An item for each member that is a file, in the archive's order; a last one with a problem where it breaks off.

    Args:
        archive: its path or address.
        file: its bytes; must allow seeking.
    """
    seen: dict[str, int] = {}
    try:
        for name, inside, problem in _zip(file) if archive.lower().endswith(".zip") else _tar(archive, file):
            # A second member of a name is another image.
            seen[name] = count = seen.get(name, 0) + 1
            image = f"{printable(archive)}::{printable(name)}" + (f"#{count}" if count > 1 else "")
            yield Item(image, archive, inside, problem=problem)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        yield Item(
            printable(archive), archive, problem=Problem("unreadable", f"The archive breaks off: {error or 'no more bytes'}")
        )


def _zip(file: IO[bytes]) -> Iterator[tuple[str, Span | None, Problem | None]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            problem = None
            if info.flag_bits & _ENCRYPTED:
                problem = Problem("unreadable", "The member is encrypted; allowed: members without a password.")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                name = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
                problem = Problem("unreadable", f"The member is compressed by {name}; allowed: stored or deflated.")
            deflated = info.compress_type == zipfile.ZIP_DEFLATED
            yield info.filename, Span(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated), problem


def _tar(name: str, file: IO[bytes]) -> Iterator[tuple[str, Span | Streamed | None, Problem | None]]:
    compressed = name.lower().endswith(_TARS)
    with tarfile.open(fileobj=file, mode="r|*" if compressed else "r:") as archive:
        for index, member in enumerate(_each(archive)):
            if member.isdir():
                continue
            if not (member.isreg() or member.islnk()):
                yield member.name, None, Problem("unreadable", "The member is no regular file.")
            elif compressed and member.isreg():
                yield member.name, Streamed(index), None
            elif member.issparse() or member.islnk():
                yield (
                    member.name,
                    None,
                    Problem("unreadable", "The member is a link or has holes; allowed: a plain copy of the file."),
                )
            else:
                yield member.name, Span(member.offset_data, member.size, member.size), None


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members one by one, without those that were passed in memory."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member


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
        self._archive: Any = tarfile.open(fileobj=file, mode="r|*")  # noqa: SIM115 (closed with the file)
        self.next = 0

    def read(self, index: int, most: int) -> bytes:
        """The bytes of member ``index``, at most ``most`` and one more.

        Raises:
            ArchiveError: the archive breaks off before.
        """
        try:
            while True:
                member = self._archive.next()
                self._archive.members = []
                if member is None:
                    raise ArchiveError("the archive breaks off before the member")
                self.next += 1
                if self.next > index:
                    file = self._archive.extractfile(member)
                    return b"" if file is None else bytes(file.read(most + 1))
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise ArchiveError(f"the archive breaks off: {error or 'no more bytes'}") from error
