"""How a consumer sleeps until there may be something for it."""

from __future__ import annotations

import asyncio
from math import inf


class LaneBell:
    """Rung for every message in a lane, now or to be due; one task waits for it.

    `slack` is the seconds by which a timer is late on purpose: the clock of the due times is not
    the event loop's, and early is for nothing.
    """

    def __init__(self, *, slack: float) -> None:
        self._slack = slack
        self._at = inf
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def clear(self) -> None:
        """Forget what was rung: what it was about is about to be seen."""
        self._at = inf

    def ring(self, seconds: float) -> None:
        """End the wait after that time, at once if it is zero."""
        at = asyncio.get_running_loop().time() + seconds
        if at >= self._at:
            return
        self._at = at
        if self._waiter is not None:
            self._arm(at)

    async def wait(self, timeout: float) -> None:
        """Wait until something is due that was rung since `clear`, at most for `timeout` seconds.

        May end earlier, and later only by the slack.
        """
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        try:
            self._arm(min(self._at, loop.time() + timeout))
            await self._waiter
        finally:
            self._waiter = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _arm(self, at: float) -> None:
        """Wake then, or earlier if that was so already."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        loop = waiter.get_loop()
        if at <= loop.time():
            waiter.set_result(None)
            return
        at += self._slack
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._wake)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
