"""What all cases of `BrokerContract` stand on: the fixtures, and how to wait for something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TypeVar
from uuid import uuid4

import pytest
import pytest_asyncio

from brokerq.broker import Consumer, Delivery, Lane, Outgoing, QueueSpec, QueueStats
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.testing.harness import BrokerHarness, FullBroker

T = TypeVar("T")
StatsTest = Callable[[QueueStats], bool]
PATIENCE = 10.0
"""Seconds of real time after which something that should happen is taken not to."""
CLOCKS_DIFFER = timedelta(milliseconds=10)
"""What two clocks of one machine may disagree by over the few seconds that a case takes."""


@dataclass(slots=True, kw_only=True)
class Place:
    """One app's queues where the adapter keeps them, and the brokers that a case has open there."""

    harness: BrokerHarness
    prefix: str
    opened: list[FullBroker] = field(default_factory=list[FullBroker])
    numbers: count[int] = field(default_factory=lambda: count(1))

    async def another(self, prefix: str | None = None) -> FullBroker:
        """Open one more broker, for this app or for the app with that prefix."""
        broker = self.harness.make(prefix or self.prefix)
        self.opened.append(broker)
        await broker.open()
        return broker

    def spec(
        self, name: str, *, levels: Sequence[str] = ("normal",), ordered: bool = False
    ) -> QueueSpec:
        """Return a queue with the harness's lease."""
        lease = self.harness.lease
        return QueueSpec(name=name, levels=tuple(levels), ordered=ordered, lease=lease)

    def outgoing(
        self,
        lane: Lane,
        body: bytes | None = None,
        *,
        delay: timedelta = ZERO,
        order: str | None = None,
    ) -> Outgoing:
        """Return a message for the lane, unlike all others."""
        number = next(self.numbers)
        job_id = f"{self.prefix}-{number}"
        headers = {"bq-v": "1", "bq-id": job_id, "bq-job": "job", "mine": "Grüße 🦀"}
        message = Message(headers=headers, body=b"%d" % number if body is None else body)
        return Outgoing(lane=lane, message=message, id=job_id, delay=delay, order=order)

    async def receive(self, consumer: Consumer, wanted: int = 1) -> list[Delivery]:
        """Receive exactly that many, within `PATIENCE`."""
        deliveries: list[Delivery] = []
        async with asyncio.timeout(PATIENCE):
            while len(deliveries) < wanted:
                deliveries.extend(await consumer.receive(wanted - len(deliveries)))
        return deliveries

    async def receive_one(self, consumer: Consumer) -> Delivery:
        """Receive one, within `PATIENCE`."""
        return (await self.receive(consumer))[0]

    async def nothing_arrives(self, consumer: Consumer, during: timedelta | None = None) -> None:
        """Assert that the consumer gets nothing while that much time passes."""
        waiting = asyncio.ensure_future(consumer.receive(1))
        try:
            await self.harness.pass_time(self.harness.tolerance if during is None else during)
            assert not waiting.done(), waiting.result()
        finally:
            await cancel(waiting)

    async def arrives_after(self, wait: timedelta, consumer: Consumer, since: float) -> Delivery:
        """Receive one; assert that it came `wait` after `since`: not before, and not much later.

        `since` is by the harness's clock, read before the delay was asked for.
        """
        clock, tolerance = self.harness.clock, self.harness.tolerance

        async def receive() -> tuple[Delivery, float]:
            (delivery,) = await consumer.receive(1)
            return delivery, clock.monotonic()

        waiting = asyncio.ensure_future(receive())
        try:
            passed = timedelta(seconds=clock.monotonic() - since)
            await self.harness.pass_time(max(ZERO, wait - passed - tolerance))
            await self.harness.pass_time(tolerance)
            async with asyncio.timeout(PATIENCE):
                delivery, arrived = await waiting
        finally:
            await cancel(waiting)
        taken = timedelta(seconds=arrived - since)
        assert wait - CLOCKS_DIFFER <= taken <= wait + self.harness.lease
        return delivery

    async def settles(self, broker: FullBroker, queue: str, wanted: StatsTest) -> QueueStats:
        """Return the queue's figures as soon as they are as wanted, within `PATIENCE`."""
        stats = (await broker.stats([queue]))[0]
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not wanted(stats):
                    await asyncio.sleep(0.02)
                    stats = (await broker.stats([queue]))[0]
        assert wanted(stats), stats
        return stats

    async def is_empty(self, broker: FullBroker, queue: str) -> None:
        """Assert that the queue has nothing more to deliver, now or later."""
        await self.settles(broker, queue, lambda s: s.ready + s.in_flight + s.delayed == 0)


async def cancel(waiting: asyncio.Future[T]) -> None:
    """Cancel a receive that may be under way, and see it end."""
    waiting.cancel()
    await asyncio.wait([waiting])


async def in_time(what: Awaitable[object]) -> None:
    """Wait for it, within `PATIENCE`."""
    async with asyncio.timeout(PATIENCE):
        await what


async def letters(broker: FullBroker, queue: str) -> list[Message]:
    """Read all dead letters of the queue."""
    async with asyncio.timeout(PATIENCE), broker.browse(queue) as found:
        return [message async for message in found]


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Return the bodies alone."""
    return [delivery.message.body for delivery in deliveries]


class BrokerCases:
    """The fixtures of every group of cases."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def harness(self) -> BrokerHarness:
        """Return what the cases need to know of the adapter; to be overridden."""
        pytest.fail("override the fixture `harness` of BrokerContract: it returns a BrokerHarness")

    @pytest_asyncio.fixture
    async def place(self, harness: BrokerHarness) -> AsyncGenerator[Place]:
        """Yield this app's place; all brokers that are opened there are closed."""
        place = Place(harness=harness, prefix=f"bqt{uuid4().hex[:12]}")
        yield place
        for broker in place.opened:
            await in_time(broker.close())

    @pytest_asyncio.fixture
    async def broker(self, place: Place) -> FullBroker:
        """Return an open broker."""
        return await place.another()

    @pytest_asyncio.fixture
    async def lane(self, place: Place, broker: FullBroker) -> Lane:
        """Return the only level of a declared queue."""
        await broker.declare([place.spec("jobs")])
        return Lane(queue="jobs")
