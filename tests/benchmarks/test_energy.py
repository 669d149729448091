"""Energy in joules from counters that wrap around to 0, are missing, or may not be read."""

from __future__ import annotations

from pathlib import Path

from benchmarks.energy import Energy


def package(folder: Path, number: int, microjoules: int) -> Path:
    counter = folder / f"intel-rapl:{number}"
    counter.mkdir(exist_ok=True)
    (counter / "energy_uj").write_text(f"{microjoules}\n")
    (counter / "max_energy_range_uj").write_text("262143328850\n")
    return counter


def test_joules_of_all_packages(tmp_path: Path) -> None:
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 5_000_000)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0, whose counter includes it
    energy = Energy(tmp_path)
    package(tmp_path, 0, 3_500_000)
    package(tmp_path, 1, 6_000_000)
    assert energy.joules() == 3.5


def test_a_counter_that_started_again_at_0(tmp_path: Path) -> None:
    package(tmp_path, 0, 262_143_000_000)
    energy = Energy(tmp_path)
    package(tmp_path, 0, 671_150)
    assert energy.joules() == 1.0


def test_without_counters_nothing_is_measured(tmp_path: Path) -> None:
    assert Energy(tmp_path).joules() is None
    counter = package(tmp_path, 0, 1)
    energy = Energy(tmp_path)
    (counter / "energy_uj").write_text("Permission denied")
    assert energy.joules() is None
