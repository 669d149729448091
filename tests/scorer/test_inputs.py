"""The user's inputs are turned into one item per image."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aiderm_scorer.addresses import Allowed
from aiderm_scorer.inputs import InputError, find
from aiderm_scorer.items import ItemProblem, printable
from aiderm_scorer.lists import ListError
from aiderm_scorer.read import Reader

from .conftest import BUCKET, Remote, fill, picture


def names(*inputs: object, **options: object) -> list[str]:
    return [item.image for item in find([str(text) for text in inputs], **options).items]  # type: ignore[arg-type]


def test_a_folder_is_searched_to_its_depths_and_told_apart(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a" / "b", 1)[0], fill(tmp_path / "c", 1)[0]
    extensionless = tmp_path / "IMG0001"
    for path in (extensionless, tmp_path / "labels.csv", tmp_path / ".hidden.png", tmp_path / "c" / "notes.txt"):
        path.write_bytes(b"x")
    listing = find([str(tmp_path)])
    assert [item.image for item in listing.items] == [str(extensionless), str(first), str(second)]
    assert listing.skipped == {".csv": 1, ".txt": 1, "hidden": 1}
    assert len(find([str(tmp_path)], every_file=True).items) == 5


def test_an_image_named_in_several_ways_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "a", 2)
    listing = find(["a", "./a/0000.png", str(tmp_path / "a" / "0001.png"), "a/*.png"])
    assert [item.image for item in listing.items] == ["a/0000.png", "a/0001.png"]
    assert listing.repeated == 4


def test_patterns_take_images_only_unless_they_name_more(tmp_path: Path) -> None:
    paths = fill(tmp_path, 3)
    (tmp_path / "labels.csv").write_text(f"path\n{paths[0].name}\n")
    assert names(tmp_path / "*") == [str(path) for path in paths]
    assert names(tmp_path / "000[01].png") == [str(path) for path in paths[:2]]
    assert names(tmp_path / "*.csv") == [str(paths[0])]
    strange = tmp_path / "a[1].png"
    strange.write_bytes(picture(1))
    assert names(strange) == [str(strange)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_list_names_images_beside_it_or_anywhere(tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"list{suffix}"
    values = ["a.png", "sub/b.png", str(tmp_path / "c.png"), "s3://bucket/d.png", "", "a.png"]
    if suffix == ".parquet":
        pq.write_table(pa.table({"id": range(len(values)), "path": [value or None for value in values]}), table)
    else:
        comma = "," if suffix == ".csv" else "\t"
        table.write_text("\ufeffid" + comma + "Path\n" + "".join(f"{i}{comma}{v}\n" for i, v in enumerate(values)), "utf-8")
    listing = find([str(table)])
    here = [str(tmp_path / "a.png"), str(tmp_path / "sub/b.png"), str(tmp_path / "c.png"), "s3://bucket/d.png", f"{table}:5"]
    assert [item.image for item in listing.items] == here
    assert [item.listed for item in listing.items] == [*values[:4], None]
    assert listing.items[-1].problem is not None
    assert listing.repeated == 1
    assert names(table, root="/elsewhere")[0] == "/elsewhere/a.png"


def test_lists_without_a_column_of_paths_say_what_they_have(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("id,lesion\n1,2\n")
    with pytest.raises(ListError, match=r"no column of paths.*id, lesion"):
        find([str(table)])
    with pytest.raises(ListError, match="no column 'picture'; it has: id, lesion"):
        find([str(table)], column="picture")
    assert names(table, column="lesion") == [str(tmp_path / "2")]
    broken = tmp_path / "list.parquet"
    broken.write_bytes(b"PAR1 or not")
    with pytest.raises(ListError, match="no Parquet table"):
        find([str(broken)])


def test_members_of_archives_are_told_apart_as_files_of_folders_are(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/b.jpg", "__MACOSX/a/._b.jpg", "readme.txt"):
            archive.writestr(name, b"x")
    listing = find([str(path)])
    assert [item.image for item in listing.items] == [f"{path}::a/b.jpg"]
    assert listing.skipped == {"hidden": 1, ".txt": 1}
    broken = tmp_path / "y.zip"
    broken.write_bytes(b"PK no")
    (item,) = find([str(broken)]).items
    assert item.problem is not None


def test_names_that_are_no_utf8_and_links_that_lead_nowhere_are_items(tmp_path: Path) -> None:
    strange = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")  # noqa: PTH118
    Path(os.fsdecode(strange)).write_bytes(picture(1))
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = names(tmp_path)
    assert printable(os.fsdecode(strange)) in found
    assert str(tmp_path / "gone.png") in found
    assert all(name.encode() for name in found)


def test_members_whose_paths_are_alike_are_images_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    contents = ["b.jpg", "a/../b.jpg", "./b.jpg", "a//c.jpg", "a/c.jpg", "b.jpg", "b.jpg#2", "d.jpg", "d.jpg#2", "d.jpg"]
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in contents:
            archive.writestr(name, name.encode())
    listing = find([str(path)])
    found = [item.image.removeprefix(f"{path}::") for item in listing.items]
    assert found == [*contents[:5], "b.jpg#2", "b.jpg#2#2", "d.jpg", "d.jpg#2", "d.jpg#3"]
    with Reader(10_000) as reader:
        assert [reader.read(item) for item in listing.items] == [name.encode() for name in contents]
    again = find([str(path), os.path.relpath(path)])
    assert (len(again.items), again.repeated) == (10, 10)


def test_two_files_whose_names_are_written_alike_are_two_images(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"caf\\xe9.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(picture(1))  # noqa: PTH118
    listing = find([str(tmp_path)])
    assert len({item.image for item in listing.items}) == len({item.where for item in listing.items}) == 2


def test_what_systems_leave_beside_images_is_skipped_and_counted(tmp_path: Path) -> None:
    (image,) = fill(tmp_path / "a", 1)
    for name in ("@eaDir/0000.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/0000.png", "._0000.png"):
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(1))
    for options in ({}, {"every_file": True}):
        listing = find([str(tmp_path)], **options)  # type: ignore[arg-type]
        assert [item.image for item in listing.items] == [str(image)]
        assert listing.skipped == {"hidden": 3}


@pytest.mark.parametrize("comment", [b"made by me", b"PK\x05\x06" + bytes(30), bytes(65_535), b"x" * 100 + b"PK\x05\x06"])
def test_a_zip_with_a_comment_is_read(tmp_path: Path, comment: bytes) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"abc")
    data = path.read_bytes()
    path.write_bytes(data[:-2] + len(comment).to_bytes(2, "little") + comment)
    (item,) = find([str(path)]).items
    assert item.problem is None
    with Reader(10_000) as reader:
        assert reader.read(item) == b"abc"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_file_is_a_list(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "list.txt"
    table.write_bytes("a.png\r\nsub/ä.png\r\n\r\n/c d.png\r\n".encode(encoding))
    assert names(table) == [str(tmp_path / "a.png"), str(tmp_path / "sub/ä.png"), "/c d.png"]
    table.write_bytes("Path\na.png".encode(encoding))
    assert names(table) == [str(tmp_path / "a.png")]
    with pytest.raises(ListError, match="has no columns"):
        find([str(table)], column="path")


def test_windows_paths_in_lists(tmp_path: Path) -> None:
    (image,) = fill(tmp_path / "sub", 1)
    real = tmp_path / "a\\b.png"
    real.write_bytes(picture(1))
    table = tmp_path / "list.txt"
    table.write_text("sub\\0000.png\n.\\sub\\gone.png\na\\b.png\nC:\\images\\a.png\n\\\\server\\a.png\n")
    items = find([str(table)]).items
    assert [item.where for item in items[:3]] == [str(image), str(tmp_path / "sub/gone.png"), str(real)]
    assert all(item.problem is not None and "Windows" in item.problem.detail for item in items[3:])
    assert len(items) == 5


def test_lists_name_only_what_the_operator_allows(tmp_path: Path) -> None:
    table = tmp_path / "list.txt"
    addresses = [
        "s3://bucket/a.png", "https://example.org/a.png", "file:///etc/passwd", "zip://a::https://b/c.zip", "HTTP://10.0.0.1/a",
    ]  # fmt: skip
    table.write_text("\n".join(addresses))

    def refused(*allow: str) -> list[bool]:
        return [item.problem is not None for item in find([str(table)], allowed=Allowed.parse(allow)).items]

    assert refused() == [False, True, True, True, True]
    assert refused("https") == [False, False, True, True, True]
    assert refused("https", "zip") == [False, False, True, False, True]
    assert refused("https://example.org") == [False, False, True, True, True]
    assert refused("http://10.0.0.1:80/x") == [False, True, True, True, False]
    problem = find([str(table)]).items[1].problem
    assert problem is not None
    assert "--allow https" in problem.detail


def test_pipes_and_lines_without_end_are_refused(tmp_path: Path) -> None:
    for name in ("list.csv", "list.txt", "archive.zip"):
        os.mkfifo(tmp_path / name)  # opening a pipe would block
        with pytest.raises(InputError, match="no regular file"):
            find([str(tmp_path / name)])
    for name, text in (("a.txt", "a.jpg\n" + "b" * 2_000_000), ("a.csv", "path\na.jpg\n" + "b," * 1_000_000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(ListError, match=r"line \d of .* more than 1,048,576 characters"):
            find([str(tmp_path / name)])
    (tmp_path / "wide.csv").write_text(",".join(f"c{number}" for number in range(100_000)))
    with pytest.raises(ListError, match=r"c19 and 99,980 more$"):
        find([str(tmp_path / "wide.csv")])


def test_a_table_of_more_rows_than_bytes_is_refused(tmp_path: Path) -> None:
    """A few kilobytes of Parquet can be a billion rows, each of which would become a row of scores."""
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"path": pa.nulls(1_500_000, pa.string())}), bomb)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(ListError, match="1,500,000 rows; allowed: at most 1,000,000"):
        find([str(bomb)])
    pq.write_table(pa.table({"path": ["a.jpg", None, "a.jpg", "b.jpg"]}), bomb)
    assert len(find([str(bomb)]).items) == 3


def test_a_list_that_names_itself_and_files_of_the_system_is_one_row_each(tmp_path: Path) -> None:
    table = tmp_path / "list.txt"
    paths = ["list.txt", "/dev/zero", "/dev/stdin", "/proc/self/maps", "a\0b.jpg", "x" * 5000, "..", "file:/etc/passwd"]
    table.write_text("\n".join(paths))
    listing = find([str(table)])
    assert [item.listed for item in listing.items] == paths
    with Reader(10_000) as reader:
        found = [reader.read(item) for item in listing.items]
    assert isinstance(found[0], bytes), "no image, as its row will say"
    assert all(isinstance(problem, ItemProblem) for problem in found[1:]), found


def test_a_bucket_without_credentials_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "FSSPEC_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    for address in ("s3://private/folder", "s3://private/*.png"):
        with pytest.raises(InputError, match=r"cannot be read: no credentials\. Set AWS_ACCESS_KEY_ID") as caught:
            find([address])
        assert "\n" not in str(caught.value)


def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*nowhere"):
        find([str(tmp_path / "nowhere")])
    with pytest.raises(InputError, match="nothing matches"):
        find([str(tmp_path / "*.jpg")])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"no images in .*other files there: 1 \.txt"):
        find([str(tmp_path)])
    with pytest.raises(InputError, match="cannot be opened"):
        find(["nosuch://bucket/a.png"])


def test_a_bucket_is_a_folder(remote: Remote, s3: None) -> None:
    remote.files = {"a/1.png": picture(1), "a/2.png": picture(2), "a/list.txt": b"x"}
    listing = find([f"s3://{BUCKET}/a"])
    assert [item.image for item in listing.items] == [f"s3://{BUCKET}/a/1.png", f"s3://{BUCKET}/a/2.png"]
    assert listing.skipped == {".txt": 1}
    assert names(f"s3://{BUCKET}/a/*.png") == [item.image for item in listing.items]
