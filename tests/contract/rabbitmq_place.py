"""A RabbitMQ for tests: where it is, and how everything that a test made there goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.client import Channel, Link
from brokerq_rabbitmq.options import Options, read_options
from brokerq_rabbitmq.topology import Names, plan_app, plan_queue

from brokerq.broker import Lane, QueueSpec
from brokerq.clock import SystemClock
from brokerq.url import Url
from tests.services.rabbitmq import standing_url

_CHANNELS = 4
_PATIENCE = 20.0


def options() -> Options:
    """Return how to connect; what is lost with a node that is killed matters to no test here.

    A server that several test runs share makes many queues at a time, and is slow to answer then.
    """
    url = Url.parse(standing_url())
    patience = timedelta(seconds=30)
    return replace(read_options(url), settling_in=timedelta(0), connect_timeout=patience)


async def connect() -> Link:
    """Connect to the node that tests share."""
    return await Link.open(options().addresses[0], options(), name="brokerq tests")


class RecordingBroker(RabbitBroker):
    """Remembers what it has declared."""

    def __init__(self, place: RabbitPlace, prefix: str, own: Options) -> None:
        super().__init__(own, prefix=prefix, clock=SystemClock(), random=Random(1))
        self._place = place
        self._prefix = prefix

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        self._require_open()
        self.plan(queues)  # what is refused is not made
        self._place.declared += [(self._prefix, spec) for spec in queues]
        await super().declare(queues, create=create)


class RabbitPlace:
    """Makes brokers, and removes everything of their apps."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.declared: list[tuple[str, QueueSpec]] = []

    def make(self, prefix: str, own: Options | None = None) -> RabbitBroker:
        return RecordingBroker(self, prefix, own or options())

    async def exhaust(self, prefix: str, lane: Lane) -> None:
        """Take what is ready in the lane and drop it until the server gives up on it."""
        names = Names(prefix)
        looking = await self.link.channel()
        crashed = names.crashed(lane.queue)
        before, _ = await looking.count(crashed)
        async with asyncio.timeout(_PATIENCE):
            while (await looking.count(crashed))[0] == before:
                holding = await self.link.channel()
                await holding.get(names.lane(lane.queue, lane.level))
                await holding.close()
        await looking.close()

    async def clean(self) -> None:
        """Delete all queues and exchanges of what was declared."""
        things = {
            (thing.kind, thing.name): thing
            for prefix, spec in self.declared
            for thing in (*plan_app(Names(prefix)), *plan_queue(Names(prefix), spec))
        }
        queues = iter([name for kind, name in things if kind == "queue"])

        async def delete(channel: Channel) -> None:
            for name in queues:
                await channel.delete_queue(name)

        channels = [await self.link.channel() for _ in range(_CHANNELS)]
        await asyncio.gather(*(delete(channel) for channel in channels))
        # One by one: two that are bound to each other cannot be deleted at the same time.
        for kind, name in things:
            if kind == "exchange":
                await channels[0].delete_exchange(name)


@asynccontextmanager
async def rabbit_place() -> AsyncGenerator[RabbitPlace]:
    """Yield a place on the server, and clean it up."""
    link = await connect()
    place = RabbitPlace(link)
    try:
        yield place
    finally:
        await place.clean()
        await link.close()
