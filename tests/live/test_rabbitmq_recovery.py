"""Connections that are cut: what was held is lost to its consumer, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.options import Address
from brokerq_rabbitmq.topology import Names

from brokerq.broker import Ack, Consumer, Delivery, Lane, Outgoing, QueueSpec
from brokerq.errors import ConnectionLostError, PublishError
from brokerq.message import Message
from tests.contract.rabbitmq_place import RabbitPlace, options, rabbit_place

LANE = Lane(queue="mail")
SPEC = QueueSpec(name="mail")
NOWHERE = Address(host="127.0.0.1", port=1)
PATIENCE = 10.0


@pytest_asyncio.fixture
async def place() -> AsyncGenerator[RabbitPlace]:
    async with rabbit_place() as place:
        yield place


@pytest.fixture
def names() -> Names:
    return Names(f"bqt{uuid4().hex[:12]}")


@pytest_asyncio.fixture
async def broker(place: RabbitPlace, names: Names) -> AsyncGenerator[RabbitBroker]:
    broker = place.make(names.prefix)
    await broker.open()
    await broker.declare([SPEC])
    yield broker
    await broker.close()


def outgoing(number: int) -> Outgoing:
    message = Message(headers={"bq-id": f"job-{number}"}, body=b"%d" % number)
    return Outgoing(lane=LANE, message=message, id=f"job-{number}")


async def receive(consumer: Consumer, wanted: int) -> list[Delivery]:
    deliveries: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(deliveries) < wanted:
            deliveries += await consumer.receive(wanted - len(deliveries))
    return deliveries


async def cut(connection: Connection) -> None:
    """Hang up without a word, as a network does."""
    (await connection.link()).hang_up()


async def test_what_was_held_when_the_connection_was_cut_is_delivered_to_the_next(
    broker: RabbitBroker,
) -> None:
    await broker.publish([outgoing(n) for n in range(3)])
    async with broker.consume(LANE, prefetch=2) as consumer:
        held = await receive(consumer, 2)
        waiting = asyncio.ensure_future(consumer.receive(1))
        await cut(broker.reading)
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(waiting, PATIENCE)
        assert await consumer.settle([(each, Ack()) for each in held]) == [False, False]
        assert await consumer.extend(held) == [False, False]
    async with broker.consume(LANE, prefetch=3) as heir:
        again = await receive(heir, 3)
        assert {each.id for each in again} == {"job-0", "job-1", "job-2"}
        assert await heir.settle([(each, Ack()) for each in again]) == [True] * 3


async def test_publishing_goes_on_over_a_new_connection(broker: RabbitBroker) -> None:
    for number in range(3):
        await broker.publish([outgoing(number)])
        await cut(broker.sending)
    await broker.publish([outgoing(3)])
    async with broker.consume(LANE, prefetch=9) as consumer:
        assert {d.id for d in await receive(consumer, 4)} == {f"job-{n}" for n in range(4)}


async def test_what_was_on_its_way_when_the_connection_was_cut_is_sent_again(
    broker: RabbitBroker,
) -> None:
    publishing = asyncio.ensure_future(broker.publish([outgoing(n) for n in range(2_000)]))
    await asyncio.sleep(0.1)
    await cut(broker.sending)
    async with asyncio.timeout(PATIENCE):
        await publishing
    ids: set[str | None] = set()
    async with broker.consume(LANE, prefetch=100) as consumer, asyncio.timeout(PATIENCE):
        while len(ids) < 2_000:
            got = await consumer.receive(100)
            ids |= {each.id for each in got}
            await consumer.settle([(each, Ack()) for each in got])


async def test_without_a_broker_nothing_is_published_and_that_is_known(
    place: RabbitPlace, names: Names
) -> None:
    away = replace(options(), publish_timeout=timedelta(seconds=0.5))
    broker = place.make(names.prefix, away)
    await broker.open()
    await cut(broker.sending)
    broker.sending.addresses = (NOWHERE,)
    with pytest.raises(PublishError) as refused:
        await broker.publish([outgoing(0), outgoing(1)])
    await broker.close()
    assert refused.value.failed == (0, 1)
    assert refused.value.unknown == ()


async def test_the_next_node_is_tried_when_one_does_not_answer(
    place: RabbitPlace, names: Names
) -> None:
    own = options()
    broker = place.make(names.prefix, replace(own, addresses=(NOWHERE, *own.addresses)))
    await broker.open()
    await broker.declare([SPEC])
    await broker.publish([outgoing(0)])
    await broker.close()


async def test_nobody_there_is_an_error_that_says_where(place: RabbitPlace, names: Names) -> None:
    broker = place.make(names.prefix, replace(options(), addresses=(NOWHERE,)))
    with pytest.raises(ConnectionLostError, match=r"127\.0\.0\.1:1"):
        await broker.open()
    with pytest.raises(ConnectionLostError, match="not open"):
        await broker.publish([outgoing(0)])


async def test_a_wrong_password_is_an_error_that_says_so(place: RabbitPlace, names: Names) -> None:
    broker = place.make(names.prefix, replace(options(), password="wrong"))
    with pytest.raises(ConnectionLostError, match="ACCESS_REFUSED"):
        await broker.open()


async def test_a_queue_that_is_deleted_ends_its_consumer_alone(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    await broker.declare([SPEC, QueueSpec(name="other")])
    other = Lane(queue="other")
    async with broker.consume(LANE, prefetch=1) as lost, broker.consume(other, prefetch=1) as kept:
        waiting = asyncio.ensure_future(lost.receive(1))
        await asyncio.sleep(0.1)
        channel = await place.link.channel()
        await channel.delete_queue(names.lane("mail", "normal"))
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(waiting, PATIENCE)
        await broker.publish([replace(outgoing(0), lane=other)])
        [delivery] = await receive(kept, 1)
        assert await kept.settle([(delivery, Ack())]) == [True]
