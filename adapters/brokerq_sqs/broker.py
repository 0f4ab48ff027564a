"""A broker on Amazon SQS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

from brokerq.broker import (
    Backstop,
    Batch,
    Broker,
    Capabilities,
    Consumer,
    Counting,
    DeadLetters,
    Durability,
    Handover,
    Inspectable,
    Lane,
    Ordering,
    Outgoing,
    QueueSpec,
    QueueStats,
)
from brokerq.clock import Clock
from brokerq.errors import UnknownQueueError
from brokerq.message import Message
from brokerq.topology import Difference, Permissions, Resource, Topology
from brokerq_sqs import outgoing, topology
from brokerq_sqs.calls import Calls
from brokerq_sqs.client import Client, Failure
from brokerq_sqs.consumer import SqsConsumer
from brokerq_sqs.deployment import Deployment, Place
from brokerq_sqs.errors import closed, forked
from brokerq_sqs.lambda_batch import EventBatch, Ground
from brokerq_sqs.lambda_event import find_lane, read_event
from brokerq_sqs.lambda_source import HostDeletes
from brokerq_sqs.letters import Scan, browse, discard
from brokerq_sqs.merging import Merger
from brokerq_sqs.ordered import OrderedConsumer
from brokerq_sqs.outgoing import Shipment
from brokerq_sqs.permissions import policies
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.polling import Poller
from brokerq_sqs.purging import Purge
from brokerq_sqs.salvage import DeadWatch
from brokerq_sqs.settings import Settings
from brokerq_sqs.settling import MAX_HOLD, Rules
from brokerq_sqs.wire import BATCH, LONGEST_DELAY, MAX_BODY, seconds

_WAIT_SHARE = 3
"""A poll lasts at most this part of the lease: the lease is counted from its beginning."""
_KEEP_SHARE = 6
SALVAGE_LEASE = timedelta(seconds=60)

CAPABILITIES = Capabilities(
    max_body=MAX_BODY,
    max_delay=LONGEST_DELAY,
    max_batch=BATCH,
    lease=timedelta(seconds=30),
    max_hold=MAX_HOLD,
    ordering=Ordering.PER_KEY,
    delayed_ordering=False,
    max_levels=topology.MAX_LEVELS,
    counting=Counting.ALL,
    durability=Durability.REPLICATED,
    reports_lost_lease=False,
    publish_in_transaction=False,
)


class SqsBroker(Broker, Inspectable, DeadLetters, Backstop, Handover, Topology, Permissions):
    """One app's queues in one region of one account."""

    def __init__(self, settings: Settings, *, clock: Clock, random: Random) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._client = Client(settings)
        self._persistence = Persistence(random)
        self._calls = Calls(self._client, self._persistence)
        self._merger = Merger(self._calls)
        self._deployment = Deployment(self._client, self._persistence, settings)
        self._consumers: set[SqsConsumer] = set()
        self._grounds: dict[Lane, Ground] = {}
        self._is_open = False
        self._pid = os.getpid()
        self._turn = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def open(self) -> None:
        """Find the credentials. SQS has no connections: who cannot be reached is found later."""
        async with self._turn:
            is_forked = self._pid != os.getpid()
            if self._is_open and not is_forked:
                return
            if is_forked:  # threads and connections are the parent's, and so is what it holds
                self._consumers.clear()
            await self._client.open()
            self._deployment.forget()
            self._grounds.clear()
            self._merger = Merger(self._calls)
            self._is_open, self._pid = True, os.getpid()

    async def close(self) -> None:
        async with self._turn:
            if not self._is_open or self._pid != os.getpid():
                return
            self._is_open = False
            await asyncio.gather(*(consumer.close() for consumer in self._consumers))
            await self._client.close()

    def _require_open(self) -> None:
        if not self._is_open:
            raise closed()
        if self._pid != os.getpid():
            raise forked()

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        self._require_open()
        await self._deployment.declare(queues, create=create)

    def plan(self, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
        plans = self._deployment.plan(queues)
        return [resource for plan in plans for resource in topology.resources(plan)]

    async def drift(self, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
        self._require_open()
        return await self._deployment.drift(self._deployment.plan(queues))

    def permissions(self, queues: Sequence[QueueSpec]) -> Mapping[str, str]:
        settings = self._settings
        plans = self._deployment.plan(queues)
        return policies(plans, region=settings.region, kms=settings.kms)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._require_open()
        if not messages:
            return
        places = await self._find({outgoing.lane for outgoing in messages})
        shipments = outgoing.prepare(messages, places)
        failures: dict[int, Failure] = {}
        for part in await asyncio.gather(*map(self._ship, shipments)):
            failures.update(part)
        missing = [n for n, each in enumerate(messages) if each.lane not in places]
        error = outgoing.report(messages, missing, failures)
        if error is not None:
            raise error

    async def _find(self, lanes: Collection[Lane]) -> Mapping[Lane, Place]:
        async def find(lane: Lane) -> Place | None:
            try:
                return await self._deployment.find(lane)
            except UnknownQueueError:
                return None

        found = await asyncio.gather(*map(find, lanes))
        return {lane: place for lane, place in zip(lanes, found, strict=True) if place is not None}

    async def _ship(self, shipment: Shipment) -> dict[int, Failure]:
        place = shipment.place
        outcomes = await self._merger.send(place.url, shipment.entries, ordered=place.ordered)
        return {
            position: failure
            for position, failure in zip(shipment.positions, outcomes, strict=True)
            if failure is not None
        }

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        self._require_open()
        ground = await self._survey(lane)
        lease = self._deployment.lease(lane.queue) or ground.lease
        kind = OrderedConsumer if ground.place.ordered else SqsConsumer
        consumer = kind(
            self._calls,
            lane,
            ground.place,
            ground.dead,
            rules=ground.rules,
            lease=lease,
            prefetch=prefetch,
            clock=self._clock,
            source=lambda consumer: self._poller(consumer, ground.place, lease),
        )
        async with self._open_consumer(consumer):
            yield consumer

    async def _survey(self, lane: Lane) -> Ground:
        place = await self._deployment.find(lane)
        found, dead = await asyncio.gather(
            self._deployment.attributes(place), self._deployment.find_dead(lane.queue)
        )
        return Ground(
            place=place,
            dead=dead,
            rules=Rules(ordered=place.ordered, max_receives=topology.max_receives(found)),
            lease=timedelta(seconds=int(found["VisibilityTimeout"])),
        )

    async def take_over(self, event: object, context: object, queues: Sequence[QueueSpec]) -> Batch:
        """Take what AWS Lambda was called with; the queue's settings are read the first time."""
        self._require_open()
        found = read_event(event)
        spec, lane = find_lane(found.arn, queues, prefix=self._settings.prefix)
        if lane not in self._grounds:
            self._grounds[lane] = await self._survey(lane)
        return EventBatch(
            self,
            HostDeletes(self._client, self._persistence),
            found,
            context,
            spec=spec,
            lane=lane,
            ground=self._grounds[lane],
            clock=self._clock,
        )

    @asynccontextmanager
    async def salvage(self, queue: str, *, prefetch: int) -> AsyncGenerator[Consumer]:
        self._require_open()
        dead = await self._deployment.find_dead(queue)
        consumer = SqsConsumer(
            self._calls,
            Lane(queue=queue),
            dead,
            dead,
            rules=Rules(ordered=dead.ordered, max_receives=None),
            lease=SALVAGE_LEASE,
            prefetch=prefetch,
            clock=self._clock,
            source=lambda consumer: self._watch(consumer, dead, prefetch),
        )
        async with self._open_consumer(consumer):
            yield consumer

    @asynccontextmanager
    async def _open_consumer(self, consumer: SqsConsumer) -> AsyncGenerator[None]:
        self._require_open()
        self._consumers.add(consumer)
        try:
            yield
        finally:
            self._consumers.discard(consumer)
            await consumer.close()

    def _poller(self, consumer: SqsConsumer, place: Place, lease: timedelta) -> Poller:
        wait = min(self._settings.wait, lease / _WAIT_SHARE)
        return Poller(
            self._client,
            place.url,
            visibility=seconds(lease),
            keep=(lease / _KEEP_SHARE).total_seconds(),
            longest_wait=int(wait.total_seconds()),
            batch=BATCH,
            deliver=consumer.deliver,
            give_back=consumer.give_back,
            on_change=consumer.wake,
            clock=self._clock,
            random=self._random,
        )

    def _watch(self, consumer: SqsConsumer, dead: Place, most: int) -> DeadWatch:
        async def count() -> int:
            return topology.total(await self._deployment.attributes(dead))

        return DeadWatch(
            count,
            lambda: Scan(self._client, self._calls, self._persistence, dead),
            most=most,
            look_every=self._settings.look_every.total_seconds(),
            deliver=consumer.deliver,
            give_back=consumer.give_back,
            on_change=consumer.wake,
            clock=self._clock,
            random=self._random,
        )

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        self._require_open()
        return await asyncio.gather(*map(self._count, queues))

    async def _count(self, queue: str) -> QueueStats:
        places = await self._deployment.find_levels(queue)
        places.append(await self._deployment.find_dead(queue))
        *levels, dead = await asyncio.gather(*map(self._deployment.attributes, places))
        return topology.stats(queue, levels, dead)

    async def purge(self, queue: str) -> int:
        """Receive and delete; SQS's own purge would remove what is in flight, too.

        What is delayed can only be removed when it is due: this waits for it, up to 15 minutes.
        """
        self._require_open()
        places = await self._deployment.find_levels(queue)
        purge = Purge(self._client, self._calls, self._persistence, self._deployment, self._clock)
        return sum(await asyncio.gather(*map(purge.run, places)))

    @asynccontextmanager
    async def browse(self, queue: str) -> AsyncGenerator[AsyncIterator[Message]]:
        self._require_open()
        async with browse(await self._scan(queue)) as found:
            yield found

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        self._require_open()
        return await discard(await self._scan(queue), letters) if letters else 0

    async def _scan(self, queue: str) -> Scan:
        place = await self._deployment.find_dead(queue)
        return Scan(self._client, self._calls, self._persistence, place)
