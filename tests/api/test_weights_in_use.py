"""When the weights of a serving model are truncated or overwritten, the process continues with the same results."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.hostile_images import opencv, soft
from tests.hostile_load import MODELS, service

IMAGE = opencv(".png", soft(300, 240))


def ask(url: str, model: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", params={"model": model}, files={"file": IMAGE}, timeout=60, trust_env=False)


def answered(url: str) -> tuple[str, str, float]:
    """Version, decision and novelty score, which every assessment has."""
    answer = ask(url, "melanoma")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["model"]["version"], found["decision"], found["novelty"]["score"]


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(0)


def overwrite(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.write(b"\xff" * size)


def weights(bundle: Path) -> list[Path]:
    """The weights of the SavedModel, and those of the OpenVINO graph if the bundle has one."""
    return [file for name in ("variables/variables.data-*", "openvino.bin") for file in bundle.glob(name)]


@pytest.mark.parametrize("damage", [truncate, overwrite])
@pytest.mark.ci
def test_damaged_weights_neither_end_the_process_nor_change_an_answer(damage, tmp_path, make_bundle):
    shutil.copytree(MODELS / "melanoma", tmp_path / "melanoma")  # its weights fill many memory pages
    served = tmp_path / "melanoma" / (tmp_path / "melanoma" / "SERVING").read_text("utf-8").split()[0]
    standby = make_bundle(tmp_path, name="binary", classes=2)
    with service(tmp_path, AIDERM_POLL_SECONDS="0.1") as (url, _):
        before = answered(url)
        over, answers = threading.Event(), []

        def keep_asking() -> None:
            while not over.is_set():
                answers.append(answered(url))

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(keep_asking) for _ in range(3)]
            try:
                for bundle in (served, standby):
                    for file in weights(bundle):
                        damage(file)
                seen, end = len(answers), time.monotonic() + 120
                while len(answers) < seen + 12 and time.monotonic() < end and not any(each.done() for each in asking):
                    time.sleep(0.05)
            finally:
                over.set()
        for each in asking:
            each.result()
        assert len(answers) >= seen + 12
        for version, decision, novelty in answers:
            assert (version, decision) == before[:2]
            assert novelty == pytest.approx(before[2], rel=1e-3)  # different graphs compute one image and several at once
        refused = ask(url, "binary")
        assert (refused.status_code, refused.json()["code"]) == (503, "no_model")
        assert answered(url)[:2] == before[:2]
