"""Defines each call of the API once: what is sent and how the answer is read. Both clients are built from these functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from aiderm_client.response_models import (
    Assessment,
    BatchAnswer,
    BatchItem,
    Comparison,
    Health,
    LesionAssessment,
    ModelDetail,
    ModelList,
)

T = TypeVar("T")
File = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""An image: the path of a file, its bytes, or an open binary file."""

_OK = frozenset({200})
# A file's name may identify a patient, and the service needs no name.
_FILE_NAME = "picture"


@dataclass(frozen=True)
class ApiCall(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str] = field(default_factory=dict)
    files: tuple[tuple[str, tuple[str, bytes]], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = _OK

    def answered_by(self, response: httpx.Response) -> bool:
        """Whether this is the answer, and not a failure."""
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code in self.statuses and media_type == "application/json"


def predict(
    file: File, *, model: str | None = None, explain: bool = False, thorough: bool = False, request_id: str | None = None
) -> ApiCall[Assessment]:
    """Assesses one dermoscopic image.

    Args:
        file: the image: a path, bytes, or an open binary file. Its name is not sent.
        model: name of a model in ``models()``; the service's default one when None.
        explain: also draw the heatmap and the lesion's outline.
        thorough: average over eight orientations, if ``models()`` says that the model offers it; takes longer.
        request_id: sent as ``X-Request-ID`` and found in the service's log; up to 64 letters, digits and ``._-``.

    Raises:
        ProblemError: the service refused or failed; a subclass for each code.
        ConnectionFailed: no answer came.
        UnexpectedAnswer: the answer did not come from this API.
    """
    return ApiCall(
        "POST",
        "/predict",
        _reader(Assessment),
        params=_query(model, explain, thorough),
        files=(("file", (_FILE_NAME, read_file(file))),),
        headers=_request_id(request_id),
    )


def predict_batch(
    files: Iterable[File],
    *,
    model: str | None = None,
    explain: bool = False,
    thorough: bool = False,
    request_id: str | None = None,
) -> ApiCall[tuple[BatchItem, ...]]:
    """Assesses several images in one request; returns one item per image, in their order.

    An image that is refused does not fail the others: its item holds the problem, and ``item.result()`` raises it. The
    service limits the number of files and their sum (16 and 60 MB by default).

    Args:
        files: the images, at least one; each as for ``predict``.
        model: as for ``predict``; ``explain``, ``thorough`` and ``request_id`` too.
        explain: also draw the heatmaps and the lesions' outlines.
        thorough: average over eight orientations of each image.
        request_id: id of the whole request.

    Raises:
        ProblemError: the whole request was refused.
        ConnectionFailed: no answer came.
        UnexpectedAnswer: the answer did not come from this API.
    """
    parts = tuple(("files", (_FILE_NAME, read_file(file))) for file in files)
    if not parts:
        raise ValueError("predict_batch needs at least one file. Received: none")
    return ApiCall(
        "POST",
        "/predict/batch",
        lambda response: _reader(BatchAnswer)(response).results,
        params=_query(model, explain, thorough),
        files=parts,
        headers=_request_id(request_id),
    )


def predict_lesion(
    files: Iterable[File],
    *,
    model: str | None = None,
    explain: bool = False,
    thorough: bool = False,
    request_id: str | None = None,
) -> ApiCall[LesionAssessment]:
    """Assesses one lesion by two to eight images of it; images that disagree make it ``uncertain``.

    Args:
        files: the images; each as for ``predict``.
        model: as for ``predict``; ``explain``, ``thorough`` and ``request_id`` too.
        explain: also draw the heatmaps and the lesions' outlines.
        thorough: average over eight orientations of each image.
        request_id: id of the whole request.

    Raises:
        ProblemError: the request was refused, or an image could not be assessed through no fault of its own.
        ConnectionFailed: no answer came.
        UnexpectedAnswer: the answer did not come from this API.
    """
    return ApiCall(
        "POST",
        "/predict/lesion",
        _reader(LesionAssessment),
        params=_query(model, explain, thorough),
        files=tuple(("files", (_FILE_NAME, read_file(file))) for file in files),
        headers=_request_id(request_id),
    )


def compare(
    earlier: File,
    later: File,
    *,
    model: str | None = None,
    explain: bool = False,
    thorough: bool = False,
    request_id: str | None = None,
) -> ApiCall[Comparison]:
    """Says what has changed between two images of one lesion. Finding no change rules nothing out.

    Args:
        earlier: the older image; the other arguments are as for ``predict``.
        later: the newer one.

    Raises:
        ProblemError: the request was refused, or one of the images.
    """
    return ApiCall(
        "POST",
        "/compare",
        _reader(Comparison),
        params=_query(model, explain, thorough),
        files=tuple(("files", (_FILE_NAME, read_file(file))) for file in (earlier, later)),
        headers=_request_id(request_id),
    )


def health() -> ApiCall[Health]:
    """State of the service and of each model; ``unavailable`` is an answer too, not an error."""
    return ApiCall("GET", "/health", _reader(Health), statuses=frozenset({200, 503}))


def models() -> ApiCall[ModelList]:
    """The models that serve, with their thresholds and calibration."""
    return ApiCall("GET", "/models", _reader(ModelList))


def model(name: str) -> ApiCall[ModelDetail]:
    """One model: its metrics with intervals, its data and its card."""
    return ApiCall("GET", f"/models/{quote(name, safe='')}", _reader(ModelDetail))


def report(name: str) -> ApiCall[dict[str, Any]]:
    """The data behind one model's curves, as the trainer wrote them."""
    return ApiCall("GET", f"/models/{quote(name, safe='')}/report", _reader(dict[str, Any]))


def read_file(file: File) -> bytes:
    """Reads all bytes of an image at once, because a stream could not be sent a second time.

    Raises:
        TypeError: the argument is not a path, bytes or a binary file.
    """
    if isinstance(file, str | os.PathLike):
        return Path(file).read_bytes()
    if isinstance(file, bytes | bytearray | memoryview):
        return bytes(file)
    data = file.read() if hasattr(file, "read") else file
    if not isinstance(data, bytes):
        raise TypeError(f"an image is a path, bytes, or a file opened in binary mode. Received: {type(file).__name__}")
    return data


def _query(model: str | None, explain: bool, thorough: bool) -> dict[str, str]:
    named = {} if model is None else {"model": model}
    return named | {name: "true" for name, wanted in (("explain", explain), ("tta", thorough)) if wanted}


def _request_id(value: str | None) -> dict[str, str]:
    return {} if value is None else {"X-Request-ID": value}


def _reader(kind: type[T]) -> Callable[[httpx.Response], T]:
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    return lambda response: adapter.validate_json(response.content)
