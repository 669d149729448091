"""One result per lesion in a list: the same as the API's, resumed after a stop, and withheld if an image is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from aiderm_scorer.cli import app
from aiderm_scorer.inputs import InputError, find
from aiderm_scorer.lists import ListError

from .conftest import picture

# lesion -> file name -> the image's red; the malignancy is red / 255, and the band is 0.4..0.6
LESIONS = {
    "A": {"a1.png": 230, "a2.png": 200},
    "B": {"b1.png": 20, "b2.png": 230},
    "C": {"c1.png": 20, "c2.png": 10, "c3.png": 30},
    "D": {"d1.png": 20, "gone.png": None},
    "": {"alone.png": 240},
}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    lines = ["path,patient"]
    for lesion, files in LESIONS.items():
        for name, red in files.items():
            lines.append(f"{name},{lesion}")
            if red is not None:
                (tmp_path / name).write_bytes(picture(red))
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def score(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    return done.output


def lesions(out: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(out.with_name("s.lesions.parquet")).to_pylist()
    assert [row["lesion"] for row in rows] == sorted(row["lesion"] for row in rows)
    return {row["lesion"]: row for row in rows}


def test_each_lesion_has_one_answer(tmp_path: Path, models: Path, listed: Path) -> None:
    out = tmp_path / "s.parquet"
    told = score(listed, "--lesion-column", "patient", "--out", out, "--models", models)
    assert "1 suspicious" in told.split("lesions:")[1]
    found = lesions(out)
    assert list(found) == ["A", "B", "C", "D"]
    names = {lesion: [str(tmp_path / name) for name in files] for lesion, files in LESIONS.items()}
    assert {lesion: row["images"] for lesion, row in found.items()} == {lesion: names[lesion] for lesion in found}
    assert {lesion: row["decision"] for lesion, row in found.items()} == {
        "A": "suspicious", "B": "uncertain", "C": "low_suspicion", "D": None,
    }  # fmt: skip
    odds = (230 / 25 * 200 / 55) ** 0.5
    assert found["A"]["malignancy"] == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert sum(found["A"][f"class_{name}"] for name in ("mel", "bcc", "akiec")) == pytest.approx(found["A"]["malignancy"])
    assert found["A"]["threshold"] == 0.5
    assert (found["B"]["higher"], found["B"]["lower"]) == ([names["B"][1]], [names["B"][0]])
    assert (found["D"]["error"], found["D"]["malignancy"]) == ("unreadable", None)

    (tmp_path / "gone.png").write_bytes(picture(40))
    score(listed, "--lesion-column", "patient", "--out", out, "--models", models, "--again")
    again = lesions(out)
    assert again["D"]["decision"] == "low_suspicion"
    assert {key: again[key] for key in "ABC"} == {key: found[key] for key in "ABC"}


def test_copies_of_one_file_count_once(tmp_path: Path, models: Path) -> None:
    for name, red in {"a.png": 20, "b.png": 20, "c.png": 90}.items():
        (tmp_path / name).write_bytes(picture(red))
    (tmp_path / "list.csv").write_text("path,mole\na.png,A\nb.png,A\nc.png,A\n", "utf-8")
    out = tmp_path / "s.parquet"
    score(tmp_path / "list.csv", "--lesion-column", "mole", "--out", out, "--models", models)
    found = lesions(out)["A"]
    assert (len(found["images"]), found["counted"]) == (3, [str(tmp_path / "a.png"), str(tmp_path / "c.png")])
    odds = (20 / 235 * 90 / 165) ** 0.5
    assert found["malignancy"] == pytest.approx(odds / (1 + odds), abs=1e-4)


def test_a_list_that_does_not_say_which_lesion(tmp_path: Path, listed: Path) -> None:
    with pytest.raises(ListError, match="no column 'mole'; it has: path, patient"):
        find([str(listed)], lesion_column="mole")
    with pytest.raises(InputError, match="needs a list"):
        find([str(tmp_path / "a1.png")], lesion_column="patient")
    listed.write_text("path,patient\na1.png,A\na1.png,B\n", "utf-8")
    with pytest.raises(InputError, match="two lesions: 'A' and 'B'"):
        find([str(listed)], lesion_column="patient")
    listed.write_text("path,patient\na1.png,A\n", "utf-8")
    for order in ([tmp_path / "a1.png", listed], [listed, tmp_path / "a1.png"]):
        [item] = find([str(name) for name in order], lesion_column="patient").items
        assert item.lesion == "A"
    pq.write_table(pa.table({"mole": [1, None], "path": ["a1.png", "a2.png"]}), tmp_path / "list.parquet")
    found = find([str(tmp_path / "list.parquet")], lesion_column="mole").items
    assert [(Path(item.where).name, item.lesion) for item in found] == [("a1.png", "1"), ("a2.png", None)]
