"""Measures the energy of the processor packages, if Linux lets Intel's and AMD's counters (RAPL) be read."""

from __future__ import annotations

from pathlib import Path

COUNTERS = Path("/sys/class/powercap")


class Energy:
    """Joules of all processor packages since this object was created.

    Args:
        counters: folder of the counters; a machine without any, or without permission to read them, measures nothing.
    """

    def __init__(self, counters: Path = COUNTERS) -> None:
        self._packages = sorted(counters.glob("intel-rapl:[0-9]"))
        self._start = [_microjoules(package, "energy_uj") for package in self._packages]

    def joules(self) -> float | None:
        """Joules so far; None if no counter can be read. A counter may have wrapped around to 0 once."""
        total = 0
        for package, before in zip(self._packages, self._start, strict=True):
            now, most = _microjoules(package, "energy_uj"), _microjoules(package, "max_energy_range_uj")
            if before is None or now is None:
                return None
            total += now - before if now >= before else now - before + (most or 0)
        return total / 1e6 if self._packages else None


def _microjoules(package: Path, name: str) -> int | None:
    try:
        return int((package / name).read_text())
    except (OSError, ValueError):
        return None
