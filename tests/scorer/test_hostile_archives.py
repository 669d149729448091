"""Archives made to hang the reader, exhaust memory, lose images, or pass few bytes off as many images."""

from __future__ import annotations

import gzip
import io
import lzma
import multiprocessing.pool
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiderm_scorer.archives import members
from aiderm_scorer.bounded_tar import MAX_HEADERS
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader

IMAGE = b"no image, but bytes that are known again"
END = bytes(1024)
MOST_BYTES = 100_000_000
Outcome = Callable[[str, bytes], list[tuple[str, bytes | str]]]
SECONDS = 60  # an archive that hangs would do so for hours

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def header(name: str = "bad.jpg", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header with a binary size, which may be negative or huge."""
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else bytes([0x80]) + size.to_bytes(11, "big")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("pax", len(records), kind) + padded(records)


GOOD = header("good.jpg", len(IMAGE)) + padded(IMAGE)


def read_all(path: str) -> tuple[list[tuple[str, bytes | str]], int]:
    """Each image of an archive with its bytes or its problem, and the memory that reading took, in bytes."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, found = memory(status, "VmRSS"), []
    with open(path, "rb") as file, Reader(10_000) as reader:  # noqa: PTH123
        for item in members(path, file):
            found.append(item)
            assert len(found) < 100_000, "endless"
        answers = [(item.image.rpartition("::")[2], reader.read(item)) for item in found]
    told = [(name, data.detail if isinstance(data, ItemProblem) else data) for name, data in answers]
    return told, memory(status, "VmHWM") - before


def memory(status: Path, name: str) -> int:
    return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1]) * 1024


@pytest.fixture(scope="module")
def process() -> Iterator[multiprocessing.pool.Pool]:
    """A process that can be ended if it hangs."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.fixture
def outcome(process: multiprocessing.pool.Pool, tmp_path: Path) -> Outcome:
    """Returns a function that reads an archive's images in a process, within a minute and little memory."""

    def find(name: str, data: bytes) -> list[tuple[str, bytes | str]]:
        path = tmp_path / name
        path.write_bytes(data)
        found, taken = process.apply_async(read_all, (str(path),)).get(SECONDS)
        assert taken < MOST_BYTES, name
        return list(found)

    return find


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("size", [-1, -512, -1024, -(10**12), 10**15, 2**62, 2**63, 2**80])
def test_sizes_below_zero_or_beyond_everything_are_told(outcome: Outcome, suffix: str, size: int) -> None:
    """A negative size would lead back to the same header, and skipping past the end of a stream would take hours."""
    data = GOOD + header(size=size) + GOOD + END
    found = outcome(f"x{suffix}", gzip.compress(data) if suffix == ".tar.gz" else data)
    assert found[0] == ("good.jpg", IMAGE)
    assert 2 <= len(found) <= 3
    assert all(isinstance(text, str) and ("breaks off" in text or "allowed: at most" in text) for _, text in found[1:]), found


