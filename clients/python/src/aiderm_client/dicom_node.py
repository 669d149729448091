"""``aiderm-dicom``: takes DICOM photographs from a folder or a DICOMweb server and gives back reports on them.

Each image is sent to the service's /predict. The returned structured report, outline and heatmap are stored beside the image
(STOW-RS) or in a folder. Finished images are remembered, so that a run can be stopped at any time; temporary failures (a server
that restarts) are tried again in the next round. The reports' UIDs are derived from image and model, so that even a repeated
round stores nothing twice. Log lines hold nothing from a file: an image is named by the start of a digest.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

OWN = "AI Dermatologist"
"""Start of the manufacturer's name in objects that the service writes; such objects are never assessed."""
PARTS = 'multipart/related; type="application/dicom"'
_PREFIX = b"DICM"
_SETTLED_SECONDS = 1.0
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_log = logging.getLogger("aiderm-dicom")


class TemporaryError(Exception):
    """Something that may work in the next round."""


class RefusedError(Exception):
    """An image that the service does not assess; its text is the problem's code."""


@dataclass(frozen=True)
class Image:
    """An image that waits for its report.

    Attributes:
        key: identifies the image in the memory and in logs.
        load: reads the file; returns None if it has no pixels or was written by the service.
    """

    key: str
    load: Callable[[], bytes | None]


class Place(Protocol):
    """Where images come from and reports go to."""

    def images(self) -> Iterator[Image]:
        """All images that are present now."""

    def store(self, image: Image, reports: Sequence[bytes], bundle: bytes | None) -> None:
        """Stores what the service wrote; raises TemporaryError if that fails."""

    def close(self) -> None:
        """Closes its connections."""


@dataclass
class Service:
    """The AI Dermatologist's API."""

    url: str
    model: str | None = None
    key: str | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def report(self, data: bytes, accept: str) -> httpx.Response:
        """Returns the answer of /predict.

        Raises:
            TemporaryError: the service does not answer, or cannot at present.
            RefusedError: the service does not assess the image.
        """
        query = {"explain": "true"} | ({"model": self.model} if self.model else {})
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            answer = self.client.post(
                f"{self.url.rstrip('/')}/predict", params=query, files={"file": ("image", data)}, headers=headers
            )
        except httpx.TransportError as error:
            raise TemporaryError(type(error).__name__) from None
        if answer.status_code in _TEMPORARY or answer.status_code in (401, 403, 404):
            raise TemporaryError(f"the service answers {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise RefusedError(str(answer.json().get("code", answer.status_code)))
        return answer

    def objects(self, data: bytes) -> list[bytes]:
        """Returns the DICOM objects that report on an image."""
        answer = self.report(data, PARTS)
        boundary = answer.headers["content-type"].partition("boundary=")[2]
        parts = answer.content.split(b"--" + boundary.encode())[1:-1]
        return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]


