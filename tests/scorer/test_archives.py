"""Members of archives: found as by the standard library, read one by one, and reported if damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiderm_scorer.archives import is_archive, members
from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader

NAMES = st.text("abcXYZ0189 -_äß☃", min_size=1, max_size=20).map(lambda text: f"{text.strip() or 'x'}.jpg")
CONTENTS = st.lists(st.tuples(NAMES, st.binary(max_size=3000)), max_size=8)
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def zipped(contents: list[tuple[str, bytes]], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.mkdir("folder")
        for name, data in contents:
            archive.writestr(f"folder/{name}", data)
    return buffer.getvalue()


def tarred(contents: list[tuple[str, bytes]], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in contents:
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def listed(path: Path) -> list[Item]:
    with path.open("rb") as file:
        return list(members(str(path), file))


def read(items: list[Item]) -> list[bytes | ItemProblem]:
    with Reader(10_000) as reader:
        return [reader.read(item) for item in items]


@pytest.mark.parametrize("suffix", [".zip", *TARS])
@settings(deadline=None, max_examples=25)
@given(contents=CONTENTS)
def test_each_member_is_found_and_read_in_any_order(
    suffix: str, contents: list[tuple[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("archive") / f"x{suffix}"
    unique = list(dict(contents).items())
    if suffix == ".zip":
        path.write_bytes(zipped(unique, zipfile.ZIP_DEFLATED if len(unique) % 2 else zipfile.ZIP_STORED))
    else:
        path.write_bytes(tarred(unique, TARS[suffix]))
    items = listed(path)
    assert [item.image for item in items] == [f"{path}::folder/{name}" for name, _ in unique]
    assert read(items) == [data for _, data in unique]
    assert read(items[::-1]) == [data for _, data in unique][::-1]


def test_two_members_of_one_name_are_two_images(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tarred([("a.jpg", b"first"), ("a.jpg", b"second")], "w"))
    items = listed(path)
    assert [item.image.rpartition("::")[2] for item in items] == ["folder/a.jpg", "folder/a.jpg#2"]
    assert read(items) == [b"first", b"second"]


def test_a_damaged_member_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    data = bytearray(zipped([("a.jpg", b"A" * 500), ("b.jpg", b"B" * 500), ("c.jpg", b"C" * 500)], zipfile.ZIP_STORED))
    data[data.index(b"BBBB") + 100] ^= 0xFF
    path.write_bytes(bytes(data))
    first, second, third = read(listed(path))
    assert (first, third) == (b"A" * 500, b"C" * 500)
    assert isinstance(second, ItemProblem)
    assert second.code == "unreadable"
    assert "damaged" in second.detail


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_archive_that_breaks_off_keeps_what_came_before(tmp_path: Path, suffix: str) -> None:
    whole = tarred([(f"{index}.jpg", bytes([index]) * 2000 + bytes(range(256)) * 20) for index in range(20)], TARS[suffix])
    path = tmp_path / f"x{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    items = listed(path)
    found = read(items)
    assert isinstance(found[0], bytes)
    assert items[-1].image == str(path)
    assert isinstance(found[-1], ItemProblem)
    assert "breaks off" in found[-1].detail
    assert all(isinstance(data, ItemProblem) or len(data) == 2000 + 256 * 20 for data in found)


def test_what_is_no_archive_is_one_item_that_says_so(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar", "x.tgz"):
        path = tmp_path / name
        path.write_bytes(b"not an archive at all")
        (item,) = listed(path)
        assert item.problem is not None
        assert item.problem.code == "unreadable"


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped([("bomb.jpg", bytes(50_000_000))], zipfile.ZIP_DEFLATED))
    (found,) = read(listed(path))
    assert isinstance(found, ItemProblem)
    assert found.code == "too_large"
    assert "50,000,000" in found.detail


def test_an_encrypted_or_oddly_compressed_member_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    data = bytearray(zipped([("a.jpg", b"A" * 50)], zipfile.ZIP_STORED))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    (found,) = read(listed(path))
    assert isinstance(found, ItemProblem)
    assert "encrypted" in found.detail
    path.write_bytes(zipped([("a.jpg", b"A" * 50)], zipfile.ZIP_LZMA))
    (found,) = read(listed(path))
    assert isinstance(found, ItemProblem)
    assert "lzma" in found.detail


def member(kind: bytes, size: int, name: str = "././@LongLink") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def bomb(kind: bytes) -> Iterator[bytes]:
    """Yields a tar whose header announces 1.5 GB of name or pax records, which do follow."""
    size = 1_500_000_000
    yield member(kind, size)
    if kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
        start = b"%d comment=" % size
        yield start
        size -= len(start)
    block = b"a" * 10_000_000
    for _ in range(size // len(block)):
        yield block


def most_memory(path: Path) -> int:
    """The growth of peak memory, in bytes, while a separate process lists an archive."""
    program = """
