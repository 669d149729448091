"""The compare command: a study that is killed half-way and resumed gets the leaderboard of an uninterrupted one."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console
from tests.trainer.study.small_study import compare_command, equal_tables, write_study

from aiderm_compute.executor import local_processes
from aiderm_core import files
from aiderm_trainer.data.split import read_split
from aiderm_trainer.study.compare import StudyError, compare
from aiderm_trainer.study.plan import Plan, PlanError
from aiderm_trainer.study.results import load, read_identity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan, and weights that stand in for pretrained ones."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, seeds=[0, 1], epochs=6)
    return folder


def start(folder: Path, synthetic_split: tuple[Path, Path], out: Path, *more: str) -> subprocess.Popen[str]:
    command = [*compare_command(folder, synthetic_split), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return said


@pytest.mark.soak
def test_a_killed_study_resumes_to_the_leaderboard_of_an_unbroken_one(
    folder: Path, synthetic_split: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(folder, synthetic_split, whole)  # at once, because starting TensorFlow takes most of the time
    first = start(folder, synthetic_split, broken)
    half_trained = broken / "trials" / "scratch--1--0"
    deadline = time.monotonic() + 300
    while first.poll() is None and time.monotonic() < deadline and not (half_trained / "checkpoint.npz").exists():
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)  # only the study; its worker must notice
    first.communicate()
    assert not (half_trained / "result.json").exists(), "it was killed too late"
    finished = {path: path.stat().st_mtime_ns for path in (broken / "trials").glob("frozen*/result.json")}
    assert len(finished) == 4
    assert len(files.read_rows(broken / "trials.csv")) == 4

    said = finish(start(folder, synthetic_split, broken))
    assert "6 trials, 4 of them finished already" in said
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    finish(unbroken)

    assert [row["recipe"] for row in equal_tables(whole, broken)] == ["frozen"] * 4 + ["scratch"] * 2
    documents = [(out / "study.md").read_text().split("## Leaderboard")[1] for out in (whole, broken)]
    assert documents[0] == documents[1]
    for name in ("leaderboard.png", "differences.png"):
        assert (broken / name).read_bytes().startswith(b"\x89PNG")
    # Weights and the half-trained network's checkpoint are removed; the held-out outputs stay.
    assert not list((broken / "trials").glob("*/checkpoint.npz"))

    results = load(broken)
    split, _ = synthetic_split
    table = {row.sha256: row for row in read_split(split)}
    test = {sha256 for sha256, row in table.items() if row.split == "test"}
    known = {bytes(value).hex() for value in results.sha256}
    assert known == set(table) - test
    held_out = read_split(broken / "folds" / "1.csv")
    outputs = files.read_arrays(broken / "trials" / "frozen--1--1" / "outputs.npz")
    for name, part in (("held_out", "test"), ("validation", "validation")):
        assert outputs[f"{name}_sha256"].tolist() == [row.sha256 for row in held_out if row.split == part]
        assert outputs[f"{name}_probability"].sum(axis=1) == pytest.approx(1.0)

    # A different plan is refused as another study.
    plan = read_identity(broken).plan
    with local_processes() as executor:
        arguments = {"executor": executor, "weights": folder, "console": Console(quiet=True)}
        with pytest.raises(PlanError, match=r"another study.*plan\.inner"):
            compare(plan.model_copy(update={"inner": 0.2}), list(table.values()), synthetic_split[1], broken, **arguments)
        with pytest.raises(PlanError, match="--resume"):
            compare(plan, list(table.values()), synthetic_split[1], broken, resume=False, **arguments)


@pytest.mark.ci
def test_what_cannot_be_trained_is_told_and_leaves_the_rest(synthetic_split: tuple[Path, Path], tmp_path: Path) -> None:
    split, data = synthetic_split
    recipes = [
        {"name": "nothing", "train": {"arch": "nothing", "weights": "none"}},
        {"name": "small", "train": {"arch": "custom_cnn", "weights": "none", "size": 32, "epochs": 1}},
    ]
    # In threads, because TensorFlow is already loaded in this process; another process would take seconds to load it.
    with local_processes(pool=ThreadPoolExecutor) as executor:
        arguments = {"executor": executor, "console": Console(quiet=True)}
        with pytest.raises(StudyError, match=r"2 of 4 trials failed.*unknown architecture"):
            compare(Plan.of(recipes=recipes, folds=2), read_split(split), data, tmp_path / "out", **arguments)
    assert [row["recipe"] for row in files.read_rows(tmp_path / "out" / "trials.csv")] == ["small", "small"]
    missing = Plan.of(recipes=[{"name": "a", "train": {"arch": "mobilenet_v2", "weights": "no.h5"}}])
    with pytest.raises(PlanError, match="--weights-folder"):
        compare(missing, read_split(split), data, tmp_path / "other", **arguments)
