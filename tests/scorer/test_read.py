"""Reading an item gives its bytes or the reason why there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiderm_scorer.items import Item, ItemProblem
from aiderm_scorer.read import Reader, read_ahead

from .conftest import BUCKET, Remote, fill


def problem(path: object, most: int = 1000) -> ItemProblem:
    found = Reader(most).read(Item(str(path), str(path)))
    assert isinstance(found, ItemProblem)
    return found


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "large.png").write_bytes(bytes(1001))
    assert problem(tmp_path / "gone.png") == ItemProblem("unreadable", "No such file or directory.")
    assert problem(tmp_path).code == "unreadable"
    assert problem(tmp_path / "pipe.png") == ItemProblem("unreadable", "Received no regular file.")
    assert problem(tmp_path / "large.png") == ItemProblem("too_large", "Received more than 1,000 bytes; allowed: at most 1,000.")
    assert problem("nosuch://a/b.png").code == "unreadable"


def test_addresses_are_read_like_files(remote: Remote, s3: None) -> None:
    remote.files = {"a.png": b"abc", "large.png": bytes(1001)}
    for base in (f"s3://{BUCKET}", f"{remote.address}/{BUCKET}"):
        assert Reader(1000).read(Item("a", f"{base}/a.png")) == b"abc"
        assert problem(f"{base}/large.png").code == "too_large"
        assert problem(f"{base}/gone.png").code == "unreadable"


def test_items_come_in_order_whatever_each_is(tmp_path: Path, remote: Remote) -> None:
    paths = fill(tmp_path, 20)
    remote.files = {f"{index}.png": bytes([index]) for index in range(20)}
    local = [Item(str(path), str(path)) for path in [*paths[:5], tmp_path / "gone.png", *paths[5:]]]
    found = list(read_ahead(local, Reader(10_000)))
    assert [item for item, _ in found] == local
    assert [data for _, data in found if isinstance(data, bytes)] == [path.read_bytes() for path in paths]
    distant = [Item(str(index), f"{remote.address}/{index}.png") for index in range(20)]
    assert [data for _, data in read_ahead(distant, Reader(10_000))] == [bytes([index]) for index in range(20)]


@pytest.mark.parametrize("count", [0, 1])
def test_few_items_are_no_special_case(tmp_path: Path, count: int) -> None:
    items = [Item(str(path), str(path)) for path in fill(tmp_path, count)]
    assert len(list(read_ahead(items, Reader(10_000)))) == count
