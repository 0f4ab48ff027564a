"""What some worker has to do now and then: pauses, retention, redrives that were left half done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from random import Random

from brokerq.broker import Broker
from brokerq.errors import BrokerqError
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
        on_pauses: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._store = store
        self._retention = retention
        self._random = random
        self._on_pauses = on_pauses

    async def obey_pauses(self) -> None:
        """Learn every second which queues are paused; never ends by itself."""
        while True:
            try:
                await self._on_pauses(await self._store.paused())
            except BrokerqError as exc:
                logger.warning("could not read which queues are paused: %s", exc)
            await asyncio.sleep(PAUSE_INTERVAL)

    async def sweep(self) -> None:
        """Remove what is past its time and finish lapsed redrives; never ends by itself."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL * (0.5 + self._random.random()))
            try:
                await resume_redrives(self._broker, self._store)
                while await self._store.prune(self._retention, limit=SWEEP_LIMIT) == SWEEP_LIMIT:
                    pass
            except BrokerqError as exc:
                logger.warning("upkeep failed, it will be tried again: %s", exc)
