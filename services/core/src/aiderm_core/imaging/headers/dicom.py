"""Reads DICOM headers (PS3.3, C.7.6.3): the format of the pixels, and the position of those of the first frame.

Errors name tags and never values, because a value may identify a patient.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

from aiderm_core.imaging.headers import jpeg
from aiderm_core.imaging.headers.dicom_elements import PIXEL_DATA, DicomFile, name_of, read_elements
from aiderm_core.imaging.headers.model import Header, HeaderError, sized

RGB, PALETTE, YBR, YBR_422, YBR_ICT, YBR_RCT = "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"
NATIVE, JPEG, JPEG_2000, RLE = "uncompressed", "JPEG", "JPEG 2000", "RLE"
_UID = "1.2.840.10008.1.2"
_CODINGS = {
    **dict.fromkeys([_UID, f"{_UID}.1", f"{_UID}.2"], NATIVE),
    **dict.fromkeys([f"{_UID}.4.50", f"{_UID}.4.51"], JPEG),
    **dict.fromkeys([f"{_UID}.4.90", f"{_UID}.4.91"], JPEG_2000),
    f"{_UID}.5": RLE,
}
_COLOURS = {
    NATIVE: {RGB, PALETTE, YBR, YBR_422},
    JPEG: {RGB, YBR, YBR_422},
    JPEG_2000: {RGB, YBR, YBR_ICT, YBR_RCT},
    RLE: {RGB, PALETTE, YBR},
}
_ALLOWED = "uncompressed, RLE, JPEG with 8 bits a sample (processes 1, 2 and 4) and JPEG 2000"
_LUTS = (0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203)
_PROFILE = 0x00282000
_READ = (0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280103)
_MAX_TILES = 4_096
_CODESTREAM = b"\xff\x4f\xff\x51"
_MAX_BOXES = 100_000


@dataclass(frozen=True)
class DicomHeader(Header):
    """A DICOM image.

    Attributes:
        coding: of the pixels: uncompressed, JPEG, JPEG 2000 or RLE.
        colours: the photometric interpretation.
        planar: uncompressed samples are stored in separate planes.
        order: byte order of 16-bit samples, ``<`` or ``>``.
        swapped: the two bytes of each word are swapped.
        parts: offset and length of the pieces of the first frame, in order.
        jpeg: header of the first frame, if that is a JPEG.
        spacing: millimetres between rows, and between columns; None if the file does not state them.
    """

    coding: str = NATIVE
    colours: str = RGB
    planar: bool = False
    order: str = "<"
    swapped: bool = False
    parts: tuple[tuple[int, int], ...] = ()
    jpeg: jpeg.JpegHeader | None = None
    spacing: tuple[float, float] | None = None


def frame_of(data: bytes, header: DicomHeader) -> bytes:
    """The first frame as it is stored."""
    stored = b"".join(data[start : start + length] for start, length in header.parts)
    # Some writers store a JP2 file, whose boxes precede the codestream and might contradict it.
    return stored[max(0, stored.find(_CODESTREAM, 0, _MAX_BOXES)) :] if header.coding == JPEG_2000 else stored


def palette_of(data: bytes) -> Any:
    """The elements that hold the palette, as a pydicom data set."""
    return read_elements(data).values(_LUTS)


def read(data: bytes) -> DicomHeader:
    """Reads a DICOM file's header; raises HeaderError if it breaks the format or needs unsupported features."""
    file = read_elements(data)
    if PIXEL_DATA not in file.elements:
        raise HeaderError(f"The DICOM file holds no image: {name_of(PIXEL_DATA)} is missing.")
    coding = _CODINGS.get(file.syntax)
    if coding is None:
        raise HeaderError(f"The DICOM file's pixels are compressed in a way that is not supported; allowed: {_ALLOWED}.")
    attributes = file.values((*_READ, _PROFILE))
    width, height = _number(attributes, "Columns"), _number(attributes, "Rows")
    if width <= 0 or height <= 0:
        raise HeaderError(f"The DICOM header declares {width} x {height} pixels.")
    with sized("DICOM", width, height):
        return _image(file, attributes, coding, width, height)


