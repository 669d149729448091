"""A split with copies in two parts must be refused, whatever its table says."""

import hashlib
import shutil

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from aiderm_trainer.cli import app
from aiderm_trainer.data.leaks import check_images, find_leaks, repaired
from aiderm_trainer.data.prepare import prepare
from aiderm_trainer.data.split import LeakError, SplitError, write_split
from aiderm_trainer.data.synthetic import lesion
from aiderm_trainer.data.table import Row

pytestmark = pytest.mark.slow


@pytest.fixture
def planted(tmp_path):
    """Twelve different lesions in three parts of a split, and a function that plants another image."""
    rows = []

    def plant(name, pixels=None, split="test", group=None, content=None):
        path = tmp_path / name
        if content is None:
            assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        else:
            path.write_bytes(content)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append(Row(sha256, name, "s", group or f"g-{name}", split, "", False))

    for number in range(12):
        plant(f"{number}.png", lesion(number, False, 256), ("train", "validation", "test")[number % 3])
    return tmp_path, rows, plant


def named(leaks):
    return [(leak.kind, leak.first.path, leak.second.path) for leak in leaks]


def embed(pictures):
    """Colour statistics, which suffice to find candidate copies among twelve lesions."""
    return np.concatenate([pictures.mean((1, 2)), pictures.std((1, 2))], axis=1).astype(np.float32)


def test_a_sound_split_passes(planted):
    root, rows, _ = planted
    assert find_leaks(rows, root, progress=False) == []
    check_images(rows, root, embed=embed, progress=False)


def test_a_planted_file_group_and_copy_are_named(planted):
    root, rows, plant = planted
    plant("copy.png", content=(root / "0.png").read_bytes())
    plant("turned.jpg", np.ascontiguousarray(np.rot90(lesion(3, False, 256))))
    plant("same lesion.png", lesion(50, False, 256), group="g-6.png")
    plant("harmless.jpg", lesion(9, False, 256)[:, ::-1], split="train")  # 9 is in train, too
    leaks = find_leaks(rows, root, progress=False)
    assert named(leaks) == [
        ("group", "6.png", "same lesion.png"), ("file", "0.png", "copy.png"), ("near-duplicate", "3.png", "turned.jpg"),
    ]  # fmt: skip
    with pytest.raises(LeakError, match=r"3 pair\(s\)[\s\S]*near-duplicate: 3\.png in train and turned\.jpg in test"):
        check_images(rows, root, progress=False)


def test_a_cropped_and_freely_turned_copy_needs_the_embedding(planted):
    root, rows, plant = planted
    pixels = lesion(3, False, 256)
    matrix = cv2.getRotationMatrix2D((128, 128), 25, 1.35)
    plant("zoomed.png", cv2.warpAffine(pixels, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT))
    assert find_leaks(rows, root, progress=False) == []
    assert named(find_leaks(rows, root, embed=embed, progress=False)) == [("near-duplicate", "3.png", "zoomed.png")]


def test_images_that_are_not_those_of_the_table(planted):
    root, rows, _ = planted
    (root / "4.png").unlink()
    shutil.copy(root / "6.png", root / "5.png")
    with pytest.raises(SplitError, match=r"2 of 12 images .*4\.png: .*5\.png: another file"):
        find_leaks(rows, root, progress=False)


def test_the_command_ends_with_2(planted):
    root, rows, plant = planted
    split = root / "split.csv"
    write_split(split, rows)
    run = CliRunner().invoke(app, ["check-leaks", str(split), "--data", str(root)])
    assert run.exit_code == 0, run.output
    plant("again.jpg", lesion(1, False, 256))
    write_split(split, rows)
    run = CliRunner().invoke(app, ["check-leaks", str(split), "--data", str(root)])
    assert run.exit_code == 2
    assert "near-duplicate: 1.png in validation and again.jpg in test" in run.output
    # the table itself shows the leak
    split.write_text(split.read_text().replace("g-again.jpg", "g-1.png"))
    run = CliRunner().invoke(app, ["check-leaks", str(split), "--data", str(root)])
    assert run.exit_code == 2
    assert "g-1.png" in run.output


def test_prepare_groups_what_the_embedding_finds(tmp_path):
    folder = tmp_path / "set" / "benign"
    folder.mkdir(parents=True)
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(lesion(number, False, 256), cv2.COLOR_RGB2BGR))
    matrix = cv2.getRotationMatrix2D((128, 128), 25, 1.35)
    zoomed = cv2.warpAffine(lesion(3, False, 256), matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)
    cv2.imwrite(str(folder / "zoomed.png"), cv2.cvtColor(zoomed, cv2.COLOR_RGB2BGR))
    plain = prepare(tmp_path / "set", tmp_path / "a.csv", progress=False)
    assert plain.near_duplicates == []
    thorough = prepare(tmp_path / "set", tmp_path / "b.csv", embed=embed, progress=False)
    assert thorough.near_duplicates == [("benign/3.png", "benign/zoomed.png")]
    groups = {row.path: row.group for row in thorough.rows}
    assert groups["benign/3.png"] == groups["benign/zoomed.png"]
    check_images(thorough.rows, tmp_path / "set", embed=embed, progress=False)


def test_a_repaired_split_keeps_what_was_trained_on_and_passes(planted):
    root, rows, plant = planted
    plant("copy.png", content=(root / "0.png").read_bytes())  # 0 is in train, the copy in test
    plant("turned.jpg", np.ascontiguousarray(np.rot90(lesion(4, False, 256))))  # 4 is in validation
    at = {row.path: position for position, row in enumerate(rows)}
    found = find_leaks(rows, root, progress=False)
    mended = repaired(rows, [(at[leak.first.path], at[leak.second.path]) for leak in found])
    assert find_leaks(mended, root, progress=False) == []
    assert [row.path for row in mended] == [row.path for row in rows]
    sides = {row.path: row.split for row in mended}
    assert sides["copy.png"] == "train"
    assert sides["turned.jpg"] == "validation"
    assert sum(a.split != b.split for a, b in zip(rows, mended, strict=True)) == 2


def test_the_command_writes_a_repaired_split(planted):
    root, rows, plant = planted
    plant("turned.jpg", np.ascontiguousarray(np.rot90(lesion(4, False, 256))))
    write_split(root / "split.csv", rows)
    arguments = ["check-leaks", str(root / "split.csv"), "--data", str(root)]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert CliRunner().invoke(app, [*arguments, "--repair", str(root / "mended.csv")]).exit_code == 0
    assert CliRunner().invoke(app, ["check-leaks", str(root / "mended.csv"), "--data", str(root)]).exit_code == 0
