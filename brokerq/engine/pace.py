"""How fast jobs are being completed. Pure."""

from __future__ import annotations

import math

SAMPLE = 0.02
SMOOTHING = 1.0


class Pace:
    """A smoothed rate that falls to zero when nothing happens."""

    def __init__(self, now: float) -> None:
        self._rate = 0.0
        self._since = now
        self._count = 0

    def add(self, count: int, now: float) -> None:
        """Note that `count` more were completed by `now` (seconds)."""
        self._count += count
        elapsed = now - self._since
        if elapsed < SAMPLE:
            return
        latest = self._count / elapsed
        weight = 1.0 if self._rate == 0.0 else 1.0 - math.exp(-elapsed / SMOOTHING)
        self._rate += weight * (latest - self._rate)
        self._since = now
        self._count = 0

    def limit(self, rate: float) -> None:
        """Note that of late it was no more than that, whatever it was before.

        After zero, what is completed next counts from what was last.
        """
        self._rate = min(self._rate, rate)

    def per_second(self, now: float) -> float:
        """Return completions a second, as of late."""
        quiet = max(0.0, now - self._since - SMOOTHING)
        return self._rate * math.exp(-quiet / SMOOTHING)
