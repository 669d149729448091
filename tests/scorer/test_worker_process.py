"""If a worker process dies, only the image that it was assessing is blamed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from aiderm_core.imaging.limits import Limits
from aiderm_scorer.items import Item
from aiderm_scorer.scoring_model import Model
from aiderm_scorer.worker_process import WorkerProcess, WorkerProcessError

from .conftest import Remote, fill, picture


def items(paths: list[Path]) -> list[Item]:
    return [Item(str(path), str(path)) for path in paths]


def test_rows_are_those_of_the_model(tmp_path: Path, model: Model) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path, data in zip(paths, [picture(0), picture(255), picture(128), picture(200, blue=250), b"GIF? no"], strict=True):
        path.write_bytes(data)
    with WorkerProcess(model) as lane:
        rows = list(lane.score(items(paths)))
        assert list(lane.score([])) == []
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    assert [row.get("decision") for row in rows] == ["low_suspicion", "suspicious", "uncertain", "rejected", None]
    assert rows[1]["malignancy"] == pytest.approx(1.0, abs=1e-5)
    assert rows[2]["malignancy"] == pytest.approx(128 / 255, abs=1e-5)
    assert (rows[2]["threshold"], rows[2]["uncertain_low"], rows[2]["uncertain_high"]) == (0.5, 0.4, 0.6)
    assert rows[2]["prevalence"] == 0.3
    assert rows[3]["malignancy"] is None
    assert rows[3]["class_mel"] is None
    assert rows[4]["error"] == "unsupported_type"
    assert [bool(row.get("error")) for row in rows] == [False] * 4 + [True]


def test_an_image_that_ends_the_process_twice_is_told_and_the_others_are_judged(
    tmp_path: Path, model: Model, remote: Remote
) -> None:
    paths = fill(tmp_path, 4)
    calls = []

    def kill() -> bytes:
        calls.append(1)
        for process in multiprocessing.active_children():
            if process.pid:
                os.kill(process.pid, signal.SIGKILL)
        return picture(1)

    remote.hooks["killer.png"] = kill
    killer = Item("killer", f"{remote.address}/killer.png")
    with WorkerProcess(model) as lane:
        rows = list(lane.score([*items(paths[:2]), killer, *items(paths[2:])]))
    assert [row["image"] for row in rows] == [*map(str, paths[:2]), "killer", *map(str, paths[2:])]
    assert [row.get("error") for row in rows] == [None, None, "worker_died", None, None]
    assert "signal 9" in rows[2]["error_detail"]
    assert len(calls) >= 2


def test_an_image_that_ended_the_process_once_gets_a_second_chance(model: Model, remote: Remote) -> None:
    chances = [True]

    def kill_once() -> bytes:
        if chances and chances.pop():
            for process in multiprocessing.active_children():
                if process.pid:
                    os.kill(process.pid, signal.SIGKILL)
        return picture(255)

    remote.hooks["once.png"] = kill_once
    with WorkerProcess(model) as lane:
        (row,) = lane.score([Item("once", f"{remote.address}/once.png")])
    assert row.get("error") is None
    assert row["decision"] == "suspicious"


@pytest.mark.ci
def test_an_image_that_hangs_is_given_up(tmp_path: Path, model: Model, remote: Remote) -> None:
    path = fill(tmp_path, 1)[0]

    def hang() -> None:
        time.sleep(30)

    remote.hooks["hang.png"] = hang
    with WorkerProcess(model, timeout=2.0) as lane:
        rows = list(lane.score([Item("hang", f"{remote.address}/hang.png"), *items([path])]))
    assert [row.get("error") for row in rows] == ["timeout", None]
    assert "2 s" in rows[0]["error_detail"]


def test_limits_hold(tmp_path: Path, model: Model) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture(1, side=200))
    with WorkerProcess(replace(model, limits=Limits(max_pixels=20_000))) as lane:
        (row,) = lane.score(items([path]))
    assert row["error"] == "too_many_pixels"


def test_a_model_that_does_not_load_is_told(tmp_path: Path, make_bundle: object) -> None:
    bundle: Path = make_bundle(tmp_path)  # type: ignore[operator]
    model = Model.load(bundle)
    (bundle / "saved_model.pb").write_bytes(b"no graph")
    with WorkerProcess(model) as lane, pytest.raises(WorkerProcessError, match=r"could not be started.*cannot load"):
        list(lane.score([Item("a", "a.png")]))