@pytest.mark.parametrize("record", [b"13 size=-512\n", b"11 size=-1\n", b"26 GNU.sparse.size=-99999\n"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_sizes_in_extended_headers_are_checked_as_well(outcome: Outcome, record: bytes, kind: bytes) -> None:
    (problem,) = outcome("x.tar", pax(record, kind) + GOOD + END)
    assert "allowed: 0 or more" in str(problem[1]) or "has holes" in str(problem[1])


@pytest.mark.parametrize(
    "records",
    [
        b"1" * (MAX_HEADERS - 2048),
        b"0 path=x\n",
        b"-5 path=x\n",
        b"99999999999 path=x\n",
        b"10 path=x",
        b"11 path=xyz\n",
        b"9 pathx\n",
    ],
    ids=["digits", "zero", "negative", "long", "short", "off by one", "no value"],
)
def test_extended_headers_that_are_none_are_told_at_once(outcome: Outcome, records: bytes) -> None:
    """``tarfile`` took hours for a megabyte of digits."""
    (problem,) = outcome("x.tar", pax(records) + GOOD + END)
    assert "a pax header is damaged" in str(problem[1])


def test_extended_headers_count_for_one_member_or_for_all(outcome: Outcome) -> None:
    named, data = pax(b"18 path=one/a.jpg\n"), pax(b"16 path=all.jpg\n", tarfile.XGLTYPE)
    found = outcome("x.tar", data + GOOD + named + GOOD + GOOD + END)
    assert [name for name, _ in found] == ["all.jpg", "one/a.jpg", "all.jpg#2"]
    assert {text for _, text in found} == {IMAGE}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_headers_of_headers_of_headers_are_told(outcome: Outcome, kind: bytes) -> None:
    assert len(outcome("x.tar", GOOD + header("h", 0, kind) * 5000 + GOOD + END)) == 2


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("damage", ["checksum", "cut"])
def test_a_damaged_header_does_not_end_the_archive_silently(outcome: Outcome, suffix: str, damage: str) -> None:
    broken = bytearray(GOOD)
    broken[150] ^= 1
    data = GOOD + (bytes(broken) + GOOD + END if damage == "checksum" else GOOD[:300])
    first, problem = outcome(f"x{suffix}", gzip.compress(data) if suffix == ".tar.gz" else data)
    assert first == ("good.jpg", IMAGE)
    assert "a header is damaged" in str(problem[1])


def test_links_devices_and_odd_names_are_rows_and_lead_nowhere(tmp_path: Path) -> None:
    names = ["/etc/x.jpg", "../../x.jpg", "a\nb.jpg", "\x1b[31m.jpg", "C:\\x.jpg", "..", "x::y.jpg", "a#2.jpg", "a.jpg", "a.jpg"]
    data = b"".join(header(name, len(IMAGE)) + padded(IMAGE) for name in names)
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    path = tmp_path / "x.tar"
    path.write_bytes(data + b"".join(header(f"{index}.jpg", 0, kind) for index, kind in enumerate(kinds)) + END)
    with path.open("rb") as file, Reader(10_000) as reader:
        items = list(members(str(path), file))
        found = [reader.read(item) for item in items]
    assert len({item.image for item in items}) == len(names) + len(kinds)
    assert found[: len(names)] == [IMAGE] * len(names)
    assert all(isinstance(problem, ItemProblem) for problem in found[len(names) :])


def test_a_dictionary_of_gigabytes_is_not_made(outcome: Outcome) -> None:
    """The block's header requests the dictionary; the decompressed data would fill it."""
    plain = header("z.jpg", 10**9) + bytes(300_000_000)
    data = bytearray(lzma.compress(plain, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    length = (data[12] + 1) * 4
    block = data[12 : 12 + length]
    block[block.index(b"\x21\x01") + 2] = 38  # 2 GB
    block[-4:] = struct.pack("<I", zlib.crc32(bytes(block[:-4])))
    data[12 : 12 + length] = block
    (problem,) = outcome("x.tar.xz", bytes(data))
    assert "Memory usage limit exceeded" in str(problem[1])


def test_streams_of_xz_may_follow_one_another(outcome: Outcome) -> None:
    for format in (lzma.FORMAT_XZ, lzma.FORMAT_ALONE):
        whole = lzma.compress(GOOD + GOOD + END, format)
        assert [text for _, text in outcome("x.tar.xz", whole)] == [IMAGE, IMAGE]
    parts = lzma.compress(GOOD) + bytes(400_000) + lzma.compress(GOOD + END, preset=9) + b"what others left"
    assert [text for _, text in outcome("x.tar.xz", parts)] == [IMAGE, IMAGE]
    found = outcome("x.tar.xz", lzma.compress(GOOD * 3 + END)[:-40])
    assert "breaks off" in str(found[-1][1])


def zip_of(*entries: dict[str, int | bytes]) -> bytes:
    """A zip with a directory as ``entries`` describe it, whether or not it matches the data."""
    local, directory = b"", b""
    for entry in entries:
        name, data = bytes(entry.get("name", b"a.jpg")), bytes(entry.get("data", IMAGE))
        place = int(entry.get("place", len(local)))
        if "place" not in entry:
            said = bytes(entry.get("local", name))
            local += (
                struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(said), 0)
                + said
                + data
            )
        stored, size, extra = int(entry.get("stored", len(data))), int(entry.get("size", len(data))), b""
        if max(stored, size) >= 2**32 - 1:
            extra, stored, size = struct.pack("<HHQQ", 1, 16, size, stored), 2**32 - 1, 2**32 - 1
        fields = (20, 20, 0, int(entry.get("method", 0)), 0, 0, int(entry.get("crc", zlib.crc32(data))), stored, size)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields, len(name), len(extra), 0, 0, 0, 0, place) + name + extra
    return local + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(local), 0)


@pytest.mark.parametrize(("size", "stored"), [(2**63, 2**63), (2**64 - 1, 40), (40, 2**64 - 1), (40, 2**40), (2**40, 40)])
def test_zip64_sizes_that_lie_cost_only_their_member(outcome: Outcome, size: int, stored: int) -> None:
    found = outcome("x.zip", zip_of({}, {"name": b"b.jpg", "size": size, "stored": stored}, {"name": b"c.jpg"}))
    assert [text for name, text in found if name != "b.jpg"] == [IMAGE, IMAGE]
    assert isinstance(dict(found)["b.jpg"], str)


def test_members_that_share_bytes_are_refused_but_one(outcome: Outcome) -> None:
    """One image listed thousands of times would take hours, and members may contain one another (Fifield's zip bomb)."""
    once = {"place": 0, "data": IMAGE}
    found = outcome("x.zip", zip_of({}, *[once | {"name": b"%d.jpg" % index} for index in range(5000)], {"name": b"z.jpg"}))
    assert len(found) == 5002
    assert sum(text == IMAGE for _, text in found) == 2
    assert sum("shares bytes with another" in str(text) for _, text in found) == 5000
    inner = zip_of({"name": b"b.jpg"})[: 30 + 5 + len(IMAGE)]
    data = zip_of({"data": inner}, {"name": b"b.jpg", "place": 30 + 5})
    assert [text == IMAGE for _, text in outcome("x.zip", data)] == [False, True]


def test_a_member_that_takes_gigabytes_for_few_bytes_is_not_read(outcome: Outcome) -> None:
    """A deflate stream may have any number of empty blocks."""
    squeezed = b"\0\0\0\xff\xff" * 100_000 + zlib.compress(IMAGE, wbits=-15)
    ((_, problem),) = outcome("x.zip", zip_of({"data": squeezed, "method": 8, "size": len(IMAGE), "crc": zlib.crc32(IMAGE)}))
    assert "allowed: at most 10,000" in str(problem)


def test_names_in_the_directory_count_and_may_be_empty(outcome: Outcome) -> None:
    found = outcome("x.zip", zip_of({"local": b"../evil"}, {"name": b"", "local": b"b.jpg"}, {"name": b"\x1b[2J.jpg"}))
    assert [name for name, _ in found] == ["a.jpg", "", "\x1b[2J.jpg"]
    assert [text for _, text in found] == [IMAGE] * 3


def test_honest_archives_of_other_programs_are_read(outcome: Outcome) -> None:
    """The checks must accept every tar format, and a zip after a program."""
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind, pax_headers={"comment": "all of them"}) as archive:
            for name in ("a.jpg", "ä/" * 60 + "b.jpg", "c.jpg"):
                info = tarfile.TarInfo(name if kind != tarfile.USTAR_FORMAT else name[-40:])
                info.size, info.mtime = len(IMAGE), 1.5  # type: ignore[assignment]
                info.uid = 2**20
                archive.addfile(info, io.BytesIO(IMAGE))
        assert [text for _, text in outcome("x.tar", buffer.getvalue())] == [IMAGE] * 3
    buffer = io.BytesIO(b"#!/bin/sh\n" * 100)
    with zipfile.ZipFile(buffer, "a") as zipped:
        for name in ("a.jpg", "b.jpg"):
            zipped.writestr(name, IMAGE)
    found = outcome("x.zip", buffer.getvalue())
    assert [text for _, text in found] == [IMAGE] * 2


def test_an_archive_is_one_row_for_each_member_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(header("a.jpg", len(IMAGE)) + padded(IMAGE) for _ in range(3000)) + END)
    with path.open("rb") as file:
        items: list[Item] = list(members(str(path), file))
    assert len({item.image for item in items}) == 3000
