"""The memory of this process."""

from __future__ import annotations

import gc
import os
import resource
import sys
from pathlib import Path

_NEW = 10_000
_STATM = Path("/proc/self/statm")


def resident_memory() -> int:
    """Return the bytes in memory now; where the system does not tell, the most there ever were."""
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_program() -> None:
    """Have the garbage collector pass over what is in memory now: the program, which stays.

    Looking through a large one takes a tenth of a second each time. At what is new it looks less
    often: a batch of jobs makes thousands of objects, and most are gone with it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW)
