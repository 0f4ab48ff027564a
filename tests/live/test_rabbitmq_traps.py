"""What RabbitMQ does that loses or holds up jobs where it is not known, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.publisher import Parcel, Publisher
from brokerq_rabbitmq.topology import DELIVERY_LIMIT, MARK, Names, plan_app, plan_queue

from brokerq.broker import (
    Ack,
    Consumer,
    Delivery,
    Lane,
    Outgoing,
    QueueSpec,
    Release,
    Reschedule,
    Verdict,
)
from brokerq.errors import DriftError
from brokerq.message import Message
from tests.contract.rabbitmq_place import RabbitPlace, options, rabbit_place

LANE = Lane(queue="mail")
SPEC = QueueSpec(name="mail")
SOON = timedelta(milliseconds=150)
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


def outgoing(name: str = "one", *, lane: Lane = LANE, delay: timedelta = timedelta(0)) -> Outgoing:
    message = Message(headers={"bq-id": name, "bq-job": "job"}, body=name.encode())
    return Outgoing(lane=lane, message=message, id=name, delay=delay)


async def receive(consumer: Consumer) -> Delivery:
    async with asyncio.timeout(PATIENCE):
        [delivery] = await consumer.receive(1)
    return delivery


async def bodies_of_letters(broker: RabbitBroker) -> list[bytes]:
    async with broker.browse("mail") as letters:
        return [letter.body async for letter in letters]


@pytest.mark.parametrize("verdict", [Release, Reschedule])
async def test_a_job_can_be_delayed_again_and_again(
    broker: RabbitBroker, verdict: type[Release | Reschedule]
) -> None:
    """3.10 drops a message that it finds in a queue of the ladder twice, by `x-death`."""
    await broker.publish([outgoing(delay=SOON)])
    async with broker.consume(LANE, prefetch=1) as consumer:
        for _ in range(3):
            delivery = await receive(consumer)
            again: Verdict = (
                Release(delay=SOON)
                if verdict is Release
                else Reschedule(delay=SOON, message=delivery.message)
            )
            assert await consumer.settle([(delivery, again)]) == [True]
        delivery = await receive(consumer)
        assert delivery.message == outgoing().message
        assert await consumer.settle([(delivery, Ack())]) == [True]


@pytest.mark.parametrize("spoofed", ["text", [{"queue": "all", "reason": "expired", "count": 9}]])
async def test_headers_of_the_broker_that_a_publisher_made_up_are_ignored(
    place: RabbitPlace, names: Names, broker: RabbitBroker, spoofed: object
) -> None:
    channel = await place.link.channel(confirms=True)
    rungs = [{"queue": names.rung("mail", n), "reason": "expired", "count": 1} for n in range(16)]
    headers = {"x-death": rungs if isinstance(spoofed, list) else spoofed, "x-delivery-count": "x"}
    await channel.publish(
        exchange="", key=names.lane("mail", "normal"), message_id="a", headers=headers, body=b"a"
    )
    async with broker.consume(LANE, prefetch=1) as consumer:
        delivery = await receive(consumer)
        assert delivery.message == Message(headers={}, body=b"a")
        assert await consumer.settle([(delivery, Release(delay=SOON))]) == [True]
        again = await receive(consumer)
        assert again.message == delivery.message
        await consumer.settle([(again, Ack())])


async def test_forty_messages_to_a_lane_that_is_gone_do_not_hold_up_the_others(
    place: RabbitPlace, names: Names
) -> None:
    """More than the 32 that the broker's own dead-letter worker reads ahead."""
    broker = place.make(names.prefix)
    await broker.open()
    await broker.declare([QueueSpec(name="mail", levels=("gone", "normal"))])
    gone = Lane(queue="mail", level="gone")
    await broker.publish([outgoing(f"lost-{n}", lane=gone, delay=SOON) for n in range(40)])
    channel = await place.link.channel()
    await channel.delete_queue(names.lane("mail", "gone"))
    await broker.publish([outgoing("good", delay=SOON)])
    async with broker.consume(LANE, prefetch=1) as consumer:
        delivery = await receive(consumer)
        assert delivery.id == "good"
        await consumer.settle([(delivery, Ack())])
    letters = await _letters(broker)
    async with asyncio.timeout(PATIENCE):
        while len(letters) < 40:
            await asyncio.sleep(0.02)
            letters = await _letters(broker)
    await broker.close()
    assert {letter.headers["bq-dead-reason"] for letter in letters} == {"unroutable"}
    assert {letter.headers["bq-id"] for letter in letters} == {f"lost-{n}" for n in range(40)}


async def _letters(broker: RabbitBroker) -> list[Message]:
    async with broker.browse("mail") as letters:
        return [letter async for letter in letters]


async def test_giving_back_for_ever_makes_no_dead_letter(broker: RabbitBroker) -> None:
    """Below 4.3 each return is one nearer to the delivery limit."""
    await broker.publish([outgoing()])
    counts: list[int | None] = []
    async with broker.consume(LANE, prefetch=1) as consumer:
        for _ in range(DELIVERY_LIMIT + 20):
            delivery = await receive(consumer)
            counts.append(delivery.count)
            assert await consumer.settle([(delivery, Release())]) == [True]
        delivery = await receive(consumer)
        assert delivery.message == outgoing().message
        await consumer.settle([(delivery, Ack())])
    assert await bodies_of_letters(broker) == []
    assert counts[:3] == [1, 2, 3]


