"""Fills free slots from the lanes' buffers, by share."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta

from brokerq.broker import Delivery
from brokerq.engine.intake import Intake
from brokerq.engine.lanes import LaneReader
from brokerq.engine.pace import Pace
from brokerq.engine.run import Run
from brokerq.engine.shares import Shares
from brokerq.errors import OUTAGE

logger = logging.getLogger("brokerq.worker")

AHEAD = 200
UNSETTLED = 500
OUTAGE_BACKOFF = 0.5


class Slots:
    """How many jobs may run, and what may be held ahead of them.

    A lane may hold what its share of the coming third of a lease could start, going by how fast
    jobs are completed now, and at least what is free this moment. Whatever waits in a buffer is
    leased, so holding more would keep it from other workers.

    Attributes:
        active: Runs that were started and have not ended.
        paused: Queues that are not to be read.
        readers: Set once, before `fill`.
    """

    def __init__(
        self,
        intake: Intake,
        shares: Shares,
        *,
        concurrency: int,
        lease: timedelta,
        max_jobs: int | None,
        running: Mapping[str, Run],
        start: Callable[[Sequence[Run]], None],
        ended: Callable[[Sequence[Run]], None],
    ) -> None:
        self.active = 0
        self.paused: Collection[str] = ()
        self.readers: Sequence[LaneReader] = ()
        self._intake = intake
        self._shares = shares
        self._concurrency = concurrency
        self._horizon = lease.total_seconds() / 3
        self._left = max_jobs
        self._running = running
        self._start = start
        self._ended = ended
        self._most_ahead = max(2 * concurrency, AHEAD)
        self._pace = Pace(time.monotonic())
        self._wake = asyncio.Event()
        self._closing = False
        self._admitting = asyncio.Lock()

    @property
    def prefetch(self) -> int:
        """The most that one lane can have unsettled at any time."""
        return self._concurrency + self._most_ahead + UNSETTLED

    @property
    def more_to_come(self) -> bool:
        """Whether something runs or waits here, so that more will be done soon."""
        return self.active > 0 or any(reader.buffer for reader in self.readers)

    @property
    def idle(self) -> bool:
        """Whether nothing is held at all."""
        return (
            not self._running
            and not self._admitting.locked()
            and not any(reader.buffer for reader in self.readers)
        )

    @property
    def spent(self) -> bool:
        """Whether as many jobs were begun as this worker may begin."""
        return self._left is not None and self._left <= 0

    def room(self, reader: LaneReader) -> int:
        """Return how many deliveries the reader may take now; zero: wait to be nudged."""
        if self._closing or reader.lane.queue in self.paused:
            return 0
        free = self._free()
        rate = self._pace.per_second(time.monotonic())
        ahead = min(self._most_ahead, int(rate * self._horizon))
        if self._left is not None:
            ahead = min(ahead, max(0, self._left - free))
        capacity = free + math.ceil(self._shares.share(reader.lane) * ahead)
        room = capacity - len(reader.buffer)
        # Few large reads instead of many small ones, while there is something to do.
        return 0 if reader.buffer and room * 4 < capacity else room

    def _free(self) -> int:
        unsettled = len(self._running) - self.active
        free = min(self._concurrency - self.active, UNSETTLED - unsettled)
        return max(0, free if self._left is None else min(free, self._left))

    def wake(self) -> None:
        """Say that a slot or a delivery may have come free."""
        self._wake.set()

    def leave(self, count: int) -> None:
        """Note that runs have ended: their slots are free."""
        self.active -= count
        self._pace.add(count, time.monotonic())
        self._wake.set()

    async def pause(self, queues: Collection[str]) -> None:
        """Read none of these queues, and all others; what was not begun is given back."""
        before, self.paused = self.paused, frozenset(queues)
        for reader in self.readers:
            queue = reader.lane.queue
            if queue in self.paused and queue not in before:
                await reader.drain()
            elif queue in before and queue not in self.paused and not self._closing:
                reader.start()

    def put_back(self, source: LaneReader, delivery: Delivery) -> None:
        """Have a delivery claimed again."""
        source.buffer.appendleft(delivery)
        self._wake.set()

    async def close(self) -> None:
        """Start nothing more; returns when what is being claimed has been started."""
        self._closing = True
        async with self._admitting:
            pass

    async def fill(self) -> None:
        """Start jobs whenever there is a slot and a delivery; never ends by itself."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._admitting:
                while batch := self._take():
                    await self._admit(batch)
            for reader in self.readers:
                reader.nudge()

    def _take(self) -> list[tuple[LaneReader, Delivery]]:
        free = self._free()
        if self._closing or free <= 0:
            return []
        by_lane = {reader.lane: reader for reader in self.readers}
        available = {lane: len(reader.buffer) for lane, reader in by_lane.items()}
        picked = self._shares.pick(available, free)
        return [
            (by_lane[lane], delivery)
            for lane, count in picked.items()
            for delivery in by_lane[lane].take(count)
        ]

    async def _admit(self, batch: Sequence[tuple[LaneReader, Delivery]]) -> None:
        try:
            start, ended = await self._intake.admit(batch)
        except OUTAGE as exc:
            logger.warning("the store cannot be reached, jobs wait: %s", exc)
            await asyncio.sleep(OUTAGE_BACKOFF)
            return
        self.active += len(start)
        if start:
            self._start(start)
        if ended:
            self._ended(ended)
        if self._left is not None:
            self._left -= len(start) + len(ended)
