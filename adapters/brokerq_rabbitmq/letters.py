"""Reads queues of dead letters from end to end, and leaves them as they were.

A quorum queue has no cursor: who wants to look takes messages, and what is given back goes behind
all that was given back before. So a walk takes everything, page by page, holds it (the broker keeps
the bodies, here is one page), and gives it back in the order in which it came. A walk that ends
early still takes the rest, for the order's sake. One walk at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

from brokerq.errors import ConnectionLostError, RefusedError
from brokerq_rabbitmq.client import Channel, Link
from brokerq_rabbitmq.errors import LOCKED, ChannelRefusedError
from brokerq_rabbitmq.returning import Steps
from brokerq_rabbitmq.wire import Received

PAGE = 600
"""Messages that one channel holds: so many go back in fewer steps than the broker makes one of."""
_MOST_CHANNELS = 1_000
_LOCK_PATIENCE = 30.0
_LOCK_PAUSE = 0.2
_PATIENCE = 30.0
_DOUBT = 0.5
"""Seconds of silence after which a page asks whether there is more to come."""
_LOOK = 0.005
_AT_ONCE = 30
_SETTLED = 0.02
"""Seconds after which the broker's channel has learnt what its queue has done."""


@asynccontextmanager
async def walking(
    link: Link, queues: Sequence[str], *, lock: str, mutex: asyncio.Lock, random: Random
) -> AsyncGenerator[Sequence[Walk]]:
    """Be the only one to walk the queues, over all tasks (by the mutex) and processes.

    A queue that is exclusive to a connection is one that no other can declare; the broker removes
    it when the connection ends. Raises `RefusedError` after half a minute.
    """
    try:
        async with asyncio.timeout(_LOCK_PATIENCE):
            await mutex.acquire()
    except TimeoutError:
        raise _too_long() from None
    try:
        channel = await _lock(link, lock, random)
        walks = [Walk(link, queue) for queue in queues]
        try:
            yield walks
        finally:
            with suppress(ConnectionLostError):  # then the broker has given everything back
                await _part(walks, channel, lock)
    finally:
        mutex.release()


async def _part(walks: Sequence[Walk], channel: Channel, lock: str) -> None:
    """Finish the walks and let others begin: each step whatever becomes of those before it."""
    async with AsyncExitStack() as steps:
        steps.push_async_callback(channel.close)
        steps.push_async_callback(channel.delete_queue, lock)
        for walk in reversed(walks):
            steps.push_async_callback(walk.finish)


async def _lock(link: Link, lock: str, random: Random) -> Channel:
    loop = asyncio.get_running_loop()
    until = loop.time() + _LOCK_PATIENCE
    while True:
        channel = await link.channel()
        try:
            await channel.lock(lock)
        except ChannelRefusedError as exc:
            if exc.code != LOCKED:
                raise
            if loop.time() > until:
                raise _too_long() from exc
            await asyncio.sleep(_LOCK_PAUSE * (0.5 + random.random()))
        except BaseException:
            with suppress(ConnectionLostError):
                await asyncio.shield(_part([], channel, lock))  # the broker may have made it
            raise
        else:
            return channel


def _too_long() -> RefusedError:
    return RefusedError(
        "somebody else has been reading these dead letters for half a minute: try again"
    )


