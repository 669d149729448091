"""``tarfile`` for untrusted archives: what headers claim is checked and limited before it is used or kept.

Python 3.11.7's ``tarfile`` reads names of gigabytes, loops forever on a negative size, reads past the end for hours on a huge
size, takes quadratic time on a pax header of digits, and stops silently at a damaged header.
"""

from __future__ import annotations

import tarfile
from typing import Any

from aiderm_scorer.unpacked import ArchiveError

MAX_HEADERS = 1 << 20  # limit in bytes for extended headers before one member, and for all global headers
_PIECE = 1 << 16
_LONGEST_LENGTH = 8  # most digits in the length of a pax record


class _Header(tarfile.TarInfo):
    """A header that rejects negative sizes and limits extensions; a damaged one never ends an archive silently."""

    @classmethod
    def fromtarfile(cls, tar: Any) -> Any:
        """Reads the next member's header.

        Raises:
            ArchiveError: it is damaged or breaks off, and is not at the beginning.
        """
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            if tar.offset == 0:
                raise
            raise ArchiveError(f"a header is damaged: {error}") from None

    def _block(self, count: int) -> int:
        if count < 0:
            raise ArchiveError(f"a header says {count:,} bytes; allowed: 0 or more")
        return int(super()._block(count))  # type: ignore[misc]

    def _proc_member(self, tar: Any) -> Any:
        if self.type in (
            tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE,
        ):  # fmt: skip
            tar.count_header(self._block(self.size) + tarfile.BLOCKSIZE, for_all=self.type == tarfile.XGLTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE:
            return self._skip_map_of_holes(tar)
        return super()._proc_member(tar)  # type: ignore[misc]

    def _skip_map_of_holes(self, tar: Any) -> Any:
        """Skips a sparse file's map. Such files are refused, but the position of their end is needed."""
        _, extended, apparent = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        while extended:
            tar.count_header(tarfile.BLOCKSIZE)
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            extended = len(block) == tarfile.BLOCKSIZE and block[504]
        self.sparse: Any = []
        self.offset_data = tar.fileobj.tell()
        tar.offset = self.offset_data + self._block(self.size)
        self.size = apparent
        return self

    def _proc_pax(self, tar: Any) -> Any:
        """Does the same as in ``tarfile``, but reads the records in one pass and only marks sparse files."""
        for_all = self.type == tarfile.XGLTYPE
        headers = tar.pax_headers if for_all else dict(tar.pax_headers)
        headers.update(_records(tar.fileobj.read(self._block(self.size))[: self.size]))
        try:
            member = self.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise ArchiveError(f"a header is damaged: {error or 'no more bytes'}") from None
        if any(keyword.startswith("GNU.sparse.") for keyword in headers):
            member.sparse = []
        if not for_all:
            member._apply_pax_info(headers, tar.encoding, tar.errors)
            if "size" in headers:
                has_data = member.isreg() or member.type not in tarfile.SUPPORTED_TYPES
                tar.offset = member.offset_data + (self._block(member.size) if has_data else 0)
        return member


def _records(text: bytes) -> dict[str, str]:
    """Parses the records of a pax header: ``LENGTH KEYWORD=VALUE\\n``, where the length is that of the whole record.

    Raises:
        ArchiveError: a record has another form.
    """
    found = {}
    place = 0
    while place < len(text):
        space = text.find(b" ", place, place + _LONGEST_LENGTH + 1)
        length = int(text[place:space]) if space > place and text[place:space].isdigit() else 0
        keyword, equals, value = text[space + 1 : place + length].partition(b"=")
        if not equals or not value.endswith(b"\n") or place + length > len(text):
            raise ArchiveError("a pax header is damaged")
        found[keyword.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
        place += length
    return found


class BoundedTar(tarfile.TarFile):
    """A tar whose members are visited one by one and not kept."""

    tarinfo = _Header
    _headers = _headers_for_all = 0

    def next(self) -> tarfile.TarInfo | None:
        """Returns the next member, or None at the end.

        Raises:
            ArchiveError, tarfile.TarError: the next member cannot be read.
        """
        self.members: list[tarfile.TarInfo] = []
        self._headers = 0
        if getattr(self, "firstmember", None) is None:  # that one was read when the archive was opened
            self._skip()
        member = super().next()
        if member is not None and member.size < 0:  # a global header may set this
            raise ArchiveError(f"a header says {member.size:,} bytes; allowed: 0 or more")
        return member

    def _skip(self) -> None:
        """Reads a stream up to the last byte before the next header; ``tarfile`` would keep on reading after the stream's end."""
        file: Any = self.fileobj
        if file.__class__ is not tarfile._Stream:  # type: ignore[attr-defined]
            return
        while (left := self.offset - 1 - file.tell()) > 0:
            if not file.read(min(left, _PIECE)):
                raise ArchiveError("it ends inside a member")

    def count_header(self, size: int, *, for_all: bool = False) -> None:
        """Counts an extended header.

        Raises:
            ArchiveError: they have too many bytes together.
        """
        self._headers += size
        self._headers_for_all += size if for_all else 0
        if max(self._headers, self._headers_for_all) > MAX_HEADERS:
            raise ArchiveError(f"a header has {size:,} bytes; allowed before a member: at most {MAX_HEADERS:,}")
