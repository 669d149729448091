"""Many requests: memory stays flat, and overload does not reduce the throughput. Run by `make soak`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from benchmarks.serving import load
from benchmarks.serving.images import write
from benchmarks.serving.subjects import Subject

MODELS = Path(__file__).parents[2] / "models"
REQUESTS = int(os.environ.get("AIDERM_SOAK_REQUESTS", "100000"))
PART_SECONDS = 60.0
MOST_MEGABYTES = 500  # includes the 100 of its libraries' files; half of the limit for hostile images


@pytest.fixture
def pictures(tmp_path):
    return write(tmp_path, kinds=["600x450"])["600x450"]


@pytest.fixture
def shipped(tmp_path, pictures):
    subject = Subject(
        "this API",
        [sys.executable, "-m", "aiderm_api"],
        {"AIDERM_MODELS_DIR": str(MODELS), "AIDERM_PORT": "{port}", "AIDERM_LOG_FORMAT": "json", "AIDERM_LOG_LEVEL": "warning"},
    )
    subject.start(pictures[0].read_bytes(), tmp_path / "log")
    yield subject
    subject.stop()


def resident(subject: Subject) -> float:
    """The resident memory of the process, in megabytes."""
    status = Path(f"/proc/{subject.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.soak
def test_memory_is_flat_over_many_requests(shipped, pictures):
    answered, sizes = 0, []
    shipped.measure(pictures, 32, PART_SECONDS)  # warms up the allocator
    while answered < REQUESTS:
        found = shipped.measure(pictures, 32, PART_SECONDS)
        assert found["broken"] == 0
        assert set(found["statuses"]) == {"200"}
        answered += found["answered"]
        sizes.append(resident(shipped))
    assert max(sizes) <= MOST_MEGABYTES
    third = max(1, len(sizes) // 3)
    early, late = sum(sizes[:third]) / third, sum(sizes[-third:]) / third
    assert late <= 1.02 * early, sizes


@pytest.mark.soak
def test_overload_costs_nothing_of_what_fits(shipped, pictures):
    peak = shipped.measure(pictures, 32, PART_SECONDS)
    rate = peak["answered"] / peak["seconds"]
    flood = shipped.measure(pictures, 256, PART_SECONDS, rate=2 * rate)
    assert flood["broken"] == 0
    assert set(flood["statuses"]) <= {"200", "503"}
    assert flood["statuses"].get("503", 0) > 0
    assert flood["answered"] / flood["seconds"] >= 0.8 * rate  # only detects a collapse; the benchmark reports the figure
    refused = sorted(flood["refused"])
    assert refused[len(refused) // 2] <= 1000


def test_the_load_tells_answers_from_refusals(service, pictures):
    """Runs the benchmark's client against a real server for a few requests."""
    subject = Subject("service", [], port=service.port)
    for seconds in (1.0, 10.0, 60.0):  # on a busy machine the first period may see no response
        found = subject.measure(pictures, 3, seconds)
        if found["answered"]:
            break
    assert found["broken"] == 0
    assert set(found["statuses"]) == {"200"}
    assert found["answered"] == len(found["milliseconds"]) > 0
    missing = load.request("/nothing", pictures[0].read_bytes())
    assert asyncio.run(load.ask_once(service.port, missing)) == 404
    assert asyncio.run(load.ask_once(1, missing)) is None  # nothing listens on this port
