"""Settling a lane: what waits for a round trip goes into the next one together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from brokerq.broker import Ack, Consumer, Delivery, Lane, Release, Verdict
from brokerq.duration import ZERO
from brokerq.engine.lanes import LaneReader
from brokerq.errors import ConnectionLostError
from brokerq.message import Message
from tests.engine.conftest import eventually

LANE = Lane(queue="work")


class SlowConsumer(Consumer):
    """Hands out ten deliveries; each settlement waits until it may go on."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[Delivery, Verdict]]] = []
        self.go_on = asyncio.Event()
        self.refused: list[Delivery] = []
        self.error: ConnectionLostError | None = None
        self._given = False

    async def receive(self, limit: int) -> Sequence[Delivery]:
        assert limit == 10
        if self._given:
            await asyncio.Event().wait()
        self._given = True
        message = Message(headers={}, body=b"{}")
        return [
            Delivery(message=message, lane=LANE, id=str(n), token=n, count=1, in_place=ZERO)
            for n in range(10)
        ]

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        self.calls.append(list(verdicts))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [delivery not in self.refused for delivery, _ in verdicts]

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        return [True] * len(deliveries)


@pytest.fixture
def consumer() -> SlowConsumer:
    return SlowConsumer()


@pytest.fixture
async def reader(consumer: SlowConsumer) -> AsyncGenerator[LaneReader]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Consumer]:
        yield consumer

    reader = LaneReader(opened, LANE, room=lambda _: 10, on_delivery=lambda: None, random=Random(1))
    reader.start()
    await eventually(lambda: len(reader.buffer) == 10)
    yield reader
    consumer.go_on.set()
    await reader.close()


async def settle_apart(
    reader: LaneReader, consumer: SlowConsumer
) -> tuple[list[Delivery], list[asyncio.Task[Sequence[bool]]]]:
    """Settle five deliveries in calls of their own, the first of which is under way."""
    deliveries = reader.take(5)
    verdicts: list[Verdict] = [Ack(), Ack(), Release(), Ack(), Ack()]
    tasks = [
        asyncio.create_task(reader.settle([pair]))
        for pair in zip(deliveries, verdicts, strict=True)
    ]
    await eventually(lambda: bool(consumer.calls))
    return deliveries, tasks


async def test_settlements_that_wait_are_one_round_trip(
    reader: LaneReader, consumer: SlowConsumer
) -> None:
    deliveries, tasks = await settle_apart(reader, consumer)
    consumer.refused = [deliveries[3]]
    consumer.go_on.set()
    answers = await asyncio.gather(*tasks)
    assert [list(each) for each in answers] == [[True], [True], [True], [False], [True]]
    first, others = consumer.calls
    assert [delivery for delivery, _ in (*first, *others)] == deliveries
    assert len(first) == 1


async def test_a_lost_broker_answers_false_to_all_that_waited(
    reader: LaneReader, consumer: SlowConsumer
) -> None:
    _, tasks = await settle_apart(reader, consumer)
    consumer.error = ConnectionLostError("gone")
    consumer.go_on.set()
    assert [list(each) for each in await asyncio.gather(*tasks)] == [[False]] * 5


async def test_who_gives_up_waiting_takes_nobody_along(
    reader: LaneReader, consumer: SlowConsumer
) -> None:
    _, tasks = await settle_apart(reader, consumer)
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks[:1])
    consumer.go_on.set()
    others = [tasks[1], tasks[3], tasks[4]]
    assert [list(each) for each in await asyncio.gather(*others)] == [[True]] * 3


async def test_a_delivery_is_settled_once(reader: LaneReader, consumer: SlowConsumer) -> None:
    consumer.go_on.set()
    [delivery] = reader.take(1)
    assert list(await reader.settle([(delivery, Ack())])) == [True]
    assert list(await reader.settle([(delivery, Ack())])) == [False]
    assert len(consumer.calls) == 1
