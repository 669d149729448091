"""Turns a folder tree or a table of labelled images into rows. Each file is read once, hashed and decoded."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_trainer.data.class_names import (
    ALLOWED,
    Classify,
    ClassName,
    is_undiagnosed,
    own_class,
    parse_archive_diagnosis,
    parse_class,
)
from aiderm_trainer.data.duplicates import SIDE, thumbnail
from aiderm_trainer.data.sources.csv_records import TableError, read_records
from aiderm_trainer.data.sources.folders import IMAGE_SUFFIXES, image_files, subfolders
from aiderm_trainer.data.table import Row, Split

_SIDES: Final[dict[str, Split | Literal[""]]] = {
    # A folder of training images is divided further; the other folders keep the side that their name gives.
    "train": "", "training": "", "val": "validation", "valid": "validation", "validation": "validation",
    "calibration": "calibration", "test": "test", "testing": "test",
}  # fmt: skip
_COLUMN_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image_path", "image", "image_id", "image_name", "isic_id"),
    "label": ("dx", "diagnosis", "label", "class", "category"),
    "malignant": ("malignant", "benign_malignant", "target", "positive"),
    "group": ("group", "patient_id", "lesion_id", "lesion"),
    "source": ("source", "dataset"),
    "domain": ("domain", "camera", "collection", "attribution"),
    "biopsied": ("biopsied", "dx_type", "diagnosis_confirm_type"),
}
_BIOPSY: Final = frozenset({"1", "true", "yes", "histo", "histopathology", "biopsy"})


# The ISIC Archive's own metadata: five levels of one diagnosis.
_ARCHIVE_COLUMNS: Final = frozenset(f"diagnosis_{level}" for level in range(1, 6))
_OWN: Final = "Other classes need --positive CLASS,CLASS, or a column that says malignant or not"


class IndexingError(ValueError):
    """A folder or table that cannot be indexed."""


class Unreadable(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Index:
    """The result of indexing.

    Attributes:
        root: the data folder that the paths are relative to.
        rows: readable images, ordered by path; ``split`` is empty where it is still to be decided.
        thumbnails: uint8 ``[len(rows), 64, 64]``, for finding near-duplicates.
        unreadable: files that were left out because they cannot be read.
        undiagnosed: images that a table lists without a diagnosis, which were left out.
    """

    root: Path
    rows: list[Row]
    thumbnails: NDArray[np.uint8]
    unreadable: list[Unreadable]
    undiagnosed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    label: ClassName
    source: str
    group: str = ""
    split: Split | Literal[""] = ""
    domain: str = ""
    biopsied: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of a table's columns; None stands for the first usual name that the table has.

    Attributes:
        path: file, or a bare image name. Usually path, file, filename, image, image_id, ...
        label: class; usually dx, diagnosis, label, class. It may be empty where ``malignant`` is not.
        malignant: 0/1 or benign/malignant; usually malignant, benign_malignant, target, positive. If given, a class may have any
            name.
        group: lesion or group; usually group, patient_id, lesion_id. Empty: the image is its own group.
        source: collection; usually source, dataset. By default the table's file name. For a folder: the name of the collection.
        domain: camera, clinic or collection; usually domain, camera, collection, attribution. It may be empty.
        biopsied: how the label was made, or 0/1; usually biopsied, dx_type, diagnosis_confirm_type.
    """

    path: str | None = None
    label: str | None = None
    malignant: str | None = None
    group: str | None = None
    source: str | None = None
    domain: str | None = None
    biopsied: str | None = None


USUAL_COLUMNS: Final = Columns()


def index(data: Path, columns: Columns = USUAL_COLUMNS, *, classify: Classify = parse_class, progress: bool = True) -> Index:
    """Indexes ``data``, a folder tree or a table, whichever it is; see ``index_tree`` and ``index_table``.

    Raises:
        IndexingError: it is neither, or it is malformed.
    """
    if data.is_dir():
        named = [name for name, value in asdict(columns).items() if value and name != "source"]
        if named:
            raise IndexingError(f"columns can be named for a table only; {data} is a folder. Received: {', '.join(named)}")
        return index_tree(data, source=columns.source, classify=classify, progress=progress)
    if data.is_file():
        return index_table(data, columns, classify=classify, progress=progress)
    raise IndexingError(f"{data} does not exist; allowed: a folder split/class/*.jpg, or a CSV table")


