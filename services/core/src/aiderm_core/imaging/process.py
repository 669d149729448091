"""Runs decodes that may overrun, as a separate process: ``python -m aiderm_core.imaging.process FD``."""

from __future__ import annotations

import array
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.image import DecodedImage
from aiderm_core.imaging.limits import Limits

# Slow images must not take the cores from quick ones, which the parent decodes itself.
_NICENESS = 5
# Address space that a decoder may use beyond the image's estimated cost, for libraries that load late and fragmentation.
_SPARE_BYTES = 192 << 20


def main(descriptor: int) -> None:
    """Serves one request after another until the other side closes the socket."""
    from aiderm_core.imaging import decode  # here, so that the socket is claimed first

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    os.nice(_NICENESS)
    with suppress(OSError):  # if memory runs out, the kernel should kill this process and not the parent
        Path("/proc/self/oom_score_adj").write_text("500")
    with socket.socket(fileno=descriptor) as connection:
        while True:
            request, descriptors = receive(connection)
            if not request:
                return
            source, target = descriptors
            try:
                task = json.loads(request)
                resource.setrlimit(resource.RLIMIT_AS, (_address_space() + task["cost"] + _SPARE_BYTES, resource.RLIM_INFINITY))
                answer = _serve(decode.decode_here, source, target, Limits(**task["limits"]), task["size"])
            except MemoryError:
                answer = {"error": ["undecodable", "Received an image that takes more memory to decode than its size implies."]}
            finally:
                os.close(source)
                os.close(target)
            send(connection, json.dumps(answer).encode())


def _serve(
    decode: Callable[[bytes, Limits, int | None], DecodedImage], source: int, target: int, limits: Limits, size: int | None
) -> dict[str, Any]:
    data = os.pread(source, os.fstat(source).st_size, 0)
    try:
        image = decode(data, limits, size)
    except ImageError as error:
        return {"error": [error.code, error.detail]}
    pixels = image.pixels
    os.ftruncate(target, pixels.nbytes)
    with mmap.mmap(target, pixels.nbytes) as shared:
        shared[:] = pixels.data.cast("B")
    return {"info": asdict(image.info), "shape": pixels.shape}


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Receives a message and the file descriptors that come with it; no bytes if the other side has closed the socket."""
    descriptors = array.array("i")
    head, extra, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(2 * descriptors.itemsize))
    for level, kind, rights in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
    if len(head) < 4:
        return b"", list(descriptors)
    length = struct.unpack("<I", head)[0]
    body = bytearray()
    while len(body) < length:
        part = connection.recv(length - len(body))
        if not part:
            return b"", list(descriptors)
        body += part
    return bytes(body), list(descriptors)


def send(connection: socket.socket, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Sends a message with file descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([struct.pack("<I", len(message))], rights)
    connection.sendall(message)


def _address_space() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 (once a request)
        return int(file.read().split()[0]) * mmap.PAGESIZE


if __name__ == "__main__":
    main(int(sys.argv[1]))
