"""The command as it is used: every image is accounted for, whatever it is and whatever stops the run."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from aiderm_core.assess import assess
from aiderm_core.bundle.manifest import Manifest
from aiderm_core.bundle.store import ModelStore
from aiderm_core.imaging.limits import Limits
from aiderm_core.quality import measurements
from aiderm_core.runtime import load_runtime
from aiderm_scorer.cli import app

from .conftest import BUCKET, Remote, fill, picture

COMMAND = [sys.executable, "-m", "aiderm_scorer.cli"]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )  # fmt: skip


def run(*arguments: object, code: int = 0, **options: Any) -> str:
    process = start(*arguments, **options)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == code, told
    return told


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_row_says_what_the_shared_path_says(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(3):
        pixels = rng.integers(0, 120, (200 + 40 * index, 260, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), cv2.GaussianBlur(pixels, (5, 5), 0))
    told = run(folder, "--out", tmp_path / "s.parquet", "--models", models, "--jobs", "1")
    assert "3 rows" in told
    assert "not a diagnosis" in told
    bundle = ModelStore(models).path("melanoma", "1")
    manifest, runtime = Manifest.load(bundle), load_runtime("openvino", bundle, threads=1)
    for row in table(tmp_path / "s.parquet"):
        data = Path(row["image"]).read_bytes()
        found = assess(data, manifest=manifest, runtime=runtime, rule=manifest.decision, limits=Limits())
        assert row["decision"] == found.verdict.decision.value
        assert row["malignancy"] == pytest.approx(found.malignancy, abs=1e-6)
        assert [row[f"class_{label.id}"] for label in manifest.labels] == pytest.approx(list(found.probabilities), abs=1e-6)
        assert {name: row[f"quality_{name}"] for name in measurements.METRICS} == pytest.approx(found.measures, rel=1e-5)
        assert (row["width"], row["height"], row["format"]) == (found.image.width, found.image.height, "jpeg")
        assert (row["model"], row["model_version"], row["precision"], row["prevalence"]) == ("melanoma", "1", "f32", 0.3)
        assert row["bytes"] == len(data)
        assert row["error"] is None


@pytest.mark.ci
def test_every_image_of_every_kind_of_input_has_one_row(
    tmp_path: Path, models: Path, remote: Remote, s3: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("folder"), 3)
    broken = {"empty.png": b"", "text.jpg": b"hello", "cut.png": picture(9)[:60], "heic.heic": b"\0\0\0\x18ftypheic" + bytes(40)}
    for name, data in broken.items():
        Path("folder", name).write_bytes(data)
    Path("list.csv").write_text("path\nfolder/0000.png\nmore/1.png\nmore/gone.png\n\n")
    fill(Path("more"), 0)
    Path("more/1.png").write_bytes(picture(255))
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("z.png", picture(200))
    with tarfile.open("b.tar.gz", "w:gz") as archive:
        archive.add("more/1.png", "t.png")
    remote.files = {"x/1.png": picture(1), "x/2.png": picture(2)}
    inputs = ["folder", "list.csv", "a.zip", "b.tar.gz", f"s3://{BUCKET}/x"]
    told = run(*inputs, "--out", "s.parquet", "--models", models)
    rows = {row["image"]: row for row in table(Path("s.parquet"))}
    assert len(rows) == 13
    assert [(name, row["bytes"]) for name, row in rows.items() if row["sha256"] and row["error"]] == [("folder/cut.png", 60)]
    assert Counter(row["error"] for row in rows.values()) == {
        None: 8, "empty_file": 1, "unsupported_type": 2, "truncated": 1, "unreadable": 1,
    }  # fmt: skip
    assert all((row["error"] is None) == (row["decision"] is not None) for row in rows.values())
    assert rows["more/1.png"]["decision"] == rows["b.tar.gz::t.png"]["decision"] == "suspicious"
    assert rows["more/1.png"]["sha256"] == rows["b.tar.gz::t.png"]["sha256"]
    assert rows["more/gone.png"]["listed"] == "more/gone.png"
    assert "HEIC" in rows["folder/heic.heic"]["error_detail"]
    assert "named more than once, scored once: 1" in told
    again = run(*inputs, "--out", "s.parquet", "--models", models)
    assert "13 images, 13 of them scored already" in again
    Path("more/gone.png").write_bytes(picture(0))
    assert "12 of them scored already" in run(*inputs, "--out", "s.parquet", "--models", models, "--again")
    assert {row["image"]: row for row in table(Path("s.parquet"))}["more/gone.png"]["decision"] == "low_suspicion"


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_any_way_the_same_command_goes_on(
    tmp_path: Path, models: Path, remote: Remote, number: signal.Signals
) -> None:
    out, parts = tmp_path / "s.parquet", tmp_path / "s.parquet.parts"
    paths = fill(tmp_path / "images", 70)
    remote.files["slow.png"] = picture(1)
    slow = f"{remote.address}/slow.png"

    def hang() -> None:
        time.sleep(30)

    remote.hooks["slow.png"] = hang
    arguments = (tmp_path / "images", slow, "--out", out, "--models", models, "--jobs", "1")
    # A background job of a shell ignores SIGINT, and its child processes would inherit that.
    process = start(*arguments, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    end = time.monotonic() + 60
    while sum(pq.read_metadata(part).num_rows for part in parts.glob("[0-9]*.parquet")) < 64:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert not out.exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130, told
        assert "the same command to resume" in told
    remote.hooks.clear()
    told = run(*arguments)
    assert "71 images, 64 of them scored already" in told  # two whole chunks
    assert [row["image"] for row in table(out)] == sorted([*map(str, paths), slow])
    assert not parts.exists()


def test_what_cannot_be_done_is_told_in_a_sentence(tmp_path: Path, models: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "s.parquet"
    fill(folder, 1)

    def refused(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out), "--models", str(models)])
        assert result.exit_code == 2, result.output
        return " ".join(result.output.split())

    assert "error: there is no" in refused(tmp_path / "nowhere")
    assert "melanoma has no version 9" in refused(folder, "--version", "9")
    assert "offers: openvino/f32" in refused(folder, "--precision", "int8")
    assert "no version of other is promoted" in refused(folder, "--model", "other")
    assert "no address of a cluster" in refused(folder, "--cluster", "nonsense")
    assert "--allow takes a scheme (https) or a host" in refused(folder, "--allow", "//x")
    parts = tmp_path / "s.parquet.parts"
    parts.mkdir()
    (parts / "mine").write_text("x")
    assert "aiderm-score did not make the folder" in refused(folder)
    assert "aiderm-score did not make the folder" in refused(folder, "--fresh")
    assert [path.name for path in parts.iterdir()] == ["mine"]
    (parts / "mine").unlink()
    parts.rmdir()
    manifest = models / "melanoma" / "1" / "manifest.json"
    before = manifest.read_bytes()
    try:
        manifest.write_bytes(before.replace(b'"threshold": 0.5', b'"threshold": 0.55'))
        assert "is not the one that was promoted" in refused(folder)
    finally:
        manifest.write_bytes(before)
    out.mkdir()
    assert "must name a file" in refused(folder)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("s.parquet")] == ["s.parquet"]