class Walk:
    """One pass over a queue."""

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue
        self._pages: list[_Page] = []
        self._size = PAGE
        self._alone = True
        self._finished = False

    async def next(self) -> Received | None:
        """Return the next message, the oldest first; None: there is none left."""
        received = await self._pages[-1].next() if self._pages else None
        if received is None:
            channel = await self._link.channel()
            if not self._pages:
                count, consumers = await channel.count(self._queue)
                self._size = max(PAGE, count // _MOST_CHANNELS)
                self._alone = not consumers
            page = _Page(channel, self._queue)
            self._pages.append(page)
            received = await page.begin(self._size)
        return received

    def remove(self) -> None:
        """Have the message that `next` has just returned removed, for good, when all is read."""
        self._pages[-1].steps.remove_last()

    async def finish(self) -> None:
        """Take what is left, and give everything back in order.

        Raises `ConnectionLostError`; then everything is given back by the broker, removed or not,
        in whatever order. Twice is harmless.
        """
        if self._finished:
            return
        self._finished = True
        try:
            while await self.next() is not None:
                pass
            returned = 0
            for page in self._pages:
                returned = await page.give_back(returned, alone=self._alone)
        finally:
            for page in self._pages:
                await page.channel.close()


class _Page:
    """Some messages in a row, on a channel of their own."""

    def __init__(self, channel: Channel, queue: str) -> None:
        self.channel = channel
        self.steps = Steps()
        self._queue = queue
        self._due = 0
        self._consuming = False
        self._arrived: deque[Received] = deque()
        self._bell = asyncio.Event()
        self._lost: BaseException | None = None
        channel.on_end(self._end)

    async def begin(self, size: int) -> Received | None:
        """Take one message, which tells how many more there are, and have those sent."""
        got = await self.channel.get(self._queue)
        if got is None:
            return None
        received, left = got
        self.steps.keep(received.tag)
        self.steps.cut()  # what one consumer was sent goes back by itself
        self._due = min(left, size)
        if self._due:
            self._consuming = True
            await self.channel.consume(
                self._queue,
                tag="brokerq-walk",
                prefetch=self._due,
                on_message=self._push,
                on_cancel=self._end,
            )
        return received

    async def next(self) -> Received | None:
        """Return the next message; None: the page ends here.

        Raises `ConnectionLostError`, also where the broker has more and does not send it.
        """
        await self._until_arrived()
        if not self._due:
            return None
        self._due -= 1
        received = self._arrived.popleft()
        self.steps.keep(received.tag)
        if not self._due:
            await self._stop()
        return received

    async def _until_arrived(self) -> None:
        """Wait for a message, or until there are none: somebody else has taken what was left."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while self._due and not self._arrived:
            if self._lost is not None:
                raise ConnectionLostError(str(self._lost)) from self._lost
            self._bell.clear()
            try:
                async with asyncio.timeout(_DOUBT):
                    await self._bell.wait()
            except TimeoutError:
                ready, _ = await self.channel.count(self._queue)
                if not ready:
                    await self._stop()
                    self._due = len(self._arrived)
                elif loop.time() > until:
                    why = f"RabbitMQ does not send the {ready} messages that are left in"
                    raise ConnectionLostError(f"{why} {self._queue}") from None

    async def _stop(self) -> None:
        """Have no more sent; what has come is the page's."""
        if self._consuming:
            self._consuming = False
            await self.channel.cancel("brokerq-walk")

    def _push(self, received: Received) -> None:
        self._arrived.append(received)
        self._bell.set()

    def _end(self, error: BaseException) -> None:
        self._lost = error
        self._bell.set()

    async def give_back(self, returned: int, *, alone: bool) -> int:
        """Give back what is kept; return how many are now, with those given back before.

        `alone`: nobody else takes them at once, so that they can be waited for.
        """
        for number, step in enumerate(self.steps, 1):
            if step.keep:
                self.channel.nack(step.tag, multiple=True)
                returned += step.size
            else:
                self.channel.ack(step.tag, multiple=True)
            if alone and number % _AT_ONCE == 0:
                await self._until_ready(returned)
                await asyncio.sleep(_SETTLED)
        if alone:
            await self._until_ready(returned)
        return returned

    async def _until_ready(self, wanted: int) -> None:
        """Wait until the broker has taken back so many."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        ready, _ = await self.channel.count(self._queue)
        while ready < wanted and loop.time() < until:
            await asyncio.sleep(_LOOK)
            ready, _ = await self.channel.count(self._queue)
