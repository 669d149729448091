"""Downloads images and labels of the ISIC Archive (https://www.isic-archive.com, API v2) with a table for ``prepare``.

The archive's own client (isic-cli 12.4) was tried but is not used: it silently omits images that fail to download, checks files
by their size only, restarts partial files from the first byte, and installs an error-reporting client. The archive's schema
(isic-metadata) is for contributors and rejects unknown terms; a test compares its diagnoses with ``class_names``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from aiderm_core import files
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.limits import Limits
from aiderm_trainer.data.class_names import ARCHIVE_LEVELS, ClassName, parse_archive_diagnosis
from aiderm_trainer.data.sources.download import DownloadError, Fetcher, Ledger, LedgerEntry, Refused, checksum

API: Final = "https://api.isic-archive.com/api/v2"
LICENCES: Final = ("CC-0", "CC-BY", "CC-BY-NC")
TABLE: Final = "isic.csv"
LEDGER: Final = "ledger.jsonl"
FOLDER: Final = "images"
WORKERS: Final = 4
PAGE: Final = 100
COLUMNS: Final = (
    "path", "source", "dx", "malignant", "group", "isic_id", "lesion_id", "patient_id", "licence", "attribution", "age", "sex",
    "localization", "diagnosis", "sha256",
)  # fmt: skip

Size = Literal["thumbnail", "full"]
_FILES: Final[Mapping[str, str]] = {"thumbnail": "thumbnail_256", "full": "full"}
_ID: Final = re.compile(r"ISIC_[0-9]{7,10}")  # it becomes part of a file name
_SUFFIXES: Final = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "bmp": ".bmp", "gif": ".gif"}


@dataclass(frozen=True)
class ArchiveQuery:
    """The images to fetch.

    Attributes:
        collections: numbers or names of collections; all images if empty.
        query: in the archive's own search language, such as ``diagnosis_3:"Melanoma Invasive" AND age_approx:[20 TO 40]``.
        licences: images under other licences are left out.
        size: ``thumbnail`` (256 pixels) or ``full``.
        limit: largest number of images; None: all.
    """

    collections: tuple[str, ...] = ()
    query: str = ""
    licences: tuple[str, ...] = LICENCES
    size: Size = "full"
    limit: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.licences) - set(LICENCES))
        if unknown or not self.licences:
            raise ValueError(f"licences must be of {', '.join(LICENCES)}. Received: {', '.join(unknown) or 'none'}")
        if self.size not in _FILES:
            raise ValueError(f"size must be thumbnail or full. Received: {self.size!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1. Received: {self.limit}")


@dataclass(frozen=True)
class FetchReport:
    """The result of a fetch: rows of the table, files fetched now, files kept, images left out by reason, and failures by id."""

    table: Path
    rows: int
    fetched: int
    kept: int
    skipped: dict[str, int]
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Image:
    """An image of the archive that can be used."""

    isic_id: str
    url: str
    size: int | None
    label: ClassName
    cells: dict[str, str]


def fetch(
    out: Path,
    request: ArchiveQuery = ArchiveQuery(),
    *,
    api: str = API,
    fetcher: Fetcher | None = None,
    workers: int = WORKERS,
    progress: bool = True,
) -> FetchReport:
    """Downloads images and writes ``out/isic.csv``, the table for ``prepare``.

    It can be stopped and run again at any time: finished files are kept if their size and checksum match ``out/ledger.jsonl``,
    partial files are resumed, and the table is written last, in one step.

    Args:
        out: folder; images go to ``out/images``.
        request: the images to fetch.
        api: address of the API.
        fetcher: the client; None: one with default timeouts.
        workers: number of concurrent downloads.
        progress: shows a progress bar.

    Returns:
        The report. Failures of single images do not stop the others; the table lists the images that were downloaded.

    Raises:
        DownloadError: the API does not answer, or its answer is malformed.
        ValueError: a collection's name is unknown or ambiguous, or no image is left.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    if fetcher is None:
        with httpx.Client(timeout=httpx.Timeout(60.0, connect=20.0), follow_redirects=True) as client:
            return fetch(out, request, api=api, fetcher=Fetcher(client), workers=workers, progress=progress)
    return _Fetch(out, request, api.rstrip("/"), fetcher, workers, progress).run()