import resource, sys
from aiderm_scorer.archives import members
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], "rb") as file:
    items = list(members(sys.argv[1], file))
assert items[-1].problem is not None, items
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, items[-1].problem.detail)
"""
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-1000:]
    return int(ended.stdout.split()[0]) * 1024


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for index, block in enumerate(bomb(kind)):
            file.write(block)
            if index == 20:  # 200 MB show the problem as well as 1.5 GB
                break
    assert most_memory(path) < 50_000_000


def test_many_headers_before_one_member_or_for_all_are_bounded(tmp_path: Path) -> None:
    size = 512 * 1024
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        path = tmp_path / "x.tar"
        record = b"%d k=" % size + b"a" * (size - 10) + b"\n"
        path.write_bytes((member(kind, size) + record.ljust(size, b"a")) * 5)
        (item,) = listed(path)
        assert item.problem is not None
        assert "allowed before a member" in item.problem.detail


def test_a_name_that_no_system_could_open_ends_the_list(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tarred([("a.jpg", b"1"), ("b" * 5000, b"2")], "w"))
    good, broken = listed(path)
    assert good.problem is None
    assert broken.problem is not None
    assert "name has 5,007 characters" in broken.problem.detail


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".tar.gz"])
@pytest.mark.ci
def test_what_unpacks_to_a_thousand_times_its_size_is_given_up(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    opened: Any = {".tar.bz2": bz2.open, ".tar.xz": lzma.open, ".tar.gz": gzip.open}[suffix]
    with opened(path, "wb") as file:
        file.write(member(tarfile.REGTYPE, 400_000_000, "a.jpg"))
        for _ in range(40):
            file.write(bytes(10_000_000))
        file.write(member(tarfile.REGTYPE, 0, "b.jpg"))
    assert most_memory(path) < 80_000_000
    items = listed(path)
    assert [item.problem is None for item in items] == [True, False]
    assert "unpacks to more than 100 times its size" in str(items[1].problem)


def test_files_with_holes_are_told_and_passed_by(tmp_path: Path) -> None:
    """The map of holes continues over several blocks; the next members are still found."""
    path = tmp_path / "x.tar"
    header = bytearray(member(tarfile.GNUTYPE_SPARSE, 512, "holes.jpg"))
    header[482] = 1
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    extended = bytearray(512)
    extended[504] = 1
    after = tarred([("b.jpg", b"after")], "w")
    path.write_bytes(bytes(header) + bytes(extended) * 3 + bytes(512) + b"D" * 512 + after)
    holes, good = listed(path)
    assert holes.problem is not None
    assert "has holes" in holes.problem.detail
    assert read([good]) == [b"after"]
    path.write_bytes(bytes(header) + bytes(extended) * 3000 + bytes(512) + b"D" * 512 + after)
    assert "allowed before a member" in str(listed(path)[0].problem)


def test_a_link_in_a_tar_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (found,) = read(listed(path))
    assert isinstance(found, ItemProblem)
    assert "no regular file" in found.detail


def test_archives_are_known_by_their_names() -> None:
    assert all(is_archive(f"A{suffix.upper()}") for suffix in (".zip", *TARS))
    assert not any(is_archive(name) for name in ("a.jpg", "zip", "a.zip.jpg"))
