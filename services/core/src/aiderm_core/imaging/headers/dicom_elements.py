"""Finds the elements of a DICOM file (PS3.10, PS3.5) without reading their values, and limits their number and nesting.

pydicom converts the values of the few that are needed. It does not get the file itself: a crafted file can make a reader that
follows every length and every sequence allocate gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiderm_core.imaging.headers.model import HeaderError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

START = 132
"""Offset of the first element, after 128 bytes of any content and the magic bytes."""
TRANSFER_SYNTAX, PIXEL_DATA, PIXEL_SPACING = 0x00020010, 0x7FE00010, 0x00280030
IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
MAX_VALUE = 4_000_000
"""Most bytes of a value that is read; the longest is an ICC profile."""
_MAX_ELEMENTS = 5_000  # including items and fragments; a photograph has a few hundred
_MAX_DEPTH = 16
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
# Functional groups of multi-frame images, and the pixel measures in them.
_ENTERED = {0x52009229, 0x52009230, 0x00289110}


@dataclass(frozen=True)
class Element:
    """The position of a value.

    Attributes:
        vr: its value representation; None if the file leaves that to the dictionary.
        start: offset of the value.
        length: in bytes; None if undefined, as for pixel data in fragments and some sequences.
    """

    vr: str | None
    start: int
    length: int | None


@dataclass
class DicomFile:
    """The elements of a file up to its pixel data.

    Attributes:
        data: the file's bytes.
        syntax: UID of the transfer syntax.
        order: byte order, ``<`` or ``>``.
        implicit: the data set leaves value representations to the dictionary.
        elements: elements of the outermost level, by tag.
        spacing: the first pixel spacing, at any level.
        fragments: offset and length of each part of encapsulated pixel data; the first is the table of offsets.
    """

    data: bytes
    syntax: str = ""
    order: str = "<"
    implicit: bool = False
    elements: dict[int, Element] = field(default_factory=dict)
    spacing: Element | None = None
    fragments: list[tuple[int, int]] = field(default_factory=list)

    def values(self, tags: Iterable[int]) -> Dataset:
        """Returns the elements with these tags that the file has, as a pydicom data set that converts values on access.

        Raises:
            HeaderError: a value is longer than ``MAX_VALUE``.
        """
        from pydicom import config
        from pydicom.charset import convert_encodings
        from pydicom.dataelem import RawDataElement
        from pydicom.dataset import Dataset
        from pydicom.tag import BaseTag

        config.settings.reading_validation_mode = config.IGNORE  # pydicom's warnings contain values
        found = Dataset()
        for tag in tags:
            element = self.spacing if tag == PIXEL_SPACING else self.elements.get(tag)
            if element is None or element.length is None:
                continue
            if element.length > MAX_VALUE:
                raise HeaderError(f"The DICOM file has {element.length:,} bytes in {name_of(tag)}.")
            value = self.data[element.start : element.start + element.length]
            raw = RawDataElement(BaseTag(tag), element.vr, element.length, value, 0, self.implicit, self.order == "<", True)
            found[BaseTag(tag)] = raw
        charset = found.get("SpecificCharacterSet", "ISO_IR 6")
        found.set_original_encoding(self.implicit, self.order == "<", convert_encodings(charset))
        return found


def name_of(tag: int) -> str:
    """A tag in the standard's notation."""
    return f"tag ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def read_elements(data: bytes) -> DicomFile:
    """Finds the elements of a DICOM file.

    Raises:
        HeaderError: it breaks the format, or holds more elements or levels than any image does.
        struct.error: it ends inside an element's head.
    """
    walker = _Walker(data)
    at = walker.meta()
    file = walker.file
    if file.syntax == DEFLATED:
        raise HeaderError("The DICOM file is deflated as a whole, which is not supported.")
    file.order = ">" if file.syntax == BIG_ENDIAN else "<"
    # Some writers name an explicit transfer syntax but leave out the value representations.
    file.implicit = file.syntax == IMPLICIT or not _is_representation(data[at + 4 : at + 6])
    walker.dataset(at, len(data), file.implicit, 0)
    return file


def _is_representation(kind: bytes) -> bool:
    return kind.isalpha() and kind.isupper()


