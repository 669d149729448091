"""Requests and answers of the Open Inference Protocol, version 2 (KServe, Triton), with its extension for binary tensors.

JSON tensors are read without creating an object for each number or row: ``data`` is cut out of the text first, so that a body
takes a few times its own size in memory, whatever it holds.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from aiderm_api.errors.problems import MalformedTensors, TooLarge, UnsupportedType
from aiderm_api.serving.answers import outputs_named
from aiderm_api.uploads import Upload
from aiderm_core.bundle.manifest import Manifest

IMAGE, FILE, DECISION = "image", "file", "decision"
LENGTH_HEADER = "Inference-Header-Content-Length"
MAX_JSON_BYTES = 16_000_000
_MAX_SKELETON_BYTES = 64_000  # of the JSON without its data
_DATA = re.compile(rb'("data"\s*:\s*)(\[[\[\]0-9A-Za-z+/=\\,"\s]*\])')
_STRING = re.compile(rb'"([^"]*)"')
_LAYOUT = bytes.maketrans(b"[]\r\n\t", b"     ")

Tensors = Mapping[str, "NDArray[np.float32] | Sequence[str]"]


class _Parameters(BaseModel):
    binary_data: bool | None = None
    binary_data_size: int | None = None
    binary_data_output: bool = False
    classification: int | None = None
    shared_memory_region: str | None = None


class _Input(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters = _Parameters()
    data: int | None = None  # index of the text that was cut out


class _Output(BaseModel):
    name: str
    parameters: _Parameters = _Parameters()


class _Request(BaseModel):
    id: str | None = None
    inputs: Annotated[list[_Input], Field(max_length=8)]
    outputs: Annotated[list[_Output], Field(max_length=8)] | None = None
    parameters: _Parameters = _Parameters()


@dataclass
class InferenceRequest:
    """A parsed request.

    Attributes:
        images: uint8 ``[N, S, S, 3]``, or image files.
        outputs: wanted tensors, in order, and whether each is sent in binary form.
        id: the id that the client gave its request.
    """

    images: NDArray[np.uint8] | list[Upload]
    outputs: dict[str, bool] = field(default_factory=dict)
    id: str | None = None


def describe_model(manifest: Manifest, platform: str) -> dict[str, Any]:
    """A model's metadata in the protocol's form; a request sends one of the two inputs."""
    size = manifest.input.size
    shapes = {"probability": [-1, len(manifest.labels)], "heatmap": [-1, -1, -1], "outline": [-1, -1, -1]}
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": platform,
        "inputs": [
            {"name": IMAGE, "datatype": "UINT8", "shape": [-1, size, size, 3]},
            {"name": FILE, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            *({"name": name, "datatype": "FP32", "shape": shapes.get(name, [-1])} for name in outputs_named(manifest)),
            {"name": DECISION, "datatype": "BYTES", "shape": [-1]},
        ],
    }


def split_body(body: bytearray, headers: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """Splits a body into its JSON, whose length ``Inference-Header-Content-Length`` gives, and the binary tensors after it.

    Raises:
        MalformedTensors, TooLarge, UnsupportedType: see problems.
    """
    coding = headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise UnsupportedType(f"Received: a body with Content-Encoding {coding[:40]!r}. Allowed: one without.")
    length = headers.get(LENGTH_HEADER, str(len(body)))
    if not length.isdecimal() or int(length) > len(body):
        raise MalformedTensors(
            f"Received: {LENGTH_HEADER} {length[:20]!r}. Allowed: a length of at most the body's {len(body):,} bytes."
        )
    size = int(length)
    if size > MAX_JSON_BYTES:
        raise TooLarge(f"Received: {size:,} bytes of JSON. Allowed: {MAX_JSON_BYTES:,}; tensors in binary form may be larger.")
    return bytes(body[:size]), memoryview(body)[size:]


def parse_request(text: bytes, binary: memoryview, manifest: Manifest, most: int, max_file_bytes: int) -> InferenceRequest:
    """Reads a request for inference.

    Args:
        text: the request's JSON.
        binary: the binary tensors after it.
        manifest: manifest of the model that answers.
        most: number of images that a request may hold.
        max_file_bytes: limit for one file; a larger one becomes an ``Upload`` that is marked ``too_large``.

    Raises:
        MalformedTensors: the model cannot answer the request.
    """
    request, cut_out = _parse_json(text)
    tensor = _only_input(request, manifest, most)
    content = _content(tensor, cut_out, binary)
    if tensor.name == FILE:
        images: Any = _files(content, tensor.shape[0], max_file_bytes)
    else:
        images = _pixels(content, tensor.shape)
    return InferenceRequest(images, _outputs(request, tensor.name, manifest), request.id)


def answer(request: InferenceRequest, tensors: Tensors, manifest: Manifest) -> tuple[bytes, dict[str, str]]:
    """Builds the body of an answer and its headers.

    Args:
        request: the request that is answered.
        tensors: tensors by name: float32 ``[N, ...]``, or N strings. NaN (a rejected image's missing number) is null in JSON.
        manifest: manifest of the model that answered.
    """
    outputs, behind = [], []
    for name, binary in request.outputs.items():
        values = tensors[name]
        numbers = isinstance(values, np.ndarray)
        output: dict[str, Any] = {"name": name, "datatype": "FP32" if numbers else "BYTES"}
        output["shape"] = list(values.shape) if isinstance(values, np.ndarray) else [len(values)]
        if binary:
            behind.append(_packed(values))
            output["parameters"] = {"binary_data_size": len(behind[-1])}
        elif isinstance(values, np.ndarray):
            output["data"] = [None if value != value else value for value in values.ravel().tolist()]
        else:
            output["data"] = list(values)
        outputs.append(output)
    head: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version, "outputs": outputs}
    if request.id is not None:
        head["id"] = request.id
    text = json.dumps(head, separators=(",", ":")).encode()
    if not behind:
        return text, {"Content-Type": "application/json"}
    return b"".join([text, *behind]), {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(text))}


def _packed(values: NDArray[np.float32] | Sequence[str]) -> bytes:
    """Packs numbers in little-endian order, and strings each after its length in four bytes."""
    if isinstance(values, np.ndarray):
        return values.astype("<f4").tobytes()
    return b"".join(len(raw).to_bytes(4, "little") + raw for raw in (value.encode() for value in values))


def _parse_json(text: bytes) -> tuple[_Request, list[bytes]]:
    cut_out: list[bytes] = []

    def cut(match: re.Match[bytes]) -> bytes:
        cut_out.append(match[2])
        return match[1] + str(len(cut_out) - 1).encode()

    skeleton = _DATA.sub(cut, text)
    if len(skeleton) > _MAX_SKELETON_BYTES:
        raise MalformedTensors(
            f"Received: {len(skeleton):,} bytes of JSON besides data. Allowed: {_MAX_SKELETON_BYTES:,}, and data that are whole "
            "numbers or base64 strings."
        )
    try:
        return _Request.model_validate_json(skeleton), cut_out
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise MalformedTensors(
            f"{where}: {first['msg']}. Received: {str(first['input'])[:100]!r}. Allowed: a request of the Open Inference "
            "Protocol, version 2; its data are whole numbers or base64 strings."
        ) from error


def _only_input(request: _Request, manifest: Manifest, most: int) -> _Input:
    size = manifest.input.size
    allowed = f"one of {IMAGE} UINT8 [N, {size}, {size}, 3] and {FILE} BYTES [N], N from 1 to {most}"
    received = ", ".join(f"{item.name[:40]} {item.datatype[:20]} {item.shape[:8]}" for item in request.inputs[:4]) or "no inputs"
    for tensor in request.inputs if len(request.inputs) == 1 else ():
        count, *rest = tensor.shape or [0]
        shapes = {(IMAGE, "UINT8"): [[size, size, 3]], (FILE, "BYTES"): [[], [1]]}
        if 1 <= count <= most and rest in shapes.get((tensor.name, tensor.datatype), []):
            return tensor
    raise MalformedTensors(f"Received: {received}. Allowed: {allowed}.")


def _content(tensor: _Input, cut_out: Sequence[bytes], binary: memoryview) -> bytes | memoryview:
    """The tensor's data: the JSON text of a list, or bytes."""
    size, index = tensor.parameters.binary_data_size, tensor.data
    if size is not None and index is None:
        if size != len(binary):
            raise MalformedTensors(
                f"{tensor.name}: received {len(binary):,} bytes behind the JSON. Allowed: its binary_data_size, {size:,}."
            )
        return binary
    if size is None and index is not None and 0 <= index < len(cut_out) and not binary:
        return cut_out[index]
    raise MalformedTensors(
        f"{tensor.name}: received neither or both of data and binary_data_size. Allowed: one of them; there is no shared memory."
    )


def _pixels(content: bytes | memoryview, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Reads pixels; raises MalformedTensors for a wrong number of values, or values outside 0..255."""
    expected = int(np.prod(shape))
    if isinstance(content, memoryview):
        received, values = len(content), content
    else:
        flat = content.translate(_LAYOUT)
        received = flat.count(b",") + 1
    if received != expected:
        raise MalformedTensors(f"{IMAGE}: received {received:,} values. Allowed: {expected:,}, as its shape {list(shape)} says.")
    if isinstance(content, memoryview):
        return np.frombuffer(values, np.uint8).reshape(shape)
    try:
        return np.array(json.loads(b"[" + flat + b"]"), np.uint8).reshape(shape)
    except (ValueError, OverflowError, TypeError) as error:
        raise MalformedTensors(f"{IMAGE}: received values that are no whole numbers from 0 to 255. Allowed: those.") from error


def _files(content: bytes | memoryview, count: int, max_bytes: int) -> list[Upload]:
    """Reads files; raises MalformedTensors for a wrong number of files, or malformed content."""
    files: list[bytes | memoryview] = []
    if isinstance(content, memoryview):
        at = 0
        while at < len(content) and len(files) <= count:
            size = int.from_bytes(content[at : at + 4], "little")
            if at + 4 + size > len(content):
                raise MalformedTensors(
                    f"{FILE}: received {len(content) - at:,} bytes for the file at index {len(files)}. Allowed: {size + 4:,}."
                )
            files.append(content[at + 4 : at + 4 + size])
            at += 4 + size
    else:
        try:
            files += [
                base64.b64decode(text.replace(b"\\/", b"/"), validate=True) for text in _STRING.findall(content)[: count + 1]
            ]
        except ValueError as error:
            raise MalformedTensors(
                f"{FILE}: received a string that is not base64 ({error}). Allowed: files in base64."
            ) from error
    if len(files) != count:
        received = f"more than {count}" if len(files) > count else str(len(files))
        raise MalformedTensors(f"{FILE}: received {received} files. Allowed: {count}, as its shape says.")
    return [Upload(too_large=True) if len(file) > max_bytes else Upload(bytes(file)) for file in files]


def _outputs(request: _Request, sent: str, manifest: Manifest) -> dict[str, bool]:
    allowed = [*outputs_named(manifest), *([DECISION] if sent == FILE else [])]
    binary = request.parameters.binary_data_output
    wanted = request.outputs or [_Output(name=name) for name in allowed]
    for item in wanted:
        if item.name not in allowed:
            raise MalformedTensors(f"Received: output {item.name[:40]!r}. Allowed with the input {sent}: {', '.join(allowed)}.")
        if item.parameters.classification is not None or item.parameters.shared_memory_region is not None:
            raise MalformedTensors(f"{item.name}: received parameters for classification or shared memory. Allowed: binary_data.")
    return {item.name: binary if item.parameters.binary_data is None else item.parameters.binary_data for item in wanted}
