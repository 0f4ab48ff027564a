"""Long polls of one queue: more while much is asked for and found, one while there is nothing.

A poll is never broken off, since SQS would hide for a whole lease what it was about to hand over.
What arrives when nobody asks any more is given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import TYPE_CHECKING

from brokerq.broker import Delivery
from brokerq.clock import Clock
from brokerq.errors import BrokerqError, ConnectionLostError
from brokerq_sqs.client import Client
from brokerq_sqs.consumer import Source
from brokerq_sqs.errors import CallFailedError
from brokerq_sqs.wire import BATCH

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger("brokerq.sqs")

WIDEST = 16
"""Polls of one consumer under way at the same time."""
GONE_AFTER = 20.0
"""Seconds of nothing but failures after which the broker counts as gone."""
_FIRST_WAIT = 1
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Poller(Source):
    """Fetches what a consumer asks for, and no more.

    Attributes:
        error: Why no more will come, if so.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        visibility: int,
        keep: float,
        longest_wait: int,
        batch: int,
        deliver: Callable[[MessageTypeDef, float], Delivery],
        give_back: Callable[[Sequence[Delivery]], Coroutine[object, object, None]],
        on_change: Callable[[], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self.error: BrokerqError | None = None
        self._client = client
        self._url = url
        self._visibility = visibility
        self._keep = keep
        self._longest_wait = longest_wait
        self._batch = min(batch, BATCH)
        self._deliver = deliver
        self._give_back = give_back
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._buffer: deque[tuple[float, Delivery]] = deque()
        self._polls: dict[asyncio.Task[None], int] = {}
        self._returns: set[asyncio.Task[None]] = set()
        self._width = 1
        self._wait = min(_FIRST_WAIT, longest_wait)
        self._pause = _FIRST_PAUSE
        self._failing_since: float | None = None
        self._asking = False
        self._wanted = True
        self._closing = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def expected(self) -> int:
        """How many messages are here, or may be any moment."""
        return len(self._buffer) + sum(self._polls.values())

    def take(self, limit: int) -> list[Delivery]:
        """Return up to so many that are here, without those kept for too long."""
        self._expire()
        buffer = self._buffer
        return [buffer.popleft()[1] for _ in range(min(limit, len(buffer)))]

    def ask(self, count: int) -> None:
        """See that polls for so many messages are under way, as far as it is worth while."""
        self._asking = self._wanted = True
        while len(self._polls) < self._width and (room := count - self.expected) > 0:
            limit = min(self._batch, room)
            poll = asyncio.create_task(self._poll(limit), name=f"poll {self._url}")
            self._polls[poll] = limit
            poll.add_done_callback(self._ended)

    def rest(self) -> None:
        """Keep what comes now for the next time: nobody waits at the moment."""
        self._asking = False
        if self._buffer:
            self._expire_later()

    def withdraw(self) -> None:
        """Give back what is here, and what comes until somebody asks again."""
        self._asking = self._wanted = False
        self._return([delivery for _, delivery in self._buffer])
        self._buffer.clear()

    async def close(self) -> None:
        """Give back what is here and what the polls under way still bring; wait for these."""
        self.withdraw()
        self._closing.set()
        if self._expiry is not None:
            self._expiry.cancel()
        while under_way := {*self._polls, *self._returns}:
            await asyncio.wait(under_way)

    async def _poll(self, limit: int) -> None:
        since = self._clock.monotonic()
        try:
            found = await self._client.receive(
                self._url, limit=limit, visibility=self._visibility, wait=self._wait
            )
        except CallFailedError as exc:
            await self._failed(exc)
            return
        self._failing_since, self._pause = None, _FIRST_PAUSE
        self._adapt(len(found), limit)
        deliveries = [self._deliver(raw, since) for raw in found]
        if not self._wanted:
            self._return(deliveries)
            return
        landed = self._clock.monotonic()
        self._buffer.extend((landed, delivery) for delivery in deliveries)
        if not self._asking and deliveries:
            self._expire_later()

    def _adapt(self, found: int, limit: int) -> None:
        if found:
            self._wait = min(_FIRST_WAIT, self._longest_wait)
            if found == limit:
                self._width = min(self._width + 1, WIDEST)  # of all that are full: doubled
        else:
            self._wait = min(max(1, self._wait * 2), self._longest_wait)
            self._width = 1

    def _ended(self, poll: asyncio.Task[None]) -> None:
        del self._polls[poll]
        if not poll.cancelled() and (bug := poll.exception()) is not None:
            self.error = ConnectionLostError(f"a poll ended unexpectedly: {bug!r}")
            logger.error("a poll ended unexpectedly", exc_info=bug)
        self._on_change()

    async def _failed(self, failure: CallFailedError) -> None:
        """Wait a little; the deliveries that are held are good all the while."""
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        gone = not failure.busy and now - self._failing_since >= GONE_AFTER
        if gone or not failure.transient:
            self.error = failure.error
            return
        logger.warning("a poll failed, it will be repeated: %s", failure.error)
        self._width = 1
        pause = self._pause * (0.5 + self._random.random())
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        try:
            async with asyncio.timeout(pause):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _expire_later(self) -> None:
        if self._expiry is None and not self._closing.is_set():
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(self._keep, self._expire_when_resting)

    def _expire_when_resting(self) -> None:
        self._expiry = None
        self._expire()
        if self._buffer:
            self._expire_later()

    def _expire(self) -> None:
        limit = self._clock.monotonic() - self._keep
        old: list[Delivery] = []
        while self._buffer and self._buffer[0][0] <= limit:
            old.append(self._buffer.popleft()[1])
        self._return(old)

    def _return(self, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        returning = asyncio.create_task(self._give_back(deliveries))
        self._returns.add(returning)
        returning.add_done_callback(self._returns.discard)
