"""Unpacks compressed archives, and limits their output and memory to what legitimate archives need."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import IO, Any

MAX_RATIO = 100  # unpacked bytes per compressed byte, for streams that unpack to more than this:
_UNSUSPICIOUS = 256 << 20
MAX_DICTIONARY = 128 << 20  # bytes of memory that unpacking xz may take; its strongest preset takes half of that
_PIECE = 1 << 16
_XZ = b"\xfd7zXZ"


class ArchiveError(OSError):
    """An archive, or a member of one, that cannot be read."""


class _Unpacked(io.RawIOBase):
    """A compressed stream's bytes; fails if they are more than a stream of images would unpack to."""

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


class _Xz:
    """The bytes of an xz or lzma file, with limited memory; with ``lzma.LZMAFile``, a tiny file could claim any amount."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpacker = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY)

    def read(self, size: int) -> bytes:
        """Reads at most ``size`` bytes; returns none at the end.

        Raises:
            lzma.LZMAError: the data are damaged, or take too much memory.
            EOFError: they break off.
        """
        while True:
            if self._unpacker.eof:  # another stream may follow, after zeros
                rest = self._unpacker.unused_data.lstrip(b"\0")
                while len(rest) < len(_XZ) and (more := self._file.read(_PIECE)):
                    rest = (rest + more).lstrip(b"\0")
                if not rest.startswith(_XZ):  # anything else that follows is ignored, as in LZMAFile
                    return b""
                self._unpacker = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY)
                packed = rest
            else:
                packed = self._file.read(_PIECE) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not packed:
                    raise EOFError("the compressed data break off")
            if data := self._unpacker.decompress(packed, size):
                return data


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """Returns the bytes of a file, unpacked if it is compressed by gzip, bzip2 or xz; each read is limited in size.

    ``tarfile`` itself unpacks ten kilobytes of input at once, which can be gigabytes with bzip2.
    """
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        stream: IO[bytes] = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif start.startswith(b"BZh"):
        stream = bz2.BZ2File(file)
    elif start.startswith((_XZ, b"\x5d\0\0")):
        stream = _Xz(file)  # type: ignore[assignment]
    else:
        return file
    return io.BufferedReader(_Unpacked(file, stream))
