"""Reads one lane ahead of the slots, and settles what was read."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from itertools import compress
from random import Random

from brokerq.broker import Consumer, Delivery, Lane, Release, Verdict
from brokerq.errors import BrokerqError, ConnectionLostError

logger = logging.getLogger("brokerq.worker")

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
STEADY = 60.0
"""Seconds that a consumer which was delivered nothing has to last, to count as one that works."""


@dataclass(slots=True, eq=False)
class _Unsettled:
    """Verdicts that wait for their turn; with those before them they are carried out in one."""

    verdicts: Sequence[tuple[Delivery, Verdict]]
    answers: Sequence[bool]


class LaneReader:
    """One consumer of one lane, opened again whenever its connection is lost.

    Attributes:
        buffer: What was delivered and not begun.
        subscribed: Whether there is a consumer now.
        held_up: Whether it does not read for want of room.
        broken: Done when the reading has ended for ever, with what ended it: a bug, never the
            broker.
    """

    def __init__(
        self,
        open_consumer: Callable[[], AbstractAsyncContextManager[Consumer]],
        lane: Lane,
        *,
        what: str | None = None,
        room: Callable[[LaneReader], int],
        on_delivery: Callable[[], None],
        random: Random,
    ) -> None:
        self.lane = lane
        self.buffer: deque[Delivery] = deque()
        self.subscribed = False
        self.held_up = False
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open_consumer = open_consumer
        self._what = what or str(lane)
        self._room = room
        self._on_delivery = on_delivery
        self._random = random
        self._consumer: Consumer | None = None
        self._held: dict[Delivery, Consumer] = {}
        self._unsettled: list[_Unsettled] = []
        self._delivered = False
        self._go = asyncio.Event()
        self._turn = asyncio.Lock()
        self._draining = asyncio.Lock()
        self._receiving: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    def start(self) -> None:
        """Begin to read; harmless where it does."""
        if self._receiving is not None:
            return
        self._receiving = asyncio.create_task(self._read(), name=f"read {self._what}")
        self._receiving.add_done_callback(self._ended)

    def _ended(self, receiving: asyncio.Task[None]) -> None:
        error = None if receiving.cancelled() else receiving.exception()
        if error is not None and not self.broken.done():
            self.broken.set_exception(error)
            self.broken.exception()  # a worker that stops at this moment does not look at it

    def nudge(self) -> None:
        """Say that there may be room again."""
        # Who has nothing looks in any case: a slot may come free before it does.
        if not self.buffer or self._room(self) > 0:
            self._go.set()

    def take(self, count: int) -> list[Delivery]:
        """Remove up to `count` deliveries from the buffer, to be begun."""
        buffer = self.buffer
        return [buffer.popleft() for _ in range(min(count, len(buffer)))]

    async def _read(self) -> None:
        backoff = FIRST_BACKOFF
        loop = asyncio.get_running_loop()
        while True:
            began, self._delivered = loop.time(), False
            try:
                if self._consumer is None:
                    await self._subscribe()
                await self._receive_for_ever()
            except ConnectionLostError as exc:
                self._lost(exc)
            except BrokerqError:
                logger.exception("reading %s failed", self._what)
                self._lost(None)
            await self._unsubscribe()
            # What can be opened need not work.
            if self._delivered or loop.time() - began > STEADY:
                backoff = FIRST_BACKOFF
            await asyncio.sleep(backoff * (0.5 + self._random.random()))
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    async def _subscribe(self) -> None:
        self._consumer = await self._stack.enter_async_context(self._open_consumer())
        self.subscribed = True

    async def _receive_for_ever(self) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - set by _subscribe
        while True:
            room = self._room(self)
            self.held_up = room <= 0
            if self.held_up:
                self._go.clear()
                await self._go.wait()
                continue
            deliveries = await consumer.receive(room)
            self._held.update(dict.fromkeys(deliveries, consumer))
            self._delivered = True
            self.buffer.extend(deliveries)
            self._on_delivery()

    def _lost(self, error: BaseException | None) -> None:
        if error is not None:
            logger.warning("lost the broker while reading %s: %s", self._what, error)
        self.subscribed = False
        self.buffer.clear()

    async def _unsubscribe(self) -> None:
        stack, self._stack = self._stack, AsyncExitStack()
        self.subscribed = False
        self._consumer = None
        self._held.clear()
        try:
            await stack.aclose()
        except BrokerqError as exc:
            logger.debug("closing the consumer of %s: %s", self._what, exc)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        """Carry out the verdicts; False also where the broker cannot be reached.

        Waits for an extension that is under way, so that a delivery is never extended after it was
        given back, and for a settlement: what waits then is settled together.
        """
        mine = _Unsettled(verdicts, [False] * len(verdicts))
        self._unsettled.append(mine)
        async with self._turn:
            if self._unsettled:
                batch, self._unsettled = self._unsettled, []
                await self._settle(batch)
        self.nudge()
        return mine.answers

    async def _settle(self, batch: Sequence[_Unsettled]) -> None:
        consumer, held = self._consumer, self._held
        pairs = [pair for each in batch for pair in each.verdicts]
        current = [held.pop(delivery, None) is consumer for delivery, _ in pairs]
        if consumer is None or not any(current):
            return
        try:
            answers = await consumer.settle(list(compress(pairs, current)))
        except BrokerqError as exc:
            logger.warning("could not settle with %s: %s", self._what, exc)
            return
        left = iter(answers)
        told = [is_current and next(left) for is_current in current]
        for each in batch:
            each.answers, told = told[: len(each.verdicts)], told[len(each.verdicts) :]

    async def extend(self) -> list[Delivery]:
        """Renew the leases of all that is held; return what was lost, the buffer's part removed."""
        async with self._turn:
            consumer = self._consumer
            held = [d for d, source in self._held.items() if source is consumer]
            if consumer is None or not held:
                return []
            try:
                answers = await consumer.extend(held)
            except BrokerqError as exc:
                logger.warning("could not extend leases of %s: %s", self._what, exc)
                return []
            lost = {d for d, ok in zip(held, answers, strict=True) if not ok and d in self._held}
            for delivery in lost:
                del self._held[delivery]
            if lost:
                kept = [d for d in self.buffer if d not in lost]
                self.buffer.clear()
                self.buffer.extend(kept)
        return list(lost)

    async def drain(self) -> None:
        """Stop to read and give back, uncounted, what was not begun. What runs stays held."""
        await self.give_back(but=0)

    async def give_back(self, *, but: int) -> None:
        """Do as `drain` does, but keep the first so many of those that were not begun."""
        async with self._draining:
            kept = self.take(but)
            if self._receiving is not None:
                self._receiving.cancel()
                await asyncio.wait([self._receiving])
                self._receiving = None
            if self.buffer:
                waiting = self.take(len(self.buffer))
                await self.settle([(delivery, Release()) for delivery in waiting])
            held = self._held
            self.buffer.extendleft(each for each in reversed(kept) if each in held)

    async def close(self) -> None:
        """Give back everything that is still held."""
        await self.drain()
        await self._unsubscribe()
