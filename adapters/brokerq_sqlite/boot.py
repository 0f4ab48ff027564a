"""Which boot of the machine this is: leases are measured on a clock that begins with it."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MINUTE = 60


def boot_id() -> str:
    """Return text that is another after every boot.

    Where the kernel has no such id it is the minute in which the machine was booted, as the two
    clocks tell it: setting the clock by more than that lets leases lapse, once.
    """
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return f"minute {round((time.time() - time.monotonic()) / _MINUTE)}"
