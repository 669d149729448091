"""Recognises image formats by their magic bytes, and names those that are not allowed."""

from __future__ import annotations

import re
import struct

ALLOWED = "JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM"

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
)
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)
_HEIC = "a HEIC picture, as Apple devices write by default; export or photograph as JPEG"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_TEXT = (
    (re.compile(rb"<(?:!doctype\s+)?svg\b", re.I), "an SVG drawing"),
    (re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.I), "an HTML page"),
    (re.compile(rb"\s*<\?xml\b"), "an XML document"),
    (re.compile(rb"\s*[{\[][\s\"{\[\d\]}tfn-]"), "JSON"),
)


def sniff(data: bytes) -> str | None:
    """Returns the allowed format that the magic bytes name: jpeg, png, webp, bmp, tiff, gif or dicom; None for anything else."""
    if data[128:132] == b"DICM":  # checked first: the bytes before may be the header of a TIFF file that shares the pixels
        return "dicom"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    # "BM" alone also begins ordinary text; the size of the header that follows identifies a bitmap.
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in {12, 16, 40, 52, 56, 64, 108, 124}:
        return "bmp"
    return None


def describe(data: bytes) -> str:
    """Describes a refused file's type for the person who sent it."""
    if data[4:8] == b"ftyp":
        brands = {data[8:12]} | {data[at : at + 4] for at in range(16, min(64, len(data) - 3), 4)}
        if brands & {b"avif", b"avis"}:
            return "an AVIF picture; export as JPEG"
        return _HEIC if brands & _HEIC_BRANDS else "an MP4 or QuickTime video"
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            return name
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    for pattern, name in _TEXT[:2]:
        if pattern.search(head):
            return name
    for pattern, name in _TEXT[2:]:
        if pattern.match(head):
            return name
    return "a file of an unknown type"
