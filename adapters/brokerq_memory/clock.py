"""A clock that stands still until it is told to move: for tests, and for demonstrations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from brokerq.clock import Clock
from brokerq.duration import ZERO

_START = datetime(2030, 1, 1, tzinfo=UTC)
# Above zero, which means "never" in records.
_START_MONOTONIC = 1_000


class VirtualClock(Clock):
    """Begins at one fixed instant, and moves only by `advance`; usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed = ZERO
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return _START + self._passed

    def monotonic(self) -> float:
        return _START_MONOTONIC + self._passed.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Let time pass, all of it at once, and tell the listeners when it has.

        Raises `ValueError` if `by` is negative.
        """
        if by < ZERO:
            raise ValueError(f"a clock cannot go back, got {by}")
        with self._lock:
            self._passed += by
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every `advance`, in the thread that advanced."""
        with self._lock:
            self._listeners.append(listener)
