"""Waiting on one event loop for what may be done on another, in another thread."""

from __future__ import annotations

import asyncio


class Waiter:
    """One wait, on the loop that it was made on."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def wake(self, running: asyncio.AbstractEventLoop | None) -> bool:
        """End the wait; False where its loop is closed, so that nobody waits any more."""
        if self._loop is running:
            self._end()
            return True
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:  # what asyncio raises for a closed loop
            return False
        return True

    def _end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Bell:
    """Wakes who waits, the longest waiting first. Guarded by the lock of the state it is in."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: dict[Waiter, None] = {}

    def join(self) -> Waiter:
        """Wait from now on: await the waiter's future, without the lock."""
        waiter = Waiter()
        self.waiters[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Stop waiting; False where the bell has rung for this waiter already."""
        if waiter not in self.waiters:
            return False
        del self.waiters[waiter]
        return True

    def ring(self, count: int = 1) -> None:
        """Wake up to `count` waiters; each then looks for itself, and may wait again."""
        if not self.waiters:
            return
        running = running_loop()
        while count > 0 and self.waiters:
            waiter = next(iter(self.waiters))
            del self.waiters[waiter]
            if waiter.wake(running):
                count -= 1

    def ring_all(self) -> None:
        """Wake everybody."""
        self.ring(len(self.waiters))


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that this thread runs, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