class _Fetch:
    """One fetch and its progress."""

    def __init__(self, out: Path, request: ArchiveQuery, api: str, fetcher: Fetcher, workers: int, progress: bool) -> None:
        self._out, self._request, self._api, self._fetcher = out, request, api, fetcher
        self._workers, self._progress = workers, progress
        self._limits = Limits()
        self._download = _Download(out, fetcher, api, request.size, Ledger(out / LEDGER), self._limits)
        self._seen: set[str] = set()
        self._skipped: Counter[str] = Counter()
        self._failed: dict[str, str] = {}
        self._done: list[tuple[_Image, LedgerEntry]] = []
        self._fetched = 0

    def run(self) -> FetchReport:
        limit = self._request.limit
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with (
            ThreadPoolExecutor(self._workers, thread_name_prefix="isic") as pool,
            Progress(*columns, console=Console(stderr=True), disable=not self._progress) as bar,
        ):
            task = bar.add_task("ISIC Archive", total=limit)
            # One page at a time: file addresses are signed and expire, so none is kept longer than needed.
            for records, count in _pages(self._fetcher, self._api, self._request):
                bar.update(task, total=min(count, limit or count) if count else limit)
                images = self._wanted(records)
                for image, result in zip(images, pool.map(self._download, images), strict=True):
                    bar.advance(task)
                    self._record(image, result)
                if limit is not None and len(self._seen) >= limit:
                    break
        skipped = dict(sorted(self._skipped.items()))
        if not self._done and not self._failed:
            reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "the archive names none"
            raise ValueError(f"no image is left: {reasons}")
        _write_table(self._out / TABLE, self._done)
        rows = len(self._done)
        return FetchReport(self._out / TABLE, rows, self._fetched, rows - self._fetched, skipped, self._failed)

    def _wanted(self, records: Sequence[Any]) -> list[_Image]:
        """Returns the images of a page that are to be fetched, and counts the reasons why others are left out."""
        limit, images = self._request.limit, []
        for image in (_usable(record, self._request, self._limits) for record in records):
            if isinstance(image, str):
                self._skipped[image] += 1
            elif image.isic_id not in self._seen and (limit is None or len(self._seen) < limit):
                self._seen.add(image.isic_id)
                images.append(image)
        return images

    def _record(self, image: _Image, result: tuple[LedgerEntry, bool] | str) -> None:
        if isinstance(result, str):
            self._failed[image.isic_id] = result
        else:
            entry, new = result
            self._done.append((image, entry))
            self._fetched += new


def _pages(fetcher: Fetcher, api: str, request: ArchiveQuery) -> Iterator[tuple[list[Any], int]]:
    """Yields pages of records, each with the total number of records."""
    parameters: dict[str, Any] = {"limit": PAGE}
    address = f"{api}/images/"
    if request.query or request.collections:
        address = f"{api}/images/search/"
        parameters |= {"query": request.query} if request.query else {}
        if request.collections:
            parameters["collections"] = ",".join(_collection_ids(fetcher, api, request.collections))
    yield from _following(fetcher, address, parameters)


def _following(fetcher: Fetcher, address: str, parameters: dict[str, Any]) -> Iterator[tuple[list[Any], int]]:
    host, seen = httpx.URL(address).host, set()
    url: str | None = address
    while url:
        page = fetcher.json(url, parameters if url == address else None)
        if not isinstance(page, dict) or not isinstance(page.get("results"), list):
            raise DownloadError(f"{address}: a page must be an object with results. Received: {str(page)[:200]}")
        count = page.get("count")
        yield page["results"], count if isinstance(count, int) else 0
        following = page.get("next")
        if following is None or following == "":
            return
        if not isinstance(following, str) or httpx.URL(following).host != host or following in seen:
            raise DownloadError(f"{address}: the next page must be a new one of {host}. Received: {str(following)[:200]}")
        seen.add(following)
        url = following


def _collection_ids(fetcher: Fetcher, api: str, wanted: Sequence[str]) -> list[str]:
    """Resolves collections given by number or by name to numbers."""
    names = [item for item in wanted if not item.isdecimal()]
    found: dict[str, list[str]] = {}
    if names:
        for records, _ in _following(fetcher, f"{api}/collections/", {"limit": PAGE}):
            for record in records:
                found.setdefault(str(record.get("name", "")).strip().lower(), []).append(str(record.get("id")))
    ids = [[item] if item.isdecimal() else found.get(item.strip().lower(), []) for item in wanted]
    for item, matches in zip(wanted, ids, strict=True):
        if len(matches) != 1:
            known = ", ".join(sorted(found)[:10])
            numbers = f"numbers {', '.join(matches)}" if matches else f"none; there are: {known}, ..."
            raise ValueError(f"one collection must have that name. Received: {item!r}; found: {numbers}")
    return [matches[0] for matches in ids]


