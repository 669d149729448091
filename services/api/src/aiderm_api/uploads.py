"""An image file as it was uploaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Upload:
    """One file part. ``too_large`` means that it exceeded the size limit of a file; its data were dropped."""

    data: bytes = b""
    too_large: bool = False


def too_large_text(limit: int) -> str:
    """The message for a client whose file exceeds ``limit`` bytes."""
    return f"Received: a file of more than {limit:,} bytes. Allowed: {limit:,} bytes ({limit / 1e6:g} MB)."
