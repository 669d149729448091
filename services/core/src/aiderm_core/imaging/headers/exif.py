"""Reads the orientation from EXIF metadata (EXIF 2.3, a TIFF structure)."""

from __future__ import annotations

from collections.abc import Sequence

from aiderm_core.imaging.headers.model import BEYOND_THE_END, HeaderError
from aiderm_core.imaging.headers.tiff_directory import read_directory

PREFIX = b"Exif\x00\x00"
ORIENTATION = 274


def exif_orientation(segments: Sequence[bytes]) -> int:
    """The orientation 1..8 in the first segment; 1 if it is absent or malformed.

    Args:
        segments: EXIF segments of one file in their order, with or without the prefix. Long metadata are split over several
            segments, so all of them are joined if the first one ends before its directory does.
    """
    bodies = [segment.removeprefix(PREFIX) for segment in segments]
    for exif in (bodies[:1], bodies if len(bodies) > 1 else []):
        joined = b"".join(exif)
        if not joined:
            continue
        try:
            tags = read_directory(joined).tags
        except (HeaderError, *BEYOND_THE_END):
            continue
        return orientation_of(tags.get(ORIENTATION))
    return 1


def orientation_of(values: Sequence[int] | None) -> int:
    """The first of a tag's values if it is an orientation; 1 otherwise."""
    return values[0] if values and 1 <= values[0] <= 8 else 1
