"""Finds among the dead letters what SQS itself has put there: it has no record of why."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from brokerq.broker import Delivery
from brokerq.clock import Clock
from brokerq.errors import OUTAGE, BrokerqError
from brokerq_sqs.consumer import Source
from brokerq_sqs.letters import Scan
from brokerq_sqs.wire import is_judged

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger("brokerq.sqs")

PER_LETTER = 0.1
"""Seconds that pass after a scan for each letter it has read: many cost no more than few."""


class DeadWatch(Source):
    """Counts the dead letters now and then, and reads them where there are more than were seen.

    Attributes:
        error: Why no more will come, if so.
    """

    def __init__(
        self,
        count: Callable[[], Awaitable[int]],
        scan: Callable[[], Scan],
        *,
        most: int,
        look_every: float,
        deliver: Callable[[MessageTypeDef, float], Delivery],
        give_back: Callable[[Sequence[Delivery]], Awaitable[None]],
        on_change: Callable[[], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self.error: BrokerqError | None = None
        self._count = count
        self._scan = scan
        self._most = most
        self._look_every = look_every
        self._deliver = deliver
        self._give_back = give_back
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._found: deque[Delivery] = deque()
        self._judged = 0
        self._watching: asyncio.Task[None] | None = None

    def take(self, limit: int) -> list[Delivery]:
        """Return up to so many that were found."""
        return [self._found.popleft() for _ in range(min(limit, len(self._found)))]

    def ask(self, count: int) -> None:  # noqa: ARG002 - all are read, or none
        """Begin to watch."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="watch dead letters")

    def rest(self) -> None:
        """Keep what was found for the next time."""

    def withdraw(self) -> None:
        """Keep what was found: others look again later, too."""

    async def close(self) -> None:
        """Stop to watch, and give back what was found."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._give_back(self.take(len(self._found)))

    async def _watch(self) -> None:
        while True:
            read = 0
            try:
                there = await self._count()
                self._judged = min(self._judged, there)
                if there > self._judged and not self._found:
                    read = await self._look()
            except OUTAGE as exc:
                logger.warning("could not look after dead letters: %s", exc)
            except BrokerqError as exc:
                self.error = exc
                self._on_change()
                return
            pause = max(self._look_every, read * PER_LETTER)
            await asyncio.sleep(pause * (0.8 + 0.4 * self._random.random()))

    async def _look(self) -> int:
        """Read all letters; return how many."""
        scan = self._scan()
        judged = read = 0
        try:
            since = self._clock.monotonic()
            async for page in scan.pages():
                for raw in page:
                    read += 1
                    if is_judged(raw):
                        judged += 1
                    elif len(self._found) < self._most:
                        scan.release(raw)
                        self._found.append(self._deliver(raw, since))
                self._on_change()
                since = self._clock.monotonic()
        finally:
            await scan.finish()
        self._judged = judged
        return read