async def test_a_full_queue_fails_its_message_alone(place: RabbitPlace) -> None:
    channel = await place.link.channel()
    full, roomy = (f"bqt{uuid4().hex[:12]}" for _ in range(2))
    limit: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-max-length": 1,
        "x-overflow": "reject-publish",
    }
    await channel.declare_queue(full, limit)
    await channel.declare_queue(roomy, {"x-queue-type": "quorum"})
    connection = Connection(options(), name="test", random=Random(1))
    connection.start()
    publisher = Publisher(connection, timeout=PATIENCE, random=Random(1))
    try:
        for _ in range(4):  # the limit is soft
            await publisher.send([Parcel("", full, "filler", {}, b"")])
        outcome = await publisher.send(
            [Parcel("", full, "one", {}, b""), Parcel("", roomy, "other", {}, b"")]
        )
        assert outcome.taken(1)
        assert not outcome.taken(0)
        assert "its queue is full" in outcome.failed[0]
        assert outcome.unknown == {}
        assert outcome.returned == set()
    finally:
        await connection.close()
        await channel.delete_queue(full)
        await channel.delete_queue(roomy)


async def test_a_missing_exchange_costs_only_what_was_sent_to_it(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    channel = await place.link.channel()
    await channel.delete_exchange(names.step(1))
    connection = Connection(options(), name="test", random=Random(1))
    connection.start()
    publisher = Publisher(connection, timeout=PATIENCE, random=Random(1))
    key = names.lane("mail", "normal")
    try:
        outcome = await publisher.send(
            [Parcel(names.step(1), "x", "a", {}, b""), Parcel("", key, "b", {}, b"")]
        )
    finally:
        await connection.close()
    assert list(outcome.failed) == [0]
    assert "no exchange" in outcome.failed[0]
    assert outcome.taken(1)


@pytest.mark.parametrize("create", [True, False])
async def test_drift_names_the_object_the_argument_and_both_values_and_hurts_no_worker(
    place: RabbitPlace, names: Names, *, create: bool
) -> None:
    spec = QueueSpec(name="other", levels=("a", "b"))
    made = {thing.name: thing for thing in plan_queue(names, spec) if thing.kind == "queue"}
    channel = await place.link.channel()
    for name, changed in (
        (names.lane("other", "a"), {"x-delivery-limit": 7}),
        (names.rung("other", 3), {"x-message-ttl": 12}),
    ):
        await channel.declare_queue(name, {**made[name].arguments, **changed})
    without = dict(made[names.lane("other", "b")].arguments)
    del without["x-overflow"]
    await channel.declare_queue(names.lane("other", "b"), without)
    await channel.declare_exchange(names.due, "fanout", {})
    place.declared.append((names.prefix, spec))
    broker = place.make(names.prefix)
    await broker.open()
    try:
        with pytest.raises(DriftError) as drift:
            await broker.declare([spec], create=create)
    finally:
        await broker.close()
    prefix = names.prefix
    for sentence in (
        f"queue {prefix}:other:a: x-delivery-limit is '7', wanted '50'",
        f"queue {prefix}:other:b: x-overflow is absent, wanted 'reject-publish'",
        f"queue {prefix}:other.delay.3: x-message-ttl is '12', wanted '400'",
        f"exchange {prefix}:due: type is 'fanout', wanted 'topic'",
    ):
        assert sentence in str(drift.value)


async def test_the_levels_that_a_queue_has_are_named_and_nothing_is_made(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    changed = QueueSpec(name="mail", levels=("urgent", "normal"))
    [difference] = [d for d in await broker.drift([changed]) if d.setting == "levels"]
    assert (difference.wanted, difference.actual) == ("normal,urgent", "normal")
    with pytest.raises(DriftError):
        await broker.declare([changed])
    channel = await place.link.channel()
    with pytest.raises(Exception, match="no queue"):
        await channel.count(names.lane("mail", "urgent"))


async def test_levels_are_known_to_who_has_not_declared_them(
    place: RabbitPlace, names: Names
) -> None:
    levels = tuple(f"level-{n}" for n in range(8))
    one, other = place.make(names.prefix), place.make(names.prefix)
    for broker in (one, other):
        await broker.open()
    await one.declare([QueueSpec(name="mail", levels=levels)])
    await one.publish([outgoing(lane=Lane(queue="mail", level=level)) for level in levels])
    [stats] = await other.stats(["mail"])
    for broker in (one, other):
        await broker.close()
    assert stats.ready == len(levels)


async def test_a_new_queue_is_given_time_to_become_durable(
    place: RabbitPlace, names: Names
) -> None:
    patient = replace(options(), settling_in=timedelta(seconds=1))
    broker = place.make(names.prefix, patient)
    await broker.open()
    loop = asyncio.get_running_loop()
    before = loop.time()
    await broker.declare([SPEC])
    made = loop.time()
    await broker.declare([SPEC])
    again = loop.time()
    await broker.close()
    assert made - before >= 1
    assert again - made < 1


def test_the_plan_is_what_is_declared(place: RabbitPlace, names: Names) -> None:
    broker = place.make(names.prefix)
    kinds = [resource.kind for resource in broker.plan([SPEC])]
    assert len(kinds) == len([*plan_app(names), *plan_queue(names, SPEC)])
    [dead, *_] = [r for r in broker.plan([SPEC]) if r.name == names.dead("mail")]
    assert dead.settings["x-queue-type"] == "quorum"
    assert dead.settings[MARK] == "normal"
