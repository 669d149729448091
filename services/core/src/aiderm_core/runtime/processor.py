"""Detects what the processor of this machine can do."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_INTEGER_UNITS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def has_integer_units(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor multiplies 8-bit integers faster than floats, without saturating (VNNI, AMX).

    The answer is no where the system does not tell, for example outside Linux.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not _INTEGER_UNITS.isdisjoint(flags)
