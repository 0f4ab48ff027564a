"""One event of AWS Lambda as a broker: its messages are consumed, all else is the queue's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from brokerq.broker import (
    Batch,
    Broker,
    Capabilities,
    Consumer,
    Inspectable,
    Lane,
    Outgoing,
    QueueSpec,
    QueueStats,
)
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq_sqs.consumer import SqsConsumer
from brokerq_sqs.deployment import Place
from brokerq_sqs.lambda_event import Event, answer, time_left
from brokerq_sqs.lambda_source import EventConsumer, EventSource, HostDeletes
from brokerq_sqs.settling import Rules

MARGIN = timedelta(seconds=10)
"""For how long after the function's time a message stays hidden: Lambda has yet to delete it."""


class Origin(Broker, Inspectable, Protocol):
    """The broker that an event's messages come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is known of a lane: its queue, that of its dead letters, and SQS's settings of it.

    Attributes:
        lease: The queue's visibility timeout.
    """

    place: Place
    dead: Place
    rules: Rules
    lease: timedelta


class EventBatch(Batch):
    """What one event has brought.

    When Lambda has received the messages nobody tells. It takes no function whose timeout is above
    the queue's visibility timeout, so that what is hidden now is taken to be so for as long as the
    function may run. A lease is as long for the same reason: what is done early has to stay hidden
    until the function returns.
    """

    def __init__(
        self,
        broker: Origin,
        calls: HostDeletes,
        event: Event,
        context: object,
        *,
        spec: QueueSpec,
        lane: Lane,
        ground: Ground,
        clock: Clock,
    ) -> None:
        self._broker = broker
        self._calls = calls
        self._event = event
        self._context = context
        self._lane = lane
        self._ground = ground
        self._clock = clock
        self._lease = max(spec.lease, (self.left or ZERO) + MARGIN)
        since = clock.monotonic()
        self._source = EventSource(
            event.messages,
            ordered=ground.rules.ordered,
            deleted=calls.deleted,
            since=since,
            until=since + self._lease.total_seconds(),
            clock=clock,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._broker.capabilities

    @property
    def lane(self) -> Lane:
        return self._lane

    @property
    def left(self) -> timedelta | None:
        return time_left(self._context)

    async def settled(self) -> None:
        await self._source.settled.wait()

    def answer(self) -> object:
        return answer(self._event, self._calls.deleted)

    async def open(self) -> None:
        """Do nothing: it is open as long as its broker is."""

    async def close(self) -> None:
        """Do nothing: its broker stays open."""

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        await self._broker.declare(queues, create=create)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        await self._broker.publish(messages)

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        """Give the event's messages, once; of another lane there are none."""
        source = self._source
        if lane != self._lane:
            source = EventSource(
                (), ordered=False, deleted=(), since=0.0, until=0.0, clock=self._clock
            )
        consumer = SqsConsumer(
            self._calls,
            lane,
            self._ground.place,
            self._ground.dead,
            rules=self._ground.rules,
            lease=self._lease,
            prefetch=prefetch,
            clock=self._clock,
            source=source.bind,
        )
        try:
            yield EventConsumer(consumer, source)
        finally:
            await consumer.close()

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        """Count the event's messages; of other queues there are none."""
        return [self._count(queue) for queue in queues]

    async def purge(self, queue: str) -> int:
        return await self._broker.purge(queue)

    def _count(self, queue: str) -> QueueStats:
        is_ours = queue == self._lane.queue
        return QueueStats(
            queue=queue,
            ready=self._source.waiting if is_ours else 0,
            in_flight=self._source.out if is_ours else 0,
            delayed=0,
            dead=0,
            oldest=None,
        )