def _usable(record: Any, request: ArchiveQuery, limits: Limits) -> _Image | str:
    """Returns the image of a record, or why it is left out."""
    if not isinstance(record, dict):
        return "malformed"
    isic_id, licence = str(record.get("isic_id", "")), str(record.get("copyright_license", ""))
    file = _part(record, "files", _FILES[request.size])
    url, size = file.get("url"), file.get("size")
    if not _ID.fullmatch(isic_id) or not isinstance(url, str) or httpx.URL(url).scheme not in ("http", "https"):
        return "malformed"
    if licence not in request.licences:
        return f"licence {licence or 'not stated'}"
    acquisition, clinical = _part(record, "metadata", "acquisition"), _part(record, "metadata", "clinical")
    if acquisition.get("image_type", "dermoscopic") != "dermoscopic":
        return "not dermoscopic"
    label = parse_archive_diagnosis({name: _text(clinical, name) for name in clinical})
    if isinstance(label, str):
        return label
    if isinstance(size, int) and size > limits.max_bytes:
        return f"larger than {limits.max_bytes} bytes"
    cells = {
        "licence": licence,
        "attribution": _text(record, "attribution"),
        "lesion_id": _text(clinical, "lesion_id"),
        "patient_id": _text(clinical, "patient_id"),
        "age": _text(clinical, "age_approx"),
        "sex": _text(clinical, "sex"),
        "localization": _text(clinical, "anatom_site_general"),
        "diagnosis": next((text for level in ARCHIVE_LEVELS if (text := _text(clinical, level))), ""),
    }
    return _Image(isic_id, url, size if isinstance(size, int) and size > 0 else None, label, cells)


class _Download:
    """Downloads one image unless it exists, verifies it, names it and records it."""

    def __init__(self, out: Path, fetcher: Fetcher, api: str, size: Size, ledger: Ledger, limits: Limits) -> None:
        self._out, self._fetcher, self._api = out, fetcher, api
        self._size: Size = size
        self._ledger, self._limits = ledger, limits

    def __call__(self, image: _Image) -> tuple[LedgerEntry, bool] | str:
        """Returns the entry and whether it is new, or what went wrong."""
        if (entry := self._ledger.sound(image.isic_id, self._size)) is not None:
            return entry, False
        part = self._out / FOLDER / f".{image.isic_id}.{self._size}.part"
        try:
            try:
                return self._new(image, image.url, part), True
            except Refused as error:
                if error.status not in (401, 403, 404):
                    raise
                # Signed addresses expire: ask the archive for a new one, once.
                record = self._fetcher.json(f"{self._api}/images/{image.isic_id}/")
                return self._new(image, str(_part(record, "files", _FILES[self._size]).get("url", "")), part), True
            except ImageError:
                # The partial file is of an older version, or bytes were lost: download it again, once.
                part.unlink(missing_ok=True)
                return self._new(image, image.url, part), True
        except (DownloadError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            return str(error)
        except ImageError as error:
            part.unlink(missing_ok=True)
            return f"{error.code}: {error.detail}"

    def _new(self, image: _Image, url: str, part: Path) -> LedgerEntry:
        self._fetcher.file(url, part, image.size, self._limits.max_bytes)
        data = part.read_bytes()
        kind = decode_image(data, self._limits).format
        path = f"{FOLDER}/{image.isic_id}{_SUFFIXES[kind]}"
        part.replace(self._out / path)
        entry = LedgerEntry(image.isic_id, self._size, path, len(data), checksum(data))
        self._ledger.add(entry)
        return entry


def _write_table(path: Path, done: Sequence[tuple[_Image, LedgerEntry]]) -> None:
    group = _grouping([image for image, _ in done])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for image, entry in sorted(done, key=lambda item: item[0].isic_id):
        row = {
            "path": entry.path,
            # The contributor is the best information on the camera that the archive has.
            "source": image.cells["attribution"] or "isic-archive",
            "dx": image.label.dx,
            "malignant": str(int(image.label.malignant)),
            "group": group(image),
            "isic_id": image.isic_id,
            "sha256": entry.sha256,
        }
        writer.writerow(row | image.cells)
    files.write_text(path, buffer.getvalue())


def _grouping(images: Sequence[_Image]) -> Callable[[_Image], str]:
    """Groups by patient, which is safer than by lesion; a patient named for one image counts for all images of its lesion."""
    patient_of = {
        image.cells["lesion_id"]: image.cells["patient_id"]
        for image in images
        if image.cells["lesion_id"] and image.cells["patient_id"]
    }

    def group(image: _Image) -> str:
        lesion = image.cells["lesion_id"]
        return image.cells["patient_id"] or patient_of.get(lesion, lesion)

    return group


def _part(record: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return "" if value is None else " ".join(str(value).split())
