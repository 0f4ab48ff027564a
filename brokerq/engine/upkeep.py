"""What some worker has to do now and then: pauses, retention, redrives that were left half done."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import cast

from brokerq.broker import Broker, DeadLetters
from brokerq.catalogue import LetterFilter
from brokerq.engine.late import LateRecords
from brokerq.errors import BrokerqError, UnknownQueueError
from brokerq.redriving import resume_redrives
from brokerq.store import Retention, Store

logger = logging.getLogger("brokerq.worker")

PAUSE_INTERVAL = 1.0
SWEEP_INTERVAL = 30.0
SWEEP_LIMIT = 500


class Upkeep:
    """Loops that run beside the jobs; a failure is logged and tried again at the next turn."""

    def __init__(
        self,
        broker: Broker,
        store: Store,
        *,
        retention: Retention,
        random: Random,
        late: LateRecords,
        on_pauses: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._store = store
        self._retention = retention
        self._random = random
        self._late = late
        self._on_pauses = on_pauses

    async def obey_pauses(self) -> None:
        """Learn every second which queues are paused; never ends by itself."""
        while True:
            try:
                await self._on_pauses(await self._store.paused())
                await self._late.write()
            except BrokerqError as exc:
                logger.warning("could not read which queues are paused: %s", exc)
            await asyncio.sleep(PAUSE_INTERVAL)

    async def sweep(self) -> None:
        """Remove what is past its time and finish lapsed redrives; never ends by itself."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL * (0.5 + self._random.random()))
            try:
                await resume_redrives(self._broker, self._store)
                await self._discard_old_letters()
                while await self._store.prune(self._retention, limit=SWEEP_LIMIT) == SWEEP_LIMIT:
                    pass
            except BrokerqError as exc:
                logger.warning("upkeep failed, it will be tried again: %s", exc)

    async def _discard_old_letters(self) -> None:
        """Remove from the broker what the catalogue is about to forget."""
        if not isinstance(self._broker, DeadLetters):
            return
        physical = cast("DeadLetters", self._broker)
        old = LetterFilter(states=None, older_than=self._retention.dead)
        after: str | None = None
        while letters := await self._store.letters(old, limit=SWEEP_LIMIT, after=after):
            by_queue: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
            for letter in letters:
                by_queue[letter.queue].append((letter.job_id, letter.epoch))
            for queue, keys in by_queue.items():
                try:
                    await physical.discard(queue, keys)
                except UnknownQueueError:
                    logger.debug("queue %s is gone, and its dead letters with it", queue)
            after = letters[-1].job_id
