"""An image file as it was uploaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Upload:
    """One file part. ``too_large``: it exceeded the limit of a file, and its data were dropped."""

    data: bytes = b""
    too_large: bool = False


def too_large_text(limit: int) -> str:
    """What to tell a client of a file beyond ``limit`` bytes."""
    return f"Received: a file of more than {limit:,} bytes. Allowed: {limit:,} bytes ({limit / 1e6:g} MB)."