def index_tree(folder: Path, *, source: str | None = None, classify: Classify = parse_class, progress: bool = True) -> Index:
    """Indexes ``split/class/*.jpg`` or ``class/*.jpg``.

    A single enclosing folder is passed through, and files that systems leave behind (``.DS_Store``, ``@eaDir``, ``__MACOSX``)
    are skipped. The images of a ``train`` folder are divided later; those in ``validation``, ``calibration`` or ``test`` stay
    there. Each image is its own group.

    Args:
        folder: the tree. Classes are benign, malignant, or diagnoses by short or usual name.
        source: name of the collection; the folder's name by default.
        classify: returns the class of a folder's name, or None if it is unknown.
        progress: shows a progress bar.

    Raises:
        IndexingError: a folder is neither a split nor a class, or there are no images.
    """
    folder = folder.resolve()
    inner = folder
    tops = subfolders(inner)
    # An unpacked archive often has one folder around everything.
    while len(tops) == 1 and tops[0].name.lower() not in _SIDES and classify(tops[0].name) is None and subfolders(tops[0]):
        inner = tops[0]
        tops = subfolders(inner)
    sides = [top for top in tops if top.name.lower() in _SIDES]
    if sides and len(sides) < len(tops):
        strange = [top.name for top in tops if top not in sides]
        raise IndexingError(f"{inner}: beside split folders stand others: {', '.join(strange)}; allowed: {', '.join(_SIDES)}")
    entries = []
    for side in sides or [inner]:
        for class_folder in subfolders(side):
            label = classify(class_folder.name)
            if label is None:
                raise IndexingError(f"unknown class folder {class_folder.relative_to(folder)}; allowed: {ALLOWED}. {_OWN}")
            split = _SIDES[side.name.lower()] if sides else ""
            entries += [
                _Entry(file.relative_to(folder).as_posix(), label, source or folder.name, split=split)
                for file in image_files(class_folder)
            ]
    if not entries:
        raise IndexingError(f"{folder} holds no images; expected split/class/*.jpg or class/*.jpg, with classes: {ALLOWED}")
    return _read(folder, entries, progress)


def index_table(
    table: Path, columns: Columns = USUAL_COLUMNS, *, classify: Classify = parse_class, progress: bool = True
) -> Index:
    """Indexes a CSV table of paths and labels.

    Args:
        table: the CSV file, with a header. Paths are relative to its folder; a bare image name (``ISIC_0024306``) is looked up
            below that folder. The ISIC Archive's ``diagnosis_1`` to ``diagnosis_5`` and a column for each diagnosis (ISIC 2019)
            are read as labels as well.
        columns: the table's columns.
        classify: returns the class of a name, or None if it is unknown.
        progress: shows a progress bar.

    Raises:
        IndexingError: the table is unreadable, a column or class does not exist, or labels are missing or contradict one another.
    """
    table = table.resolve()
    try:
        header, records = read_records(table)
    except TableError as error:
        raise IndexingError(str(error)) from error
    labels = _LabelTable(table, header, columns, classify)
    find = _Finder(table.parent)
    undiagnosed: list[str] = []
    entries: list[_Entry] = []
    for line, record in records:
        where = f"{table}, line {line}"
        path, label = labels.cell(record, "path"), labels.label(record, where)
        if isinstance(label, str):
            undiagnosed.append(path)
        elif label is not None:
            how, camera = labels.cell(record, "biopsied").lower(), " ".join(labels.cell(record, "domain").split())
            source, group = labels.cell(record, "source") or table.stem, labels.cell(record, "group")
            entries.append(_Entry(find(path, where), label, source, group, "", camera, how in _BIOPSY if how else None))
    if labels.unknown:
        listed = ", ".join(f"{name!r} ({count} rows)" for name, count in labels.unknown.most_common(10))
        raise IndexingError(f"{table}: unknown classes; allowed: {ALLOWED}. Received: {listed}. {_OWN}")
    twice = [name for name, count in Counter(entry.path for entry in entries).items() if count > 1]
    if twice:
        raise IndexingError(f"{table}: {len(twice)} image(s) are listed more than once. First: {min(twice)}")
    if not entries:
        raise IndexingError(f"{table} has no rows" + (f" with a diagnosis; {len(undiagnosed)} without" if undiagnosed else ""))
    return _read(table.parent, entries, progress, sorted(undiagnosed))


