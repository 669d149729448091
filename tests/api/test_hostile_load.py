"""Hostile images sent to a real process: its memory stays below 1 GB and falls back to idle, and honest images are answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import hostile_images
from tests.hostile_load import RATE, flood, post, same_memory, service

AT_ONCE = 128
MOST_BYTES = 1_000_000_000
ALLOWED = {200, 413, 415, 422, 503, 504}

pytestmark = [pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")]


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return {name: hostile_images.make(name) for name in hostile_images.ALL}


@pytest.fixture(scope="module")
def running():
    """The service with its shipped settings: its address and its memory."""
    with service() as found:
        yield found


@pytest.fixture(scope="module")
def honest() -> list[bytes]:
    """Images as large as those of a dermatoscope, in the common formats."""
    pixels = hostile_images.soft(600, 450)
    return [hostile_images.opencv(extension, pixels) for extension in (".jpg", ".png", ".webp", ".bmp")]


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")


def test_memory_that_two_processes_share_is_recognised():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not same_memory(os.getpid(), other.pid)
        assert other.stdin is not None
        other.stdin.write(b"\n")
    if not same_memory(os.getpid(), os.getpid()):
        pytest.skip("the system does not say which processes share memory")


@pytest.mark.alone
def test_memory_under_hostile_images_at_once(running, hostile, honest, capsys):
    url, memory = running
    for data in honest * 2:
        assert post(url, data) == 200
    for data in hostile.values():  # the first file of a format loads its library for good; pydicom takes 24 MB
        assert post(url, data) in ALLOWED
    idle = memory.own()
    names = list(hostile)
    batches = [[hostile[names[index % len(names)]]] for index in range(AT_ONCE - 8)]
    small = [data for data in hostile.values() if len(data) < 1_000_000]
    batches += [small[index : index + 3 + index % 4] for index in range(8)]
    with memory.watched():
        answers = flood(url, batches, honest, None)
    after = memory.settled(1.1 * idle)
    figures = f"idle {idle / 1e6:.0f} MB, peak {memory.peak / 1e6:.0f}, afterwards {after / 1e6:.0f}"
    report(capsys, f"{AT_ONCE} at once: {figures}; {answers}")
    assert set(answers.hostile) <= ALLOWED
    assert set(answers.honest) <= {200, 503}  # together the uploads exceed the memory for uploads
    assert memory.peak < MOST_BYTES, figures
    assert after <= 1.1 * idle, figures
    assert post(url, honest[0]) == 200


@pytest.mark.alone
def test_every_honest_image_is_answered_among_hostile_ones_at_the_rate_limit(running, hostile, honest, capsys):
    url, _ = running
    answers = flood(url, [[data] for data in hostile.values()], honest, RATE)
    report(capsys, f"{RATE:g} a second: {answers}")
    assert set(answers.hostile) <= ALLOWED
    assert set(answers.honest) == {200}, answers


@pytest.mark.soak
def test_honest_images_are_answered_soon_for_minutes(running, hostile, honest, capsys):
    """Sends the images that cost decoders the most: valid ones. The target is 2 s on an otherwise idle machine."""
    url, memory = running
    costly = [hostile[name] for name in hostile_images.LEGAL]
    with memory.watched():
        answers = flood(url, [[costly[index % len(costly)]] for index in range(600)], honest, RATE)
    report(capsys, f"two minutes: {answers}, peak {memory.peak / 1e6:.0f} MB")
    assert set(answers.honest) == {200}, answers
    assert answers.slowest < 10
    assert memory.peak < MOST_BYTES
