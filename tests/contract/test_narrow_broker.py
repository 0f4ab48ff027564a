"""The cases are fit for a broker that can do less than memory: one that tests of the engine use."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
from brokerq_memory.broker import MemoryBroker
from brokerq_memory.clock import VirtualClock
from brokerq_memory.state import MemoryState

from brokerq.broker import Outgoing, QueueSpec, Release
from brokerq.testing import BrokerContract, BrokerHarness
from brokerq.testing.broker_topology import ROLES
from brokerq.topology import Difference, Permissions, Resource, Topology
from tests.narrow import NarrowBroker, Narrowness

LIMIT = 4


class Deployed(NarrowBroker, Topology, Permissions):
    """A narrow broker whose queues somebody has to deploy."""

    def __init__(
        self, inner: MemoryBroker, how: Narrowness, *, prefix: str, there: set[str]
    ) -> None:
        super().__init__(inner, how)
        self._prefix = prefix
        self._there = there

    def plan(self, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
        return [
            Resource(
                kind="queue",
                name=f"{self._prefix}.{spec.name}",
                settings={"levels": ", ".join(spec.levels), "ordered": str(spec.ordered)},
            )
            for spec in queues
        ]

    async def drift(self, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
        await self.inner.stats([])
        return [
            Difference(kind=each.kind, name=each.name, setting=None, wanted=None, actual=None)
            for each in self.plan(queues)
            if each.name not in self._there
        ]

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        await super().declare(queues, create=create)
        self._there.update(each.name for each in self.plan(queues))

    def permissions(self, queues: Sequence[QueueSpec]) -> Mapping[str, str]:
        return {role: f"{role} of {self._prefix}, {len(queues)} queues" for role in ROLES}


class TestNarrow(BrokerContract):
    @pytest.fixture
    def harness(self) -> BrokerHarness:
        clock = VirtualClock()
        state = MemoryState(clock)
        how = Narrowness(
            max_delay=timedelta(seconds=40),
            in_place=timedelta(seconds=10),
            delayed_ordering=False,
            gives_up_after=LIMIT,
        )

        there = set[str]()

        def make(prefix: str) -> NarrowBroker:
            inner = MemoryBroker(prefix=prefix, state=state)
            return Deployed(inner, how, prefix=prefix, there=there)

        async def pass_time(duration: timedelta) -> None:
            clock.advance(duration)
            for _ in range(10):
                await asyncio.sleep(0)

        async def exhaust(prefix: str, outgoing: Outgoing) -> None:
            broker = make(prefix)
            await broker.open()
            async with broker.consume(outgoing.lane, prefetch=1) as consumer:
                for _ in range(LIMIT):
                    [delivery] = await consumer.receive(1)
                    assert delivery.id == outgoing.id
                    await consumer.settle([(delivery, Release())])

        return BrokerHarness(
            make=make,
            clock=clock,
            pass_time=pass_time,
            lease=timedelta(seconds=30),
            tolerance=timedelta(seconds=1),
            exhaust=exhaust,
        )
