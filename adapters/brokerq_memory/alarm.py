"""One real timer per queue, for the next thing that becomes due there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf


class Alarm:
    """Calls back, under the lock and on the event loop of whoever armed it, when its time comes."""

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self._lock = lock
        self._at = inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def is_later(self, at: float) -> bool:
        """Tell whether the alarm would miss `at`."""
        return at < self._at or self._loop is None or self._loop.is_closed()

    def arm(self, at: float, now: float, on_time: Callable[[], None]) -> None:
        """Call back at `at` instead."""
        loop = asyncio.get_running_loop()
        self.disarm(loop)
        self._at, self._loop = at, loop
        self._timer = loop.call_later(max(0.0, at - now), self._ring, at, on_time)

    def disarm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget the time if it is that loop's to keep.

        The timer of another loop cannot be cancelled from here; it will ring for nothing.
        """
        if self._loop is loop and self._timer is not None:
            self._timer.cancel()
            self._at, self._timer = inf, None

    def _ring(self, at: float, on_time: Callable[[], None]) -> None:
        with self._lock:
            if at == self._at:
                self._at, self._timer = inf, None
            on_time()
