"""Fills free slots from the lanes' buffers, by share."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from brokerq.broker import Delivery
from brokerq.engine.backlog import Backlog
from brokerq.engine.intake import Intake
from brokerq.engine.lanes import LaneReader
from brokerq.engine.pace import Pace
from brokerq.engine.run import Run
from brokerq.engine.shares import Shares
from brokerq.errors import OUTAGE
from brokerq.outcome import Interrupted

logger = logging.getLogger("brokerq.worker")

AHEAD = 200
UNSETTLED = 500
OUTAGE_BACKOFF = 0.5
EARLY = 0.02
"""So many seconds before its slot will be free, as things go, a job may be claimed."""
MOST_EARLY = 100
MOMENT = 0.02
"""Seconds for a lane to read what is there."""
STALLED = 0.05
"""Seconds after which it is looked, again and again, whether such a job still waits."""


class Slots:
    """How many jobs may run, and what may be held ahead of them.

    A lane may hold what its share of the coming third of a lease could start, going by how fast
    jobs are completed now, and at least what is free this moment. Whatever waits in a buffer is
    leased, so holding more would keep it from other workers; and so what is more than twice as much
    as was begun in such a time is given back, as when jobs suddenly take much longer.

    While jobs end by the hundreds a second, a claim for a free slot is also one for those that come
    free in the next milliseconds: few large claims instead of many small ones, and hardly a slot
    waits for the store. What then does not begin soon after all is put back, unclaimed. Lost with
    the worker, these jobs are not blamed for it; so that this happens once, only what was never
    delivered before is claimed early.

    Attributes:
        active: Runs that were claimed to be run, and have not ended.
        paused: Queues that are not to be read.
        readers: Set once, before `fill`.
    """

    def __init__(
        self,
        intake: Intake,
        shares: Shares,
        *,
        concurrency: int,
        backlog: Backlog,
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
        self._backlog = backlog
        self._looking: asyncio.TimerHandle | None = None
        self._horizon = lease.total_seconds() / 3
        self._left = max_jobs
        self._running = running
        self._start = start
        self._ended = ended
        self._most_ahead = max(2 * concurrency, AHEAD)
        self._pace = Pace(time.monotonic())
        self._ends = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._admitting = asyncio.Lock()

    @property
    def prefetch(self) -> int:
        """The most that one lane can have unsettled at any time."""
        return self._concurrency + MOST_EARLY + self._most_ahead + UNSETTLED

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
        return self._left is not None and self._left <= 0 and not self._backlog

    def room(self, reader: LaneReader) -> int:
        """Return how many deliveries the reader may take now; zero: wait to be nudged."""
        if not self._may_read(reader):
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

    def _may_read(self, reader: LaneReader) -> bool:
        return not self._closing and reader.lane.queue not in self.paused

    @property
    def _slots(self) -> int:
        """How many slots are free; negative while more is claimed than there are."""
        return self._concurrency - self.active

    def _free(self) -> int:
        """Return how many jobs may be claimed now: while all slots are taken, none."""
        if self._slots <= 0:
            return 0
        unsettled = len(self._running) - self.active
        free = min(max(self._slots, self._soon()), UNSETTLED - unsettled)
        return max(0, free if self._left is None else min(free, self._left))

    def _soon(self) -> int:
        """Return how many slots will have come free some milliseconds from now, as things go."""
        return min(MOST_EARLY, int(self._pace.per_second(time.monotonic()) * EARLY))

    def wake(self) -> None:
        """Say that a slot or a delivery may have come free."""
        self._wake.set()

    def leave(self, count: int) -> None:
        """Note that runs have ended: their slots are free."""
        self.active -= count
        self._ends += count
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

    async def give_back_what_waits(self) -> None:
        """Give back what was read too far ahead, again and again; never ends by itself."""
        while True:
            before = self._ends
            await asyncio.sleep(self._horizon)
            ended = self._ends - before
            if self._slots > 0:
                continue
            if not ended:
                self._pace.limit(0)
            for reader in self.readers:
                most = 2 * math.ceil(self._shares.share(reader.lane) * ended)
                if len(reader.buffer) > most and self._may_read(reader):
                    self._pace.limit(ended / self._horizon)  # or it would be read again
                    await reader.give_back(but=most)
                    if self._may_read(reader):
                        reader.start()

    def put_back(self, source: LaneReader, delivery: Delivery) -> None:
        """Have a delivery claimed again."""
        source.buffer.appendleft(delivery)
        self._wake.set()

    async def close(self) -> None:
        """Start nothing more, and give back what was claimed too early to have begun."""
        self._closing = True
        async with self._admitting:
            self._give_back(self._backlog.take_all())
        if self._looking is not None:
            self._looking.cancel()

    async def fill(self) -> None:
        """Start jobs whenever there is a slot and a delivery; never ends by itself."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._admitting:
                await self._let_all_read()
                while batch := self._take():
                    await self._admit(batch)
            for reader in self.readers:
                reader.nudge()

    async def _let_all_read(self) -> None:
        """Give lanes that could not read until now, as no slot was free, a moment to do so.

        Else, where jobs are so slow that next to nothing is read ahead, a slot would go to what
        another lane has left over from the last time, however much more urgent these lanes are.
        """
        if self._free() <= 0 or self._soon():
            return
        late = [reader for reader in self.readers if self._is_late(reader)]
        if not late or not any(reader.buffer for reader in self.readers if reader not in late):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                while any(len(reader.buffer) < self._free() for reader in late):
                    for reader in late:
                        reader.nudge()
                    self._wake.clear()
                    await self._wake.wait()

    def _is_late(self, reader: LaneReader) -> bool:
        return reader.held_up and len(reader.buffer) < self._free() and self._may_read(reader)

    def _take(self) -> list[tuple[LaneReader, Delivery]]:
        free = self._free()
        if self._closing or free <= 0:
            return []
        by_lane = {reader.lane: reader for reader in self.readers}
        available = {lane: len(reader.buffer) for lane, reader in by_lane.items()}
        # A slot that is free is anybody's; those that will be are divided fairly, or not yet.
        slots = self._slots
        fair = max(slots, self._shares.most_fair(available))
        picked = self._shares.pick(available, min(free, fair))
        sources = [(by_lane[lane], count) for lane, count in picked.items()]
        taken = [(source, each) for source, count in sources for each in source.take(count)]
        return [*taken[:slots], *_never_delivered_before(taken[slots:])]

    async def _admit(self, batch: Sequence[tuple[LaneReader, Delivery]]) -> None:
        try:
            start, ended = await self._intake.admit(batch, slots=self._slots)
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
        if self._slots < 0 and self._looking is None:
            self._look_again()

    def _look_again(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(STALLED, self._look)

    def _look(self) -> None:
        """Give back what was claimed early, if that was too early."""
        self._looking = None
        stalled = self._backlog.take_stalled()
        if stalled:
            self._pace.limit(0)
            self._give_back(stalled)
        elif self._backlog:
            self._look_again()

    def _give_back(self, runs: Sequence[Run]) -> None:
        for run in runs:
            run.outcome = Interrupted()
        self.active -= len(runs)
        if self._left is not None:
            self._left += len(runs)
        if runs:
            self._ended(runs)


def _never_delivered_before(
    taken: Sequence[tuple[LaneReader, Delivery]],
) -> list[tuple[LaneReader, Delivery]]:
    """Return these, and put the others back in front of their buffers."""
    new: list[tuple[LaneReader, Delivery]] = []
    others: list[tuple[LaneReader, Delivery]] = []
    for each in taken:
        (new if is_new(each[1]) else others).append(each)
    for source, delivery in reversed(others):
        source.buffer.appendleft(delivery)
    return new


def is_new(delivery: Delivery) -> bool:
    """Tell whether it is a first delivery, and no copy of one that has lost a worker."""
    return delivery.count == 1 and "bq-crashes" not in delivery.message.headers
