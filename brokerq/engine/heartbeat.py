"""Keeps the leases of everything that a worker holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from random import Random

from brokerq.clock import Clock
from brokerq.engine.lanes import LaneReader
from brokerq.engine.run import Ending, Run
from brokerq.errors import BrokerqError
from brokerq.record import Hold
from brokerq.store import Holding, Jobs

logger = logging.getLogger("brokerq.worker")


class Heartbeat:
    """Renews leases at a third of their time: a lane's in one call, the store's in another.

    What was lost in the store is made to end: its verdict would be refused. A delivery that was
    lost in the broker is not: the record is what counts, and where there is none, the effect of the
    second run cannot be prevented by stopping the first late.
    """

    def __init__(
        self,
        readers: Sequence[LaneReader],
        store: Jobs | None,
        *,
        owner: str,
        lease: timedelta,
        renewals: int,
        running: Mapping[str, Run],
        end: Callable[[Sequence[Run], Ending], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self._readers = readers
        self._store = store
        self._owner = owner
        self._lease = lease
        self._interval = lease.total_seconds() / renewals
        self._running = running
        self._end = end
        self._clock = clock
        self._random = random

    async def beat_for_ever(self) -> None:
        """Renew again and again, each lane and the store by itself; never ends by itself.

        A lane whose broker does not answer must not cost the others, or the store, their leases.
        """
        async with asyncio.TaskGroup() as loops:
            for renew in (self._renew, *(reader.extend for reader in self._readers)):
                loops.create_task(self._repeat(renew))

    async def _repeat(self, renew: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(self._interval * (0.8 + 0.2 * self._random.random()))
            await renew()

    async def _renew(self) -> None:
        runs = [run for run in self._running.values() if run.recorded]
        if self._store is None or not runs:
            return
        holdings = [
            Holding(id=run.head.id, owner=self._owner, fence=run.claimed.fence) for run in runs
        ]
        held_until = self._clock.monotonic() + self._lease.total_seconds()
        try:
            answers = await self._store.renew(holdings, lease=self._lease)
        except BrokerqError as exc:
            logger.warning("could not renew the leases of %d jobs: %s", len(runs), exc)
            return
        for run, hold in zip(runs, answers, strict=True):
            if hold is not Hold.LOST:
                run.held_until = held_until
        lost = [run for run, hold in zip(runs, answers, strict=True) if hold is Hold.LOST]
        cancelled = [
            run for run, hold in zip(runs, answers, strict=True) if hold is Hold.CANCEL_REQUESTED
        ]
        # A run whose outcome is known has been, or is being, recorded: it may be "lost" by that.
        self._end([run for run in lost if run.outcome is None], Ending.LOST)
        self._end(cancelled, Ending.CANCELLED)