class Memory:
    """Remembers which images are done, in a file with one line for each; without a file only during this run."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        text = path.read_text("utf-8") if path is not None and path.exists() else ""
        self._done = {line.split()[0] for line in text.splitlines() if line.strip()}

    def __contains__(self, key: str) -> bool:
        return key in self._done

    def add(self, key: str, outcome: str) -> None:
        """Remembers an image, even across a crash."""
        self._done.add(key)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{key} {outcome}\n")
                file.flush()
                os.fsync(file.fileno())


@dataclass
class Folder:
    """Images in a folder and those below it; reports go to another one.

    Attributes:
        source: is only read from.
        target: gets KEY.0.dcm (the report), KEY.1.dcm and so on (the outline and the heatmap, if there are any) and
            KEY.fhir.json.
    """

    source: Path
    target: Path

    def close(self) -> None:
        """See Place."""

    def images(self) -> Iterator[Image]:
        """DICOM files that are no longer being written."""
        for path in sorted(self.source.rglob("*")):
            try:
                if path.is_file() and time.time() - path.stat().st_mtime >= _SETTLED_SECONDS:
                    with path.open("rb") as file:
                        if file.read(132)[128:] != _PREFIX:
                            continue
                        file.seek(0)
                        key = hashlib.file_digest(file, "sha256").hexdigest()[:32]
                    yield Image(key, lambda path=path: _photograph(path.read_bytes()))  # type: ignore[misc]
            except OSError as error:
                _log.warning("a file cannot be read: %s", type(error).__name__)

    def store(self, image: Image, reports: Sequence[bytes], bundle: bytes | None) -> None:
        """See Place."""
        self.target.mkdir(parents=True, exist_ok=True)
        for number, report in enumerate(reports):
            _write(self.target / f"{image.key}.{number}.dcm", report)
        if bundle is not None:
            _write(self.target / f"{image.key}.fhir.json", bundle)


class Server:
    """A DICOMweb server: QIDO-RS and WADO-RS for images, STOW-RS for reports.

    Args:
        url: address of the DICOMweb root.
        modalities: modalities of the series to read.
        fhir: folder for FHIR Bundles; None writes none.
    """

    def __init__(self, url: str, modalities: Sequence[str], fhir: Path | None = None) -> None:
        import requests
        from dicomweb_client.api import DICOMwebClient

        logging.getLogger("dicomweb_client").disabled = True  # its lines hold UIDs
        for name in ("api", "web", "session_utils", "uri"):
            logging.getLogger(f"dicomweb_client.{name}").disabled = True
        self._session = requests.Session()
        # Reading each answer to its end returns its connection to the pool; dicomweb-client leaves some open.
        self._session.hooks["response"] = [lambda response, **_: response.content and None]
        self._client: Any = DICOMwebClient(url, session=self._session)
        self._client.set_http_retry_params(retry=False)
        self._modalities, self._fhir = modalities, fhir

    def close(self) -> None:
        """See Place."""
        self._session.close()

    def images(self) -> Iterator[Image]:
        """The instances of all series of these modalities."""
        for modality in self._modalities:
            for series in self._ask(self._client.search_for_series, search_filters={"Modality": modality}, get_remaining=True):
                study, uid = _uid(series, "0020000D"), _uid(series, "0020000E")
                if not study or not uid:
                    continue
                for instance in self._ask(
                    self._client.search_for_instances, study_instance_uid=study, series_instance_uid=uid, get_remaining=True
                ):
                    names = (study, uid, _uid(instance, "00080018"))
                    yield Image(_digest("/".join(names)), lambda names=names: self._load(names))  # type: ignore[misc]

    def store(self, image: Image, reports: Sequence[bytes], bundle: bytes | None) -> None:
        """See Place."""
        import pydicom

        found = self._ask(self._client.store_instances, [pydicom.dcmread(io.BytesIO(report)) for report in reports])
        if found.get("FailedSOPSequence"):
            raise TemporaryError("the DICOMweb server did not store a report")
        if bundle is not None and self._fhir is not None:
            self._fhir.mkdir(parents=True, exist_ok=True)
            _write(self._fhir / f"{image.key}.fhir.json", bundle)

    def _load(self, names: tuple[str, str, str]) -> bytes | None:
        import pydicom

        found = self._ask(self._client.retrieve_instance, *names, media_types=(("application/dicom", "*"),))
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, found, enforce_file_format=True)
        return _photograph(buffer.getvalue())

    def _ask(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        import requests

        try:
            return call(*arguments, **named)
        except requests.RequestException as error:
            raise TemporaryError(f"the DICOMweb server: {type(error).__name__}") from None


def run_once(place: Place, service: Service, memory: Memory, *, fhir: bool = False) -> Counter[str]:
    """Reports on every image that is not done yet; returns how many images had which outcome."""
    counts: Counter[str] = Counter()
    try:
        for image in place.images():
            if image.key in memory:
                counts["done before"] += 1
                continue
            counts[_process(image, place, service, memory, fhir)] += 1
    except TemporaryError as error:
        _log.warning("this round ends early: %s", error)
        counts["postponed"] += 1
    return counts


def _process(image: Image, place: Place, service: Service, memory: Memory, fhir: bool) -> str:
    outcome = "reported"
    try:
        data = image.load()
        if data is None:
            outcome = "skipped"
        else:
            objects = service.objects(data)
            bundle = service.report(data, "application/fhir+json").content if fhir else None
            place.store(image, objects, bundle)
    except RefusedError as error:
        outcome = f"refused ({error})"
    except TemporaryError as error:
        _log.warning("image %s waits for the next round: %s", image.key[:12], error)
        return "postponed"
    except Exception as error:  # its text may hold values of the file
        _log.warning("image %s waits for the next round: %s", image.key[:12], type(error).__name__)
        return "postponed"
    memory.add(image.key, outcome)
    _log.info("image %s: %s", image.key[:12], outcome)
    return outcome


def _photograph(data: bytes) -> bytes | None:
    """Returns the file; None if it has no pixels or was written by the service itself."""
    import pydicom

    found = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["Manufacturer", "Rows"])
    own = str(found.get("Manufacturer", "")).startswith(OWN)
    return None if own or "Rows" not in found else data


def _uid(entry: dict[str, Any], tag: str) -> str:
    values = entry.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    """Writes a file atomically: it is never seen incomplete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="aiderm-dicom", description=(__doc__ or "").split("\n\n")[0].partition(": ")[2])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="watch this folder; reports go to --out")
    source.add_argument("--dicomweb", metavar="URL", help="watch this DICOMweb server; reports are stored there")
    parser.add_argument("--service", default="http://127.0.0.1:8000", metavar="URL", help="the AI Dermatologist's API")
    parser.add_argument("--out", type=Path, help="folder for reports; with --dicomweb for FHIR Bundles only")
    parser.add_argument("--fhir", action="store_true", help="also write each report as a FHIR R4 Bundle into --out")
    parser.add_argument("--modality", action="append", help="of the series on the server; XC and DMS by default")
    parser.add_argument("--model", help="name of a model; the service's default model when absent")
    parser.add_argument("--state", type=Path, default=Path("aiderm-dicom.state"), help="remembers what is done")
    parser.add_argument("--every", type=float, default=30, metavar="SECONDS", help="pause between two rounds")
    parser.add_argument("--once", action="store_true", help="one round; exit status 1 where an image had to be postponed")
    options = parser.parse_args(arguments)
    if options.out is None and (options.folder is not None or options.fhir):
        parser.error("--folder and --fhir need --out")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    _log.setLevel(logging.INFO)
    place: Place
    if options.folder is not None:
        place = Folder(options.folder, options.out)
    else:
        place = Server(options.dicomweb, options.modality or ("XC", "DMS"), options.out if options.fhir else None)
    service = Service(options.service, options.model, os.environ.get("AIDERM_KEY"))
    memory = Memory(options.state)
    with service.client, closing(place):
        return _watch(place, service, memory, options)


def _watch(place: Place, service: Service, memory: Memory, options: argparse.Namespace) -> int:
    while True:
        counts = run_once(place, service, memory, fhir=options.fhir)
        _log.info("%s", ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no images")
        if options.once:
            return 1 if counts["postponed"] else 0
        time.sleep(options.every)


if __name__ == "__main__":
    sys.exit(main())
