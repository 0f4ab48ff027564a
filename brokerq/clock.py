"""Time, passed in: the wall clock for due times, a monotonic one for leases."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Where an app, and the adapters it opens, read the time."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC. It may jump."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return seconds that never go back, and go on while the machine sleeps if it can tell.

        All processes on one host see the same value until the next boot.
        """


class SystemClock(Clock):
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the system's time; it jumps when somebody sets it."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since boot; on Linux suspension counts."""
        return _monotonic()


_monotonic: Callable[[], float]
if hasattr(time, "CLOCK_BOOTTIME"):  # Linux: also counts suspension, unlike CLOCK_MONOTONIC
    _monotonic = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    _monotonic = time.monotonic
