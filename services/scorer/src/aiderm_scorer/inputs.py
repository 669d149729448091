"""Turns the user's folders, patterns, lists, archives and addresses into one item per image."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from aiderm_scorer import archives
from aiderm_scorer.addresses import Allowed
from aiderm_scorer.items import Item, ItemProblem, is_address, printable
from aiderm_scorer.lists import is_list, read_list

# For folders and archives: files named by the user or a list always count as images. Unreadable formats get rows with an error.
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for names in ("jpg jpeg jpe jfif png webp bmp dib tif tiff gif", "heic heif avif jp2 jxl dcm dicom raw dng svg")
    for name in names.split()
)
_WILD = frozenset("*?[")
_NUMBER = re.compile(r"(#[0-9]+)+$")
HIDDEN = "hidden"
# Copies and thumbnails that systems leave beside images: macOS in archives, Synology on its disks.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"})


class InputError(ValueError):
    """An input that cannot be used at all."""


@dataclass
class Listing:
    """What the inputs hold.

    Attributes:
        items: one per image.
        skipped: number of files that are not images, by suffix; hidden files and system files count under ``HIDDEN``.
        repeated: how many times an image was named again.
    """

    items: list[Item] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0


def find(
    inputs: Sequence[str],
    *,
    column: str | None = None,
    root: str | None = None,
    every_file: bool = False,
    allowed: Allowed | None = None,
    lesion_column: str | None = None,
) -> Listing:
    """Lists the images of all inputs, each once.

    Args:
        inputs: files, folders, patterns with ``*``, lists (.csv, .tsv, .parquet, .txt), archives (.zip, .tar, .tar.gz ...),
            as paths or as addresses that fsspec knows.
        column: of a list that holds the paths; None to find it by its name.
        root: folder that the paths of a list are relative to; the list's own if None.
        every_file: in folders and archives, also take files without an image's suffix.
        allowed: addresses that lists may name; by default s3:// only.
        lesion_column: of a list that names the lesion of each image.

    Raises:
        InputError: an input does not exist or cannot be read, or there are no images; with ``lesion_column``, also if an image
            is listed for two lesions, or no image for any.
    """
    listing = Listing()
    options = _Options(column, root, every_file, allowed or Allowed(), listing.skipped, lesion_column)
    seen: dict[tuple[str, str], int] = {}
    names: set[str] = set()
    for text in inputs:
        for item in _images(text, options):
            key = _identity(item)
            if key in seen:
                first = listing.items[seen[key]]
                if item.lesion and first.lesion and item.lesion != first.lesion:
                    raise InputError(f"{item.image} is listed for two lesions: {first.lesion!r} and {item.lesion!r}")
                listing.items[seen[key]] = replace(first, lesion=first.lesion or item.lesion)
                listing.repeated += 1
                continue
            seen[key] = len(listing.items)
            name, count = item.image, 1
            while name in names:  # another file, whose printable name is the same
                count += 1
                name = f"{item.image}#{count}"
            names.add(name)
            listing.items.append(item if count == 1 else replace(item, image=name))
    if not listing.items:
        suffixes = ", ".join(f"{count} {name}" for name, count in listing.skipped.most_common(5)) or "none"
        raise InputError(f"no images in {', '.join(inputs)}; other files there: {suffixes}")
    if lesion_column is not None and not any(item.lesion for item in listing.items):
        raise InputError(
            f"--lesion-column needs a list with that column. Received: no lesion of any image in {', '.join(inputs)}"
        )
    return listing


@dataclass(frozen=True)
class _Options:
    """How inputs are read, and where skipped files are counted."""

    column: str | None
    root: str | None
    every_file: bool
    allowed: Allowed
    skipped: Counter[str]
    lesion_column: str | None


def _identity(item: Item) -> tuple[str, str]:
    """Identifies an image, in whatever way it is named, by the location of its file and the name of its member.

    Names of members are compared as written: an archive may contain both ``a/../b.jpg`` and ``b.jpg``.
    """
    where = item.where if is_address(item.where) else os.path.abspath(item.where)  # noqa: PTH100 (no disk is asked)
    head = printable(item.where)
    return where, item.image.removeprefix(head) if item.image.startswith(head) else item.image


def _images(text: str, options: _Options) -> Iterator[Item]:
    store = _Store(text)
    kind = store.kind(text)
    if kind == "folder":
        yield from _wanted(store.walk(text), text, options)
    elif kind == "file" and archives.is_archive(text):
        with store.open(text) as file:
            yield from _wanted(archives.members(text, file), None, options)
    elif kind == "file" and is_list(text):
        with store.open(text) as file:
            yield from read_list(text, file, options.column, options.root, options.allowed, options.lesion_column)
    elif kind == "file":
        yield Item(printable(text), text)
    elif _WILD & set(text):
        matches = store.glob(text)
        if not matches:
            raise InputError(f"nothing matches {text}")
        # data/* means only the images, not the table beside them; lists/*.csv means the tables.
        named = archives.is_archive(text) or is_list(text)
        for match in matches:
            found = _images(match, options)
            folder = store.kind(match) == "folder"
            yield from found if named or folder else _wanted(iter([Item(printable(match), match)]), "", options)
    else:
        raise InputError(f"there is no {text}. Allowed: a file, folder, pattern, list, archive, or an address that fsspec knows")


def _wanted(items: Iterator[Item], root: str | None, options: _Options) -> Iterator[Item]:
    """Yields items without hidden files, system files, and files with another suffix than images have; counts those skipped."""
    for item in items:
        member = item.image.rpartition("::")[2] if "::" in item.image else None
        if member is None and item.problem is not None:  # concerns a whole folder or archive
            yield item
            continue
        # A second member with the same name is NAME#2 in the table, and still an image.
        path = PurePosixPath(item.where[len(root or "") :] if member is None else _NUMBER.sub("", member))
        if any((part.startswith(".") and part not in (".", "..")) or part in _SYSTEM_FOLDERS for part in path.parts):
            options.skipped[HIDDEN] += 1
        elif path.suffix and path.suffix.lower() not in IMAGE_SUFFIXES and not options.every_file:
            options.skipped[path.suffix.lower()] += 1
        else:
            yield item


class _Store:
    """The storage of an input: this machine's disk, or fsspec's file system for an address."""

    def __init__(self, text: str) -> None:
        self.local = not is_address(text)
        self._system: Any = None
        if not self.local:
            try:
                self._system, _ = fsspec.core.url_to_fs(text)
            except Exception as error:
                raise InputError(f"{text} cannot be opened: {_sentence(error)}") from error

    def kind(self, text: str) -> str:
        """``file``, ``folder`` or ``nothing``."""
        try:
            if self.local:
                mode = os.stat(text).st_mode  # noqa: PTH116 (a name that is no UTF-8 as well)
                return "folder" if stat.S_ISDIR(mode) else "file"
            info = self._system.info(text)
            return "folder" if info["type"] == "directory" else "file"
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return "nothing"
        except Exception as error:  # file systems raise exceptions of their own
            raise InputError(f"{text} cannot be read: {_sentence(error)}") from error

    def open(self, text: str) -> Any:
        """Opens a file for reading at any position."""
        if self.local and not Path(text).is_file():  # opening a pipe would block
            raise InputError(f"{text} is no regular file; allowed: files and folders")
        try:
            return Path(text).open("rb") if self.local else self._system.open(text, "rb")
        except Exception as error:
            raise InputError(f"{text} cannot be read: {_sentence(error)}") from error

    def glob(self, text: str) -> list[str]:
        """The paths that match a pattern, sorted."""
        if self.local:
            return sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (keeps the path as it was written)
        try:
            return sorted(self._system.unstrip_protocol(match) for match in self._system.glob(text))
        except Exception as error:
            raise InputError(f"{text} cannot be read: {_sentence(error)}") from error

    def walk(self, folder: str) -> Iterator[Item]:
        """Every file below a folder, sorted; links to folders are not followed."""
        if not self.local:
            try:
                found = sorted(self._system.find(folder, detail=True).items())
            except Exception as error:
                raise InputError(f"{folder} cannot be read: {_sentence(error)}") from error
            for path, info in found:
                if info["type"] == "file" and not path.endswith("/"):
                    address = self._system.unstrip_protocol(path)
                    yield Item(printable(address), address)
            return
        unreadable: list[OSError] = []
        for parent, folders, names in os.walk(folder, onerror=unreadable.append):
            folders.sort()
            while unreadable:
                yield _unreadable(unreadable.pop())
            for name in sorted(names):
                path = os.path.normpath(os.path.join(parent, name))  # noqa: PTH118 (pathlib would double the time)
                yield Item(printable(path), path)
        for failure in unreadable:
            yield _unreadable(failure)


def _unreadable(error: OSError) -> Item:
    return Item(printable(error.filename), error.filename, problem=ItemProblem("unreadable", f"{error.strerror}."))


def _sentence(error: Exception) -> str:
    """The storage's error on one line, with advice if credentials are missing."""
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return "no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
    return " ".join(str(error).split())[:300] or type(error).__name__
