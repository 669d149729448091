"""Lists the image files below a folder, without the files that operating systems and archivers leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_LEFTOVERS: Final = frozenset({"@eadir", "__macosx", "thumbs.db", "desktop.ini"})  # Synology's, macOS's and Windows'


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden (``.DS_Store``, ``._a.jpg``) or created by a system (``@eaDir``, ``__MACOSX``)."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def subfolders(folder: Path) -> list[Path]:
    """Folders directly below ``folder``, sorted, without leftovers."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not is_leftover(child.name))


def image_files(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` with an image suffix, sorted, without leftovers."""
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in IMAGE_SUFFIXES or any(is_leftover(part) for part in file.relative_to(folder).parts):
            continue
        if file.is_file():
            yield file
