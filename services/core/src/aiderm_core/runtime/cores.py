"""Counts the cores that this process may use, within its CPU affinity and cgroup."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """The number of cores that CPU affinity and the container's quota allow this process to use; at least 1.

    A container with a quota of two cores on a machine with 64 still sees 64; that many threads would block each other.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, round(quota)))


def _quota(cgroup: Path) -> float | None:
    """The CPU quota of cgroup v2 or v1 in cores; None if there is no quota."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not limit.isdecimal() or not period.isdecimal() or int(period) == 0:  # "max", or -1
        return None
    return int(limit) / int(period)
