"""Memory that one step of training frees is kept for the next, on a CPU under glibc.

By itself glibc gives freed memory back to the system as soon as 128 KiB (later: twice the largest piece freed) of it lie at the
end; the next step asks for it again, and the system clears every page anew. That was a thirteenth of a BLD step's time.
"""

from __future__ import annotations

import ctypes
from functools import cache

from puzzledsl.modeling.memory import room_bytes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST_BYTES = 32 << 20
"""The largest piece that glibc lets out of memory of its own, and not of a mapping that goes when it is freed."""
KEPT_BYTES = 256 << 20
"""What a process may keep, freed, beyond what it uses."""
ROOMS = 8
"""Times as much must be free, or what is kept may be what is missed elsewhere."""


@cache
def keep_freed_memory() -> bool:
    """From now on, in this process. False, and nothing changes, where memory is short or the C library cannot be told (it is not
    glibc)."""
    if room_bytes() < ROOMS * KEPT_BYTES:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {M_MMAP_THRESHOLD: LARGEST_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
