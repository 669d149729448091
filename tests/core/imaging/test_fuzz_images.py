"""Mutated images of every format: no crash, no hang, no leak; each is decoded or refused with a known code."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("fuzz_images.py")
MEGABYTE = 1_000_000


def fuzz(first: int, count: int, report: Path, seconds: float, *kind: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(first), str(count), str(report), *kind]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONFAULTHANDLER": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not done in {seconds} s; at mutation {report.read_text().strip()}")
    if done.returncode != 0:
        seed = report.read_text().strip() if report.exists() else "none yet"
        pytest.fail(
            f"exit {done.returncode} (negative: the signal; -27: beyond the deadline) at mutation {seed}; repeat it with "
            f"python tests/core/imaging/fuzz_images.py {seed} 1 report.json\n{done.stderr[-4000:]}"
        )
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def hold(found: dict[str, Any], count: int) -> None:
    answers, memory = found["answers"], found["memory"]
    assert sum(answers.values()) == count
    # The mutations reach the decoders: some images still decode, and each kind of refusal occurs.
    assert answers["decoded"] > count / 20
    for code in ("undecodable", "truncated", "unsupported_type", "too_many_pixels"):
        assert answers[code] > 0, code
    assert memory["peak"] - memory["start"] < 150 * MEGABYTE, memory


def test_a_fixed_sample_of_mutations(tmp_path: Path) -> None:
    hold(fuzz(0, 600, tmp_path / "report.json", 300), 600)


def hold_dicom(found: dict[str, Any], count: int) -> None:
    answers, memory = found["answers"], found["memory"]
    assert sum(answers.values()) == count
    assert answers["decoded"] > count / 20
    for code in ("undecodable", "truncated"):
        assert answers[code] > 0, code
    assert memory["peak"] - memory["start"] < 150 * MEGABYTE, memory
    assert memory["decoders"] < 500 * MEGABYTE, memory


def test_a_fixed_sample_of_mutated_dicom_files(tmp_path: Path) -> None:
    hold_dicom(fuzz(0, 200, tmp_path / "report.json", 300, "dicom"), 200)


@pytest.mark.soak
def test_ten_thousand_mutated_dicom_files(tmp_path: Path) -> None:
    found = fuzz(0, 10_000, tmp_path / "report.json", 3000, "dicom")
    sys.stdout.write(json.dumps(found))
    hold_dicom(found, 10_000)


def test_a_mutation_is_the_same_every_time() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_images", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = [b"abcdefgh" * 50, b"12345678" * 60]
    assert [module.mutated(files, seed) for seed in range(50)] == [module.mutated(files, seed) for seed in range(50)]
    assert len({module.mutated(files, seed) for seed in range(50)}) > 45


def test_a_crash_is_reported_with_its_mutation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Replaces the JPEG decoder by one that aborts on a file without the usual marker.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom aiderm_core.imaging.decoders import jpeg\nwhole = jpeg.samples_of\n"
        "usual = lambda data: b'JFIF' in data[:20] or b'Adobe' in data\n"
        "jpeg.samples_of = lambda data, *rest, **named: whole(data, *rest, **named) if usual(data) else os.abort()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"exit -6 .* at mutation \d+"):
        fuzz(0, 3000, tmp_path / "report.json", 120)


@pytest.mark.soak
def test_a_hundred_thousand_mutations(tmp_path: Path) -> None:
    count = int(os.environ.get("AIDERM_FUZZ_MUTATIONS", "100000"))
    found = fuzz(1_000_000, count, tmp_path / "report.json", 3600)
    hold(found, count)
    grown = found["memory"]["end"] - found["memory"]["settled"]
    assert grown < 20 * MEGABYTE, found["memory"]
