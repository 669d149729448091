"""Names the processor on which a result was measured."""

from __future__ import annotations

import platform
from pathlib import Path


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor, with family and model where Linux gives them: in virtual machines, generations share a name.

    Args:
        cpuinfo: Linux's description of the processors.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor()
    first: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        first.setdefault(key.strip(), value.strip())
    name = first.get("model name", platform.machine())
    return f"{name} (family {first['cpu family']}, model {first['model']})" if {"cpu family", "model"} <= first.keys() else name
