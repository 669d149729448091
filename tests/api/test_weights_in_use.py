"""Somebody truncates or overwrites the weights of a model that is serving: the process goes on, with the same answers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from tests.hostile_images import opencv, soft
from tests.hostile_load import service

IMAGE = opencv(".png", soft(300, 240))


def ask(url: str, model: str) -> httpx.Response:
    return httpx.post(f"{url}/predict", params={"model": model}, files={"file": IMAGE}, timeout=60, trust_env=False)


def answered(url: str) -> object:
    answer = ask(url, "melanoma")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["model"], found["probabilities"], found["malignancy"], found["novelty"]


def weights(models: Path, name: str) -> Path:
    return models / name / "1" / "variables" / "variables.data-00000-of-00001"


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(0)


def overwrite(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.write(b"\xff" * size)


@pytest.mark.parametrize("damage", [truncate, overwrite])
def test_damaged_weights_neither_end_the_process_nor_change_an_answer(damage, tmp_path, make_bundle):
    for name in ("melanoma", "standby"):
        make_bundle(tmp_path, name=name)
    with service(tmp_path, AIDERM_POLL_SECONDS="0.1") as (url, _):
        before = answered(url)
        over = threading.Event()
        answers: list[object] = []

        def keep_asking() -> None:
            while not over.is_set():
                answers.append(answered(url))

        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        for name in ("melanoma", "standby"):
            damage(weights(tmp_path, name))
        seen = len(answers)
        end = time.monotonic() + 60
        while len(answers) < seen + 30 and time.monotonic() < end:
            time.sleep(0.05)
        over.set()
        for thread in threads:
            thread.join()
        assert len(answers) >= seen + 30
        assert all(answer == before for answer in answers)
        refused = ask(url, "standby")
        assert refused.status_code == 503
        assert refused.json()["code"] == "model_unavailable"
        assert answered(url) == before
