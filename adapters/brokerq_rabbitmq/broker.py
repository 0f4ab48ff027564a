"""A broker on RabbitMQ: quorum queues, confirms, and a connection for each direction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from brokerq.broker import (
    Backstop,
    Broker,
    Capabilities,
    Consumer,
    Counting,
    DeadLetters,
    Durability,
    Inspectable,
    Lane,
    Ordering,
    Outgoing,
    QueueSpec,
    QueueStats,
)
from brokerq.clock import Clock
from brokerq.errors import ConnectionLostError, DriftError, PublishError, UnknownQueueError
from brokerq.message import Message
from brokerq.topology import Difference, Permissions, Resource, Topology
from brokerq_rabbitmq import counting, ladder, parcels, topology
from brokerq_rabbitmq.census import Census, Share
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.consumer import RabbitConsumer
from brokerq_rabbitmq.declaring import declare, exists, find_levels
from brokerq_rabbitmq.errors import NOT_FOUND, ChannelRefusedError, not_open
from brokerq_rabbitmq.letters import Walk, walking
from brokerq_rabbitmq.management import Management
from brokerq_rabbitmq.options import Options
from brokerq_rabbitmq.publisher import Parcel, Publisher
from brokerq_rabbitmq.salvage import SalvageConsumer
from brokerq_rabbitmq.topology import Names
from brokerq_rabbitmq.wire import MAX_BODY, check, letter_key, read_letter

_MAX_BATCH = 1_000
_MOST_PREFETCH = 65_535
"""AMQP has two bytes for it."""


class RabbitBroker(Broker, Inspectable, DeadLetters, Backstop, Topology, Permissions):
    """One app's queues in one virtual host.

    Attributes:
        sending: The connection for what is published, declared and counted.
        reading: The connection for what is consumed: the broker may block the other.
    """

    def __init__(self, options: Options, *, prefix: str, clock: Clock, random: Random) -> None:
        self._options = options
        self._names = Names(prefix)
        self._clock = clock
        self._random = random
        self.sending = Connection(options, name=f"{prefix} publisher", random=random)
        self.reading = Connection(options, name=f"{prefix} consumer", random=random)
        timeout = options.publish_timeout.total_seconds()
        self._publisher = Publisher(self.sending, timeout=timeout, random=random)
        address = options.management
        self._management = None if address is None else Management(address, options)
        self._consumers: dict[RabbitConsumer, bool] = {}
        self._census = Census(self._names, self._report, self.sending)
        self._levels: dict[str, tuple[str, ...]] = {}
        self._walks: dict[str, asyncio.Lock] = {}
        self._is_open = False
        self._turn = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            max_body=MAX_BODY,
            max_delay=ladder.LONGEST,
            max_batch=_MAX_BATCH,
            lease=None,
            max_hold=self._options.consumer_timeout,
            ordering=Ordering.NONE,
            delayed_ordering=False,
            max_levels=topology.MOST_LEVELS,
            counting=Counting.ALL,
            durability=Durability.HOST,
            reports_lost_lease=False,
            publish_in_transaction=False,
        )

    async def open(self) -> None:
        async with self._turn:
            if self._is_open:
                return
            self.sending.start()
            self.reading.start()
            try:
                await self.sending.link()
            except BaseException:
                await self._disconnect()
                raise
            self._is_open = True

    async def close(self) -> None:
        async with self._turn:
            self._is_open = False
            await asyncio.gather(*(consumer.close() for consumer in self._consumers))
            self._consumers.clear()
            await self._disconnect()
            self._levels.clear()

    async def _disconnect(self) -> None:
        await asyncio.gather(self.sending.close(), self.reading.close())

    def _require_open(self) -> None:
        if not self._is_open:
            raise not_open()

    # What there is

    def plan(self, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
        things = list(topology.plan_app(self._names))
        for spec in queues:
            things += topology.plan_queue(self._names, spec)
        return [thing.resource() for thing in things]

    def permissions(self, queues: Sequence[QueueSpec]) -> Mapping[str, str]:
        return topology.permissions(self._names, queues)

    async def drift(self, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
        self._require_open()
        found = await declare(await self.sending.link(), self._names, queues, create=False)
        return found.differences

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        self._require_open()
        found = await declare(await self.sending.link(), self._names, queues, create=create)
        if found.differences:
            raise DriftError("; ".join(map(str, found.differences)))
        if found.is_new:
            await asyncio.sleep(self._options.settling_in.total_seconds())
        self._levels.update({spec.name: spec.levels for spec in queues})

    async def _lanes(self, link: Link, queue: str) -> list[str]:
        """Return the queues of all levels. Raises `UnknownQueueError`."""
        if queue not in self._levels:
            self._levels[queue] = await find_levels(link, self._names, queue)
        return [self._names.lane(queue, level) for level in self._levels[queue]]

    # Publishing

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._require_open()
        for position, outgoing in enumerate(messages):
            check(position, outgoing)
        undeclared = await self._find_undeclared_in_time(messages)
        positions = [n for n in range(len(messages)) if n not in undeclared]
        outcome = await self._publisher.send([self._parcel(messages[n]) for n in positions])
        undeclared |= {positions[n] for n in outcome.returned}
        failed = {positions[n]: why for n, why in outcome.failed.items()}
        unknown = {positions[n]: why for n, why in outcome.unknown.items()}
        if failed or unknown or undeclared:
            raise _refusal(messages, failed=failed, unknown=unknown, undeclared=undeclared)

    def _parcel(self, outgoing: Outgoing) -> Parcel:
        return parcels.to_lane(
            self._names,
            outgoing.lane,
            outgoing.message,
            message_id=outgoing.id,
            ticks=ladder.ticks(outgoing.delay) if outgoing.delay else 0,
        )

    async def _find_undeclared_in_time(self, messages: Sequence[Outgoing]) -> set[int]:
        """Ask within `publish_timeout`. Raises `PublishError`: nothing was sent."""
        timeout = self._options.publish_timeout.total_seconds()
        try:
            async with asyncio.timeout(timeout):
                return await self._find_undeclared(messages)
        except (TimeoutError, ConnectionLostError) as exc:
            late = f"RabbitMQ did not tell within {timeout:g} s whether its queue is there"
            why = late if isinstance(exc, TimeoutError) else str(exc)
            failed = dict.fromkeys(range(len(messages)), why)
            raise _refusal(messages, failed=failed, unknown={}, undeclared=()) from exc

    async def _find_undeclared(self, messages: Sequence[Outgoing]) -> set[int]:
        """Return the positions of delayed messages that would not find their lane when due.

        What is not delayed comes back by itself.
        """
        delayed = {outgoing.lane for outgoing in messages if outgoing.delay}
        unsure = [lane for lane in delayed if lane.level not in self._levels.get(lane.queue, ())]
        if not unsure:
            return set()
        link = await self.sending.link()
        await link.until_unblocked()  # a blocked connection is not read from, questions included
        there = await asyncio.gather(
            *(exists(link, self._names.lane(lane.queue, lane.level)) for lane in unsure)
        )
        missing = {lane for lane, is_there in zip(unsure, there, strict=True) if not is_there}
        return {n for n, outgoing in enumerate(messages) if outgoing.lane in missing}

    # Consuming

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        self._require_open()
        queue = self._names.lane(lane.queue, lane.level)
        consumer = await self._consumer(lane, queue, prefetch)
        try:
            yield consumer
        finally:
            await self._leave(consumer)

    @asynccontextmanager
    async def salvage(self, queue: str, *, prefetch: int) -> AsyncGenerator[Consumer]:
        self._require_open()
        crashed = self._names.crashed(queue)
        consumer = await self._consumer(Lane(queue=queue), crashed, prefetch, is_lane=False)
        try:
            yield SalvageConsumer(consumer, queue)
        finally:
            await self._leave(consumer)

    async def _consumer(
        self, lane: Lane, queue: str, prefetch: int, *, is_lane: bool = True
    ) -> RabbitConsumer:
        link = await self.reading.link()
        channel = await link.channel()
        consumer = RabbitConsumer(
            channel,
            lane,
            queue,
            prefetch=min(prefetch, self._options.prefetch or prefetch, _MOST_PREFETCH),
            names=self._names,
            publisher=self._publisher,
            clock=self._clock,
            nack_counts=is_lane and link.version.nack_counts,
        )
        try:
            await _start(consumer, lane)
            if is_lane:
                await self._census.join(link)
        except BaseException:
            await self._leave(consumer)
            raise
        self._consumers[consumer] = is_lane
        return consumer

    async def _leave(self, consumer: RabbitConsumer) -> None:
        self._consumers.pop(consumer, None)
        await asyncio.shield(consumer.close())

    # Looking

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        self._require_open()
        link, sending = await self.reading.link(), await self.sending.link()
        sources = counting.Sources(link, sending, self._management)
        return [
            await counting.count(sources, self._names, queue, await self._lanes(link, queue))
            for queue in queues
        ]

    def _lane_consumers(self) -> list[RabbitConsumer]:
        return [consumer for consumer, is_lane in self._consumers.items() if is_lane]

    def _report(self) -> Mapping[str, Share]:
        """Return what this process has of each queue."""
        report: dict[str, Share] = {}
        for consumer in self._lane_consumers():
            held, unread = report.get(consumer.queue, (0, 0))
            share = consumer.share
            report[consumer.queue] = Share(held + share.held, unread + share.unread)
        return report

    async def purge(self, queue: str) -> int:
        self._require_open()
        link = await self.sending.link()
        rungs = [self._names.rung(queue, rung) for rung in reversed(range(ladder.RUNGS))]
        lanes = await self._lanes(link, queue)
        channel = await link.channel()
        try:
            purged = [await channel.purge(name) for name in (*rungs, *lanes)]
        finally:
            await channel.close()
        own = [consumer for consumer in self._lane_consumers() if consumer.queue == queue]
        return sum(purged) + sum([await consumer.drop_unread() for consumer in own])

    # Dead letters

    @asynccontextmanager
    async def browse(self, queue: str) -> AsyncGenerator[AsyncIterator[Message]]:
        async with self._walk(queue) as walks:
            yield _read(walks, queue)

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        self._require_open()
        unwanted = frozenset[tuple[str | None, int]](letters)
        if not unwanted:
            return 0
        removed = 0
        async with self._walk(queue) as walks:
            for walk in walks:
                while (received := await walk.next()) is not None:
                    if letter_key(received) in unwanted:
                        walk.remove()
                        removed += 1
                await walk.finish()
        return removed

    @asynccontextmanager
    async def _walk(self, queue: str) -> AsyncGenerator[Sequence[Walk]]:
        """Walk those that are judged, then those that RabbitMQ itself has made."""
        self._require_open()
        link = await self.reading.link()
        if queue not in self._levels and not await exists(link, self._names.dead(queue)):
            raise UnknownQueueError(f"queue {queue!r} is not declared: declare it first")
        mutex = self._walks.setdefault(queue, asyncio.Lock())
        lock = self._names.lock(queue)
        places = self._names.letters(queue)
        async with walking(link, places, lock=lock, mutex=mutex, random=self._random) as walks:
            yield walks


async def _start(consumer: RabbitConsumer, lane: Lane) -> None:
    try:
        await consumer.start()
    except ChannelRefusedError as exc:
        if exc.code != NOT_FOUND:
            raise
        raise UnknownQueueError(
            f"queue {lane.queue!r} with level {lane.level!r} is not declared: declare it first"
        ) from exc


async def _read(walks: Sequence[Walk], queue: str) -> AsyncGenerator[Message]:
    for walk in walks:
        while (received := await walk.next()) is not None:
            yield read_letter(received, queue)


def _refusal(
    messages: Sequence[Outgoing],
    *,
    failed: Mapping[int, str],
    unknown: Mapping[int, str],
    undeclared: Collection[int],
) -> PublishError:
    sentences: list[str] = []
    if undeclared:
        lanes = {messages[position].lane: None for position in sorted(undeclared)}
        names = ", ".join(f"{lane.queue!r} with level {lane.level!r}" for lane in lanes)
        sentences.append(f"not declared: queue {names}; declare it first")
    reasons = {why: None for n, why in failed.items() if n not in undeclared}
    sentences += [f"not published: {why}" for why in reasons]
    sentences += [f"nobody knows whether it was published: {why}" for why in set(unknown.values())]
    return PublishError(
        "; ".join(sentences),
        failed=sorted({*failed, *undeclared}),
        unknown=sorted(unknown),
    )