class _LabelTable:
    """The columns of a table by their role, and the class of each row, which tables give in one of three ways.

    Attributes:
        unknown: class names that were not understood, with their number of rows.

    Raises:
        IndexingError: a named column does not exist, or there is no column of paths or of labels.
    """

    def __init__(self, table: Path, header: Sequence[str], columns: Columns, classify: Classify) -> None:
        self.unknown: Counter[str] = Counter()
        self._classify = classify
        self._columns = {role: _column(table, header, role, name) for role, name in asdict(columns).items()}
        if self._columns["path"] is None:
            usual = _COLUMN_NAMES["path"]
            raise IndexingError(f"{table}: no column of paths; allowed by default: {', '.join(usual)}. {_received(header)}")
        plain = self._columns["label"] is not None or self._columns["malignant"] is not None
        self._levels = columns.label is None and not _ARCHIVE_COLUMNS.isdisjoint(header)
        self._one_hot = {} if plain or self._levels else _one_hot_columns(header)
        if not (plain or self._levels or self._one_hot):
            usual = (*_COLUMN_NAMES["label"], *_COLUMN_NAMES["malignant"])
            raise IndexingError(f"{table}: no column of labels; allowed by default: {', '.join(usual)}. {_received(header)}")

    def cell(self, record: Mapping[str, str], role: str) -> str:
        """Returns a row's cell in the column of a role, or an empty text if the table has no such column."""
        name = self._columns[role]
        return (record.get(name) or "").strip() if name else ""

    def label(self, record: Mapping[str, str], where: str) -> ClassName | str | None:
        """Returns a row's class; a text if it has no diagnosis; None if its name is unknown, which is counted.

        Raises:
            IndexingError: it has no label, or several that contradict one another.
        """
        if self._levels:
            return parse_archive_diagnosis(record)
        if self._one_hot:
            return _one_hot_class(record, self._one_hot, where)
        return _read_label(self.cell(record, "label"), self.cell(record, "malignant"), self._classify, where, self.unknown)


def _read_label(name: str, verdict: str, classify: Classify, where: str, unknown: Counter[str]) -> ClassName | str | None:
    """Reads a row's class from its two cells; a text if it has no diagnosis; None if a name is unknown, which is counted.

    Raises:
        IndexingError: both cells are empty, or they contradict one another.
    """
    if not name and not verdict:
        raise IndexingError(f"{where}: the image has no label; allowed: {ALLOWED}")
    said = [text for text in (name, verdict) if text and (classify(text) is not None or not is_undiagnosed(text))]
    if not said:
        return "no diagnosis"
    sides = [parse_class(verdict)] if verdict in said else []
    labels = [_own_or(classify, name, sides), *sides] if name in said else sides
    unknown.update(text for text, parsed in zip(said, labels, strict=True) if parsed is None)
    known = [parsed for parsed in labels if parsed is not None]
    if len({parsed.malignant for parsed in known}) > 1:
        raise IndexingError(f"{where}: the columns contradict one another. Received: {' and '.join(said)}")
    if not known:
        return None
    return ClassName(next((parsed.dx for parsed in known if parsed.dx), ""), known[0].malignant)


def _one_hot_columns(header: Sequence[str]) -> dict[str, ClassName | None]:
    """Finds columns that each stand for one diagnosis, as in ISIC 2019's ground truth; empty if there are fewer than two."""
    found = {name: parse_class(name) for name in header if is_undiagnosed(name) or ((k := parse_class(name)) and k.dx)}
    return found if sum(known is not None for known in found.values()) > 1 else {}


