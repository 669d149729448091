"""Scores 100,000 images, one in a hundred broken, in folders, archives and a list: after stops, each is accounted for."""

from __future__ import annotations

import csv
import hashlib
import io
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from aiderm_trainer.data.synthetic import lesion

pytestmark = pytest.mark.soak
ROOT = Path(__file__).resolve().parents[2]
COUNT = 100_000
EVERY = 100  # one in 100 is broken
LESIONS = 200
IN_FOLDERS, IN_TARS, IN_ZIPS = 60_000, 20_000, 10_000  # the rest is in a list
A_FOLDER = 5_000


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def with_archive(data: bytes) -> bytes:
    """The image with a zip archive appended, as phones append a film to a photograph: only the image counts."""
    behind = io.BytesIO()
    with zipfile.ZipFile(behind, "w") as archive:
        archive.writestr("payload.js", "alert(1)")
    return data + behind.getvalue()


def encoded(suffix: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


# Rows with these errors hold no checksum: a list may name any file, and the table must not reveal what is in it.
NO_IMAGE = {"empty_file", "unsupported_type", "undecodable", "unreadable"}
# The error that must be reported, and how it is made from a valid JPEG.
BROKEN: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("empty_file", lambda data: b""),
    ("unsupported_type", lambda data: b"<html><body>404 Not Found</body></html>"),
    ("truncated", lambda data: data[: len(data) // 2]),
    ("truncated", lambda data: data[:30]),
    ("too_small", lambda data: encoded(".jpg", np.full((60, 400, 3), 90, np.uint8))),
    ("too_many_pixels", lambda data: png(30_000, 30_000, zlib.compress(b"\0" * 1000))),
    ("undecodable", lambda data: png(300, 300, b"no compressed data at all")),
    ("unsupported_type", lambda data: b"\0\0\0\x18ftypheic" + data),
    ("unsupported_type", lambda data: b"%PDF-1.7\n" + data),
    ("truncated", lambda data: encoded(".png", np.full((200, 200, 3), 90, np.uint8))[:-30]),
    ("unsupported_type", lambda data: data[::-1]),
]


def images() -> Iterator[tuple[bytes, str | None]]:
    """Yields the bytes of each image and its error, if any."""
    lesions = [lesion(seed, seed % 2 == 0, 224)[..., ::-1] for seed in range(LESIONS)]
    for index in range(COUNT):
        turn, shift = divmod(index // LESIONS, 25)
        pixels = np.roll(np.rot90(lesions[index % LESIONS], turn % 4), shift - 12, axis=turn % 2)
        data = encoded(".jpg", np.ascontiguousarray(pixels))
        # A comment at the beginning makes every file unique, like real images.
        note = f"image {index}".encode()
        data = data[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + data[2:]
        if index % EVERY == EVERY // 2:
            error, broken = BROKEN[index // EVERY % len(BROKEN)]
            yield broken(data), error
        else:
            yield with_archive(data) if index % EVERY == 0 else data, None


def archive(folder: Path) -> tuple[list[Path], dict[str, tuple[str | None, str | None]]]:
    """Writes all inputs; returns them, and each image's checksum and error by name."""
    expected: dict[str, tuple[str | None, str | None]] = {}
    inputs = [folder / "folders", *(folder / f"{number}.tar" for number in range(2)), folder / "a.zip", folder / "list.csv"]
    with tarfile.open(inputs[1], "w") as tar0, tarfile.open(inputs[2], "w") as tar1, zipfile.ZipFile(inputs[3], "w") as packed:
        listed = []
        for index, (data, error) in enumerate(images()):
            name = f"{index // A_FOLDER:02d}/{index:06d}.jpg"
            if index < IN_FOLDERS:
                path = inputs[0] / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                found = str(path)
            elif index < IN_FOLDERS + IN_TARS:
                place = index % 2
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                (tar0, tar1)[place].addfile(entry, io.BytesIO(data))
                found = f"{inputs[1 + place]}::{name}"
            elif index < IN_FOLDERS + IN_TARS + IN_ZIPS:
                packed.writestr(name, data)
                found = f"{inputs[3]}::{name}"
            else:
                path = folder / "listed" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                listed.append(str(path.relative_to(folder)))
                found = str(path)
                if error == "truncated":  # a list may also name a missing file
                    error = "unreadable"
                else:
                    path.write_bytes(data)
            expected[found] = (None if error in NO_IMAGE else hashlib.sha256(data).hexdigest(), error)
    with inputs[4].open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([name] for name in listed)])
    return inputs, expected


def test_every_one_of_very_many_is_accounted_for(tmp_path: Path) -> None:
    inputs, expected = archive(tmp_path)
    out = tmp_path / "scores.parquet"
    arguments = [*inputs, "--out", out, "--models", ROOT / "models"]
    command = [sys.executable, "-m", "aiderm_scorer.cli", *map(str, arguments)]

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 1800
    parts = tmp_path / "scores.parquet.parts"
    while sum(pq.read_metadata(part).num_rows for part in parts.glob("[0-9]*.parquet")) < COUNT // 4:
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not out.exists()

    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    assert f"{COUNT:,} rows" in told, told
    rows = pq.read_table(out, columns=["image", "sha256", "error", "decision", "malignancy"]).to_pylist()
    assert len(rows) == COUNT
    found = {row["image"]: (row["sha256"], row["error"]) for row in rows}
    assert len(found) == COUNT
    assert found == expected
    assert Counter(row["error"] is None for row in rows) == {True: COUNT - COUNT // EVERY, False: COUNT // EVERY}
    assert all((row["decision"] is None) == (row["error"] is not None) for row in rows)
    decisions = Counter(row["decision"] for row in rows)
    assert min(decisions[name] for name in ("suspicious", "low_suspicion", "uncertain")) > 0
    assert all((row["malignancy"] is None) == (row["decision"] in (None, "rejected")) for row in rows)
