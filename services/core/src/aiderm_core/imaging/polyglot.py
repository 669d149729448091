"""Files that are a picture to one program and something else to another."""

from __future__ import annotations

# A ZIP archive ends with 22 bytes and a comment of at most 65,535.
_MAX_ZIP_END = 22 + 65_535
# Where a script could stand without being compressed picture: among the metadata, or behind the picture.
_MARGIN = 65_536
_SCRIPTS = ((b"<script", "an HTML page"), (b"<?php", "a PHP script"), (b"<!doctype html", "an HTML page"))


def polyglot_type(data: bytes) -> str | None:
    """What else than a picture a file is to programs that look elsewhere than at its first bytes; None for an honest one.

    Archives are read from their end, documents from anywhere in the first kilobyte, scripts wherever they stand. Other bytes
    behind a picture are no fault: phones put short films there.
    """
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _MAX_ZIP_END))
    if end >= 0 and len(data) >= end + 22 and end + 22 + int.from_bytes(data[end + 20 : end + 22], "little") == len(data):
        return "a ZIP archive"
    if b"%PDF-" in data[:1024]:
        return "a PDF document"
    for part in (data[:_MARGIN], data[max(_MARGIN, len(data) - _MARGIN) :]):
        lower = part.lower()
        for sign, name in _SCRIPTS:
            if sign in lower:
                return name
    return None