def _image(file: DicomFile, attributes: Any, coding: str, width: int, height: int) -> DicomHeader:
    colours = str(_value(attributes, "PhotometricInterpretation") or "")
    if colours.startswith("MONOCHROME"):
        raise HeaderError("The DICOM image is monochrome (tag (0028,0004)); allowed: colour photographs.")
    if colours not in _COLOURS[coding]:
        allowed = ", ".join(sorted(_COLOURS[coding]))
        raise HeaderError(f"The DICOM image has other colours (tag (0028,0004)) than those allowed for {coding} data: {allowed}.")
    channels = 1 if colours == PALETTE else 3
    bits, stored = _number(attributes, "BitsAllocated"), _number(attributes, "BitsStored", 0)
    deep = colours == PALETTE and coding == NATIVE and bits == stored == 16
    if not deep and (bits, stored) != (8, 8):
        raise HeaderError(f"The DICOM image has samples of {stored} bits in {bits} (tags (0028,0101), (0028,0100)); allowed: 8.")
    if _number(attributes, "SamplesPerPixel", 1) != channels or _number(attributes, "PixelRepresentation", 0) != 0:
        raise HeaderError("The DICOM image has samples (tags (0028,0002), (0028,0103)) that do not fit its colours.")
    if colours == PALETTE and not all(tag in file.elements for tag in _LUTS):
        raise HeaderError(f"The DICOM image lacks its palette: {', '.join(map(name_of, _LUTS))}.")
    frames = max(1, _number(attributes, "NumberOfFrames", 1))
    element = file.elements[PIXEL_DATA]
    if (coding == NATIVE) != (element.length is not None):
        raise HeaderError(f"The DICOM file has {name_of(PIXEL_DATA)} in another form than its transfer syntax says.")
    if element.length is not None:
        if colours == YBR_422 and width % 2:
            raise HeaderError("The DICOM image of YBR_FULL_422 colours has an odd number of columns (tag (0028,0011)).")
        size = width * height * (2 if colours == YBR_422 else channels * bits // 8)
        if element.length < size * frames:
            raise HeaderError(f"The DICOM file has fewer bytes in {name_of(PIXEL_DATA)} than its size implies.", truncated=True)
        parts: tuple[tuple[int, int], ...] = ((element.start, min(size + size % 2, element.length)),)
    else:
        parts = _first_frame(file, frames)
    header = DicomHeader(
        width, height, channels=channels, bits=bits, profile=_value(attributes, "ICCProfile") or None, more_frames=frames > 1,
        coding=coding, colours=colours, planar=_number(attributes, "PlanarConfiguration", 0) == 1 and channels == 3,
        order=file.order, swapped=file.order == ">" and element.vr == "OW" and bits == 8, parts=parts,
        spacing=_spacing(attributes),
    )  # fmt: skip
    return _with_frame(header, file.data)


def _with_frame(header: DicomHeader, data: bytes) -> DicomHeader:
    """Checks ``header`` against the first frame's own header, and returns it with the details from there."""
    if header.coding == NATIVE:
        return header
    frame = frame_of(data, header)
    if header.coding == RLE:
        if len(frame) < 64 or struct.unpack_from("<I", frame)[0] != header.channels:
            raise HeaderError("The DICOM file's RLE data have another number of segments than its colours need.")
        return header
    found: Header
    if header.coding == JPEG:
        found = jpeg.read(frame)
        if not frame.startswith(b"\xff\xd8\xff"):
            raise HeaderError("The DICOM file's pixel data are no JPEG data.")
    else:
        found = _codestream(frame)
    if (found.width, found.height, found.channels) != (header.width, header.height, 3):
        raise HeaderError(
            f"The DICOM file's {header.coding} data measure {found.width} x {found.height} pixels of {found.channels} samples, "
            f"its header declares {header.width} x {header.height} of 3."
        )
    if isinstance(found, jpeg.JpegHeader):
        return replace(header, complete=found.complete, jpeg=found)
    return replace(header, complete=found.complete, colours=_decoded(header, frame))


def _first_frame(file: DicomFile, frames: int) -> tuple[tuple[int, int], ...]:
    """The fragments of the first frame.

    Raises:
        HeaderError: there are none, or the file does not tell which they are.
    """
    if len(file.fragments) < 2:
        raise HeaderError(f"The DICOM file has no pixels in {name_of(PIXEL_DATA)}.", truncated=True)
    (table, length), *fragments = file.fragments
    if frames == 1:
        return tuple(fragments)
    if length >= 8:  # offsets are relative to the start of the first fragment's item
        second = struct.unpack_from("<I", file.data, table + 4)[0] + fragments[0][0]
        first = tuple(part for part in fragments if part[0] < second)
        if first:
            return first
    if len(fragments) == frames:
        return (fragments[0],)
    for count, (start, size) in enumerate(fragments, 1):
        if b"\xff\xd9" in file.data[max(start, start + size - 4) : start + size]:  # the end of a JPEG or JPEG 2000 image
            return tuple(fragments[:count])
    raise HeaderError(f"The DICOM file does not tell which parts of {name_of(PIXEL_DATA)} are its first frame.")


def _codestream(frame: bytes) -> Header:
    """Reads the main header of JPEG 2000 data (ISO/IEC 15444-1, A.5.1)."""
    if not frame.startswith(_CODESTREAM):
        raise HeaderError("The DICOM file's pixel data are no JPEG 2000 data.")
    right, bottom, left, top, across, down, tile_left, tile_top, channels = struct.unpack_from(">8IH", frame, 8)
    samples = frame[42 : 42 + 3 * min(channels, 3)]
    if samples != b"\x07\x01\x01" * channels:
        raise HeaderError("The DICOM file's JPEG 2000 data have other samples than three of 8 bits.")
    if not across or not down or -(-right // across) * -(-bottom // down) > _MAX_TILES or tile_left > left or tile_top > top:
        raise HeaderError(f"The DICOM file's JPEG 2000 data have more than {_MAX_TILES:,} tiles, or none.")
    return Header(right - left, bottom - top, channels=channels, complete=b"\xff\xd9" in frame[-3:])


def _decoded(header: DicomHeader, frame: bytes) -> str:
    """The colours of decoded JPEG 2000 data: undoing its own colour transformation gives RGB (marker COD, A.6.1)."""
    at = 2
    while frame[at : at + 2] not in (b"\xff\x52", b"\xff\x90", b""):
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    transformed = frame[at : at + 2] == b"\xff\x52" and frame[at + 8] == 1
    return YBR if header.colours == YBR and not transformed else RGB


def _value(attributes: Any, keyword: str) -> Any:
    """Returns a value as pydicom converts it; None if the file has no such value.

    Raises:
        HeaderError: it cannot be converted.
    """
    try:
        return attributes.get(keyword)
    except Exception:  # a broken value can cause any exception in pydicom, with the value in its text
        raise HeaderError(f"The DICOM file has a value that cannot be read in {_tag_of(keyword)}.") from None


def _number(attributes: Any, keyword: str, default: int | None = None) -> int:
    value = _value(attributes, keyword)
    if value is None and default is not None:
        return default
    if not isinstance(value, int):
        raise HeaderError(f"The DICOM file lacks a number in {_tag_of(keyword)}.")
    return int(value)


def _tag_of(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    return name_of(tag_for_keyword(keyword) or 0)


def _spacing(attributes: Any) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; None unless both are positive and finite."""
    value = _value(attributes, "PixelSpacing")
    try:
        down, across = (float(each) for each in value)
    except (TypeError, ValueError):
        return None
    return (down, across) if math.isfinite(down * across) and min(down, across) > 0 else None
