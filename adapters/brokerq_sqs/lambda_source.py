"""Hands out the messages of one event, and learns what has become of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from brokerq.broker import Consumer, Delivery, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq.errors import BrokerqError
from brokerq_sqs.calls import Calls, Outcomes
from brokerq_sqs.client import Client
from brokerq_sqs.consumer import Source, SqsConsumer
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.settling import Hold

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef


class HostDeletes(Calls):
    """Only notes what is to be deleted: Lambda does it, by the answer that it gets.

    Attributes:
        deleted: Receipt handles.
    """

    def __init__(self, client: Client, persistence: Persistence) -> None:
        super().__init__(client, persistence)
        self.deleted: set[str] = set()

    async def delete(
        self,
        url: str,  # noqa: ARG002
        handles: Sequence[str],
        *,
        within: float | None = None,  # noqa: ARG002
    ) -> Outcomes:
        self.deleted.update(handles)
        return [None] * len(handles)


class EventSource(Source):
    """Has one event's messages; of an ordered queue it hands out one of each group at a time.

    Where one of a group stays in the queue, all after it do, for as long as it is hidden. SQS hands
    none of them out before it even if they are visible, but not every emulator does as much.

    Attributes:
        error: Always None: nothing has to be fetched.
        settled: Set when all are settled or lost.
        waiting: How many were not handed out.
    """

    def __init__(
        self,
        messages: Sequence[MessageTypeDef],
        *,
        ordered: bool,
        deleted: Collection[str],
        since: float,
        until: float,
        clock: Clock,
    ) -> None:
        """Make a source; what is not begun at `until` belongs to others by then."""
        self.error: BrokerqError | None = None
        self.settled = asyncio.Event()
        self.waiting = len(messages)
        self._deleted = deleted
        self._since = since
        self._until = until
        self._clock = clock
        self._consumer: SqsConsumer | None = None
        self._out: dict[Delivery, str] = {}
        self._lines: dict[str, deque[MessageTypeDef]] = {}
        for number, message in enumerate(messages):
            attributes = message.get("Attributes", {})
            group = attributes.get("MessageGroupId", "") if ordered else str(number)
            self._lines.setdefault(group, deque()).append(message)
        self._ready = deque(self._lines)

    def bind(self, consumer: SqsConsumer) -> EventSource:
        """Say for whom it works; return itself."""
        self._consumer = consumer
        return self

    @property
    def out(self) -> int:
        """How many are being worked on."""
        return len(self._out)

    def take(self, limit: int) -> list[Delivery]:
        """Return up to so many whose turn it is."""
        if self._clock.monotonic() >= self._until:
            self._empty()
            self._look()
        found: list[Delivery] = []
        while self._ready and len(found) < limit:
            group = self._ready.popleft()
            [delivery] = self._deliver([self._lines[group].popleft()])
            self.waiting -= 1
            self._out[delivery] = group
            found.append(delivery)
        return found

    def ask(self, count: int) -> None:
        """Do nothing: all is here."""

    def rest(self) -> None:
        """Keep the others for the next time."""

    def withdraw(self) -> None:
        """Keep the others until this is closed."""

    async def conclude(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> None:
        """Learn which are settled, or lost; go on with their groups, or give these back."""
        for delivery, verdict in verdicts:
            group = self._out.pop(delivery, None)
            if group is None:
                continue
            hold = delivery.token
            line = self._lines.pop(group, deque())
            if not isinstance(hold, Hold) or hold.handle not in self._deleted:
                delay = verdict.delay if isinstance(verdict, Reschedule | Release) else ZERO
                self.waiting -= len(line)
                await self._give_back(line, delay)
            elif line:
                self._lines[group] = line
                self._ready.append(group)
        self._look()

    async def close(self) -> None:
        """Give back what was not handed out."""
        await self._give_back(self._empty())

    def _empty(self) -> list[MessageTypeDef]:
        left = [message for line in self._lines.values() for message in line]
        self._lines.clear()
        self._ready.clear()
        self.waiting = 0
        return left

    async def _give_back(
        self, messages: Collection[MessageTypeDef], delay: timedelta = ZERO
    ) -> None:
        if messages and self._consumer is not None:
            await self._consumer.give_back(self._deliver(messages), Release(delay=delay))

    def _deliver(self, messages: Collection[MessageTypeDef]) -> list[Delivery]:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101 - it is the consumer that asks
        return [consumer.deliver(message, self._since) for message in messages]

    def _look(self) -> None:
        """Say what has changed."""
        if not self._out and not self.waiting:
            self.settled.set()
        if self._consumer is not None:
            self._consumer.wake()


class EventConsumer(Consumer):
    """Tells the event what has become of the deliveries that an `SqsConsumer` settles."""

    def __init__(self, consumer: SqsConsumer, source: EventSource) -> None:
        self._consumer = consumer
        self._source = source

    async def receive(self, limit: int) -> Sequence[Delivery]:
        return await self._consumer.receive(limit)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        try:
            return await self._consumer.settle(verdicts)
        finally:
            await self._source.conclude(verdicts)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        results = await self._consumer.extend(deliveries)
        lost = [each for each, kept in zip(deliveries, results, strict=True) if not kept]
        await self._source.conclude([(each, Release()) for each in lost])
        return results
