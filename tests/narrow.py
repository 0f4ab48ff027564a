"""A memory broker that can do less: what others cannot, and what they do by themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from brokerq.broker import (
    Ack,
    Backstop,
    Broker,
    Capabilities,
    Consumer,
    Dead,
    DeadLetters,
    Delivery,
    Inspectable,
    Lane,
    Outgoing,
    QueueSpec,
    QueueStats,
    Release,
    Reschedule,
    Verdict,
)
from brokerq.duration import ZERO
from brokerq.errors import CapabilityError
from brokerq.message import Message

if TYPE_CHECKING:
    from brokerq_memory import MemoryBroker

LEVEL = "given-up-level"
NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowness:
    """What the broker cannot do.

    Attributes:
        in_place: The longest delay of a message that stays the same.
        delayed_ordering: Whether a message with an ordering key may have a delay, and a copy keep
            its place.
        gives_up_after: So many deliveries of one message; then it is the broker's own dead letter.
        settled: Every verdict that was carried out, with the job's id; for tests to look at.
    """

    max_delay: timedelta | None = None
    max_hold: timedelta | None = None
    in_place: timedelta = timedelta.max
    delayed_ordering: bool = True
    gives_up_after: int = NO_LIMIT
    settled: list[tuple[str | None, Verdict]] = field(
        default_factory=list[tuple[str | None, Verdict]]
    )

    def capabilities(self, of: Capabilities) -> Capabilities:
        return replace(
            of,
            max_delay=self.max_delay,
            max_hold=self.max_hold,
            delayed_ordering=self.delayed_ordering,
        )

    def check(self, delivery: Delivery, verdict: Verdict) -> None:
        """Fail if the core asks for what the seam does not allow."""
        match verdict:
            case Reschedule(delay=delay, message=None):
                assert delay <= self.in_place
            case Reschedule(delay=delay):
                assert self.max_delay is None or delay <= self.max_delay
            case Release(delay=delay):
                assert self.max_delay is None or delay <= max(self.max_delay, self.in_place)
            case _:
                pass
        self.settled.append((delivery.id, verdict))


class NarrowBroker(Broker, Inspectable, DeadLetters, Backstop):
    """Wraps a memory broker; what it gives up on lies in a queue that the app knows nothing of."""

    def __init__(self, inner: MemoryBroker, how: Narrowness) -> None:
        self.inner = inner
        self.how = how
        self.ordered = set[str]()

    @property
    def capabilities(self) -> Capabilities:
        return self.how.capabilities(self.inner.capabilities)

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        await self.inner.declare(queues, create=create)
        hidden = [QueueSpec(name=_hidden(spec.name), lease=spec.lease) for spec in queues]
        await self.inner.declare(hidden, create=create)
        self.ordered.update(spec.name for spec in queues if spec.ordered)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        longest = self.how.max_delay
        if longest is not None and any(message.delay > longest for message in messages):
            raise CapabilityError(f"a delay is longer than {longest}")
        if not self.how.delayed_ordering and any(each.delay and each.order for each in messages):
            raise CapabilityError("what has an ordering key cannot be delayed")
        await self.inner.publish(messages)

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        async with self.inner.consume(lane, prefetch=prefetch) as consumer:
            yield NarrowConsumer(self, consumer)

    def salvage(self, queue: str, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        return self._salvage(queue, prefetch)

    @asynccontextmanager
    async def _salvage(self, queue: str, prefetch: int) -> AsyncGenerator[Consumer]:
        lane = Lane(queue=_hidden(queue))
        async with self.inner.consume(lane, prefetch=prefetch) as consumer:
            yield SalvageConsumer(self, queue, consumer)

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        stats = await self.inner.stats(queues)
        hidden = await self.inner.stats([_hidden(name) for name in queues])
        return [
            replace(
                each,
                dead=each.dead + other.ready + other.in_flight + other.delayed + other.dead,
            )
            for each, other in zip(stats, hidden, strict=True)
        ]

    async def purge(self, queue: str) -> int:
        return await self.inner.purge(queue)

    @asynccontextmanager
    async def browse(self, queue: str) -> AsyncGenerator[AsyncIterator[Message]]:
        async with (
            self.inner.browse(queue) as letters,
            self.inner.browse(_hidden(queue)) as judged,
        ):
            yield _chained(letters, judged)

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        discarded = await self.inner.discard(queue, letters)
        return discarded + await self.inner.discard(_hidden(queue), letters)

    async def give_up(self, delivery: Delivery) -> None:
        """Put the message where the broker puts what it gives up on."""
        assert delivery.id is not None
        headers = {**delivery.message.headers, LEVEL: delivery.lane.level}
        message = Message(headers=headers, body=delivery.message.body)
        lane = Lane(queue=_hidden(delivery.lane.queue))
        await self.inner.publish([Outgoing(lane=lane, message=message, id=delivery.id)])


class NarrowConsumer(Consumer):
    """Takes deliveries, but for those of which there were too many."""

    def __init__(self, broker: NarrowBroker, inner: Consumer) -> None:
        self._broker = broker
        self._inner = inner

    async def receive(self, limit: int) -> Sequence[Delivery]:
        how = self._broker.how
        while True:
            kept: list[Delivery] = []
            for delivery in await self._inner.receive(limit):
                if (delivery.count or 0) > how.gives_up_after:
                    await self._give_up(delivery)
                else:
                    kept.append(replace(delivery, in_place=how.in_place))
            if kept:
                return kept

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        done: list[bool] = []
        for delivery, verdict in verdicts:
            if self._loses_its_place(delivery, verdict):
                await self._inner.settle([(delivery, Release())])
                done.append(False)
                continue
            self._broker.how.check(delivery, verdict)
            too_often = (delivery.count or 0) >= self._broker.how.gives_up_after
            if isinstance(verdict, Release) and too_often:
                done.append(await self._give_up(delivery))
            else:
                done += await self._inner.settle([(delivery, verdict)])
        return done

    def _loses_its_place(self, delivery: Delivery, verdict: Verdict) -> bool:
        is_copy = isinstance(verdict, Reschedule) and verdict.message is not None
        ordered = delivery.lane.queue in self._broker.ordered
        return is_copy and ordered and not self._broker.how.delayed_ordering

    async def _give_up(self, delivery: Delivery) -> bool:
        [held] = await self._inner.extend([delivery])
        if held:
            await self._broker.give_up(delivery)
            await self._inner.settle([(delivery, Ack())])
        return held

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        return await self._inner.extend(deliveries)


class SalvageConsumer(Consumer):
    """Takes what the broker has given up on; what is judged dead is a letter of that queue."""

    def __init__(self, broker: NarrowBroker, queue: str, inner: Consumer) -> None:
        self._broker = broker
        self._queue = queue
        self._inner = inner

    async def receive(self, limit: int) -> Sequence[Delivery]:
        return [self._told(delivery) for delivery in await self._inner.receive(limit)]

    def _told(self, delivery: Delivery) -> Delivery:
        headers = dict(delivery.message.headers)
        lane = Lane(queue=self._queue, level=headers.pop(LEVEL))
        message = Message(headers=headers, body=delivery.message.body)
        return replace(delivery, message=message, lane=lane, in_place=ZERO)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        for delivery, verdict in verdicts:
            assert isinstance(verdict, Ack | Dead | Release)
            self._broker.how.check(delivery, verdict)
        return await self._inner.settle(verdicts)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        return await self._inner.extend(deliveries)


def _hidden(queue: str) -> str:
    return f"{queue}.given-up"


async def _chained(*parts: AsyncIterator[Message]) -> AsyncGenerator[Message]:
    for part in parts:
        async for message in part:
            yield message
