"""How a consumer sleeps until there may be something for it."""

from __future__ import annotations

import asyncio

from brokerq.clock import Clock
from brokerq_sqlite.wire import FAR, to_micros

_SLACK = 0.0005
"""Seconds by which a timer is late on purpose: the clocks differ, and early is for nothing."""


class LaneBell:
    """Rung for every message in a lane, now or to be due; one task waits for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due = FAR
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def clear(self) -> None:
        """Forget what was rung: what it was about is about to be seen."""
        self._due = FAR

    def ring(self, due: int) -> None:
        """End the wait when a message is due, at once if that is past."""
        if due >= self._due:
            return
        self._due = due
        if self._waiter is not None:
            self._arm(self._seconds_until(due))

    async def wait(self, timeout: float) -> None:
        """Wait until something is due that was rung since `clear`, at most for `timeout` seconds.

        May end earlier, never later.
        """
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            if self._due < FAR:
                timeout = min(timeout, self._seconds_until(self._due))
            self._arm(timeout)
            await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _seconds_until(self, due: int) -> float:
        return (due - to_micros(self._clock.now())) / 1e6

    def _arm(self, seconds: float) -> None:
        """Wake after that time, or earlier if that was so already."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if seconds <= 0:
            waiter.set_result(None)
            return
        loop = waiter.get_loop()
        at = loop.time() + seconds + _SLACK
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._wake)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