class _Walker:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_ELEMENTS
        self.file = DicomFile(data)

    def meta(self) -> int:
        """Reads the file meta information, always explicit and little-endian; returns the offset of the data set."""
        at = START
        while self._data[at : at + 2] == b"\x02\x00":
            tag, element, at = self._element(at, implicit=False)
            if tag == TRANSFER_SYNTAX and element.length is not None:
                if element.length > 64:
                    raise HeaderError(f"The DICOM file has {element.length:,} bytes in {name_of(tag)}.")
                self.file.syntax = self._data[element.start : at].rstrip(b"\0 ").decode("latin-1")
        if not self.file.syntax:
            raise HeaderError(f"The DICOM file lacks {name_of(TRANSFER_SYNTAX)}, its transfer syntax.")
        return at

    def dataset(self, at: int, end: int, implicit: bool, depth: int) -> int:
        """Walks a data set up to ``end``, its delimiter or the pixel data; returns the offset after it."""
        while at < end:
            tag = self._tag(at)
            if tag == _ITEM_END and depth:
                return at + 8
            if tag == PIXEL_DATA and not depth:
                return self._pixel_data(at, implicit)
            tag, element, at = self._element(at, implicit)
            if tag == PIXEL_SPACING and self.file.spacing is None:
                self.file.spacing = element
            if element.length is None or tag in _ENTERED:
                # A sequence of unknown representation is stored as if it were implicit (PS3.5, 6.2.2).
                after = None if element.length is None else element.start + element.length
                at = self._sequence(element.start, after, end, implicit or element.vr == "UN", depth + 1)
            if at > end:
                raise HeaderError(f"The DICOM file ends inside {name_of(tag)}.", truncated=True)
            if not depth:
                self.file.elements[tag] = element
        return at

    def _tag(self, at: int) -> int:
        group, number = struct.unpack_from(f"{self.file.order}HH", self._data, at)
        return int(group << 16 | number)

    def _element(self, at: int, implicit: bool) -> tuple[int, Element, int]:
        """Returns the tag and element at ``at``, and the offset after it (or of its value, if the length is undefined)."""
        self._left -= 1
        if self._left < 0:
            raise HeaderError(f"The DICOM file holds more than {_MAX_ELEMENTS:,} elements.")
        order, tag = self.file.order, self._tag(at)
        if implicit:
            vr, (length,), start = None, struct.unpack_from(f"{order}I", self._data, at + 4), at + 8
        else:
            kind = self._data[at + 4 : at + 6]
            if not _is_representation(kind):
                raise HeaderError(f"The DICOM file has no value representation in {name_of(tag)}.", truncated=len(kind) < 2)
            vr = kind.decode("ascii")
            long = kind in _LONG
            (length,) = struct.unpack_from(f"{order}{'I' if long else 'H'}", self._data, at + (8 if long else 6))
            start = at + (12 if long else 8)
        if length == _UNDEFINED:
            return tag, Element(vr, start, None), start
        if start + length > len(self._data):
            raise HeaderError(f"The DICOM file ends inside {name_of(tag)}.", truncated=True)
        return tag, Element(vr, start, length), start + length

    def _sequence(self, at: int, after: int | None, end: int, implicit: bool, depth: int) -> int:
        """Walks the items of a sequence up to ``after``, or to its delimiter if that is None; returns the offset after it."""
        if depth > _MAX_DEPTH:
            raise HeaderError(f"The DICOM file nests more than {_MAX_DEPTH} sequences.")
        until = end if after is None else after
        while at < until:
            tag, element, at = self._element(at, implicit=True)
            if tag == _SEQUENCE_END and after is None:
                return at
            if tag != _ITEM:
                raise HeaderError(f"The DICOM file has {name_of(tag)} where an item of a sequence must stand.")
            if element.length is None or after is not None:
                at = self.dataset(element.start, until if element.length is None else at, implicit, depth)
        if after is None:
            raise HeaderError("The DICOM file ends inside a sequence.", truncated=True)
        return at

    def _pixel_data(self, at: int, implicit: bool) -> int:
        tag, element, at = self._element(at, implicit)
        self.file.elements[tag] = element
        if element.length is not None:
            return at
        while True:
            tag, part, at = self._element(at, implicit=True)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM or part.length is None:
                raise HeaderError(f"The DICOM file has {name_of(tag)} where a part of the pixel data must stand.")
            self.file.fragments.append((part.start, part.length))