def _one_hot_class(record: Mapping[str, str], columns: Mapping[str, ClassName | None], where: str) -> ClassName | str:
    """Returns the class whose column holds 1.

    Raises:
        IndexingError: not exactly one of them does.
    """
    try:
        chosen = [name for name in columns if float(record.get(name) or 0) == 1]
    except ValueError as error:
        raise IndexingError(f"{where}: the columns of diagnoses hold 0 or 1. Received: {error}") from error
    if len(chosen) != 1:
        raise IndexingError(f"{where}: exactly one diagnosis must be 1. Received: {', '.join(chosen) or 'none'}")
    return columns[chosen[0]] or "no diagnosis"


def _own_or(classify: Classify, name: str, sides: Sequence[ClassName | None]) -> ClassName | None:
    """Reads a class name. An unknown name is used as it is if another column says whether it is malignant."""
    known = classify(name)
    side = next((side for side in sides if side is not None), None)
    return ClassName(own_class(name), side.malignant) if known is None and side is not None else known


def _column(table: Path, header: Sequence[str], role: str, name: str | None) -> str | None:
    if name is not None:
        if name not in header:
            raise IndexingError(f"{table} has no column {name!r}. {_received(header)}")
        return name
    by_lower = {column.lower(): column for column in reversed(header)}
    return next((by_lower[usual] for usual in _COLUMN_NAMES[role] if usual in by_lower), None)


def _received(header: Sequence[str]) -> str:
    return f"Received columns: {', '.join(header) or 'none'}"


class _Finder:
    """Resolves a table's path or bare image name to a path relative to the data folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_stem: dict[str, list[Path]] | None = None

    def __call__(self, name: str, where: str) -> str:
        if not name:
            raise IndexingError(f"{where}: the path is empty")
        relative = Path(os.path.relpath(self._root / name.replace("\\", "/"), self._root))
        if relative.parts[:1] == ("..",):
            raise IndexingError(f"{where}: the path must lie inside {self._root}. Received: {name}")
        if relative.suffix.lower() in IMAGE_SUFFIXES:
            return relative.as_posix()  # a missing file is reported with the unreadable ones
        found = self._stems().get(relative.name, [])
        # Some distributions of HAM10000 hold each image twice, in folders that differ in case alone.
        if not found or len({(self._root / path).read_bytes() for path in found}) != 1:
            listed = ", ".join(str(path) for path in found[:3]) or "none"
            raise IndexingError(f"{where}: one image below {self._root} must have that name. Received: {name}; found: {listed}")
        return found[0].as_posix()

    def _stems(self) -> dict[str, list[Path]]:
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for file in image_files(self._root):
                self._by_stem[file.stem].append(file.relative_to(self._root))
        return self._by_stem


def _read(root: Path, entries: Sequence[_Entry], progress: bool, undiagnosed: Sequence[str] = ()) -> Index:
    entries = sorted(entries, key=lambda entry: entry.path)
    rows, thumbnails, unreadable = [], [], []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        looks = pool.map(look, [root / entry.path for entry in entries])
        seen = track(looks, "reading images", total=len(entries), disable=not progress)
        for entry, result in zip(entries, seen, strict=True):
            if not _is_utf8(entry.path):
                printable = os.fsencode(entry.path).decode("utf-8", "replace")
                unreadable.append(Unreadable(printable, "the name is not UTF-8; rename the file"))
                continue
            if isinstance(result, str):
                unreadable.append(Unreadable(entry.path, result))
                continue
            sha256, small = result
            # An image without a group is its own group, named after its bytes, so that renaming the file does not move it.
            group = entry.group or f"image-{sha256[:16]}"
            label = entry.label
            rows.append(
                Row(sha256, entry.path, entry.source, group, entry.split, label.dx, label.malignant, entry.domain, entry.biopsied)
            )
            thumbnails.append(small)
    stacked = np.stack(thumbnails) if thumbnails else np.empty((0, SIDE, SIDE), dtype=np.uint8)
    return Index(root, rows, stacked, unreadable, list(undiagnosed))


def look(file: Path) -> tuple[str, NDArray[np.uint8]] | str:
    """Returns a file's SHA-256 and thumbnail, or why it cannot be read."""
    try:
        content = file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    try:
        return hashlib.sha256(content).hexdigest(), thumbnail(decode_image(content).pixels)
    except ImageError as error:
        return f"{error.code}: {error.detail}"


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
