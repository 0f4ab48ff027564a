"""Dead letters, RabbitMQ's own among them: read in order, in any number, by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from brokerq_rabbitmq import letters as reading
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.client import Channel
from brokerq_rabbitmq.letters import PAGE
from brokerq_rabbitmq.topology import Names
from brokerq_rabbitmq.wire import Received

from brokerq.broker import Ack, Dead, Delivery, Lane, Outgoing, QueueSpec, Release, Verdict
from brokerq.errors import ConnectionLostError
from brokerq.message import Message
from tests.contract.rabbitmq_place import RabbitPlace, rabbit_place

QUEUE = "mail"
LANE = Lane(queue=QUEUE, level="high")
SPEC = QueueSpec(name=QUEUE, levels=("high", "normal"))
PATIENCE = 30.0


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


async def bury(place: RabbitPlace, names: Names, count: int) -> list[bytes]:
    """Put letters where they belong, in order."""
    channel = await place.link.channel(confirms=True)
    bodies = [b"%d" % n for n in range(count)]

    async def publish(body: bytes) -> None:
        headers: dict[str, object] = {
            "bq-id": f"job-{body.decode()}",
            "bq-dead-reason": "exhausted",
        }
        await channel.publish(
            exchange="", key=names.dead(QUEUE), message_id=None, headers=headers, body=body
        )

    await asyncio.gather(*map(publish, bodies))
    await channel.close()
    return bodies


async def read(broker: RabbitBroker) -> list[bytes]:
    async with asyncio.timeout(PATIENCE), broker.browse(QUEUE) as letters:
        return [letter.body async for letter in letters]


async def read_some(broker: RabbitBroker, count: int) -> list[bytes]:
    bodies: list[bytes] = []
    async with asyncio.timeout(PATIENCE), broker.browse(QUEUE) as letters:
        async for letter in letters:
            bodies.append(letter.body)
            if len(bodies) == count:
                break
    return bodies


@pytest.mark.parametrize("count", [1, 2, PAGE, PAGE + 1, PAGE + 2, 2 * PAGE + 3])
async def test_letters_stay_in_order_however_often_and_far_they_are_read(
    place: RabbitPlace, names: Names, broker: RabbitBroker, count: int
) -> None:
    bodies = await bury(place, names, count)
    assert await read(broker) == bodies
    for far in (1, count // 2 + 1, count):
        assert await read_some(broker, far) == bodies[:far]
    assert await read(broker) == bodies


async def test_letters_that_are_removed_leave_the_others_in_order(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    bodies = await bury(place, names, PAGE + 10)
    unwanted = [0, 1, 5, PAGE - 1, PAGE, PAGE + 1, PAGE + 9]
    assert await broker.discard(QUEUE, [(f"job-{n}", 0) for n in unwanted]) == len(unwanted)
    assert await read(broker) == [body for n, body in enumerate(bodies) if n not in unwanted]
    assert (await broker.stats([QUEUE]))[0].dead == PAGE + 10 - len(unwanted)


async def test_two_who_read_at_the_same_time_both_see_everything(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    other = place.make(names.prefix)
    await other.open()
    bodies = await bury(place, names, 20)
    found = await asyncio.gather(read(broker), read(broker), read(other), read_some(other, 3))
    await other.close()
    assert list(found) == [bodies, bodies, bodies, bodies[:3]]


async def crash(place: RabbitPlace, names: Names, broker: RabbitBroker, *job_ids: str) -> None:
    """Have RabbitMQ itself make these jobs' messages dead letters."""
    headers = {"bq-v": "1", "bq-job": "job", "mine": "x"}
    for job_id in job_ids:
        message = Message(headers={**headers, "bq-id": job_id}, body=job_id.encode())
        await broker.publish([Outgoing(lane=LANE, message=message, id=job_id)])
        await place.exhaust(names.prefix, LANE)


async def letters(broker: RabbitBroker, wanted: int) -> list[Message]:
    """Read the letters as soon as there are so many."""
    found: list[Message] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) != wanted:
            async with broker.browse(QUEUE) as browsing:
                found = [letter async for letter in browsing]
    return found


async def test_what_crashes_whoever_gets_it_is_a_letter_that_says_so(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    await crash(place, names, broker, "poison")
    [letter] = await letters(broker, 1)
    assert letter.body == b"poison"
    assert letter.headers["bq-dead-reason"] == "crash_loop"
    assert letter.headers["bq-dead-queue"] == QUEUE
    assert letter.headers["mine"] == "x"
    assert await broker.discard(QUEUE, [("poison", 0)]) == 1


async def receive(
    broker: RabbitBroker, judge: Verdict, wanted: int
) -> tuple[list[Delivery], Sequence[bool]]:
    held: list[Delivery] = []
    async with broker.salvage(QUEUE, prefetch=10) as consumer, asyncio.timeout(PATIENCE):
        while len(held) < wanted:
            held += await consumer.receive(10)
        return held, await consumer.settle([(each, judge) for each in held])


async def test_salvage_shows_each_as_published_until_it_is_judged(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    await crash(place, names, broker, "a", "b")
    async with broker.salvage(QUEUE, prefetch=10) as consumer, asyncio.timeout(PATIENCE):
        [first] = await consumer.receive(1)
        assert first.message.headers == {
            "bq-v": "1",
            "bq-job": "job",
            "mine": "x",
            "bq-id": first.id,
        }
        assert first.lane == LANE
        assert await consumer.extend([first]) == [True]
        assert await consumer.settle([(first, Release(delay=timedelta(seconds=0.1)))]) == [True]
        assert await consumer.settle([(first, Ack())]) == [False]
        seen = [*await consumer.receive(1), *await consumer.receive(1)]
        assert {each.id for each in seen} == {"a", "b"}
    held, done = await receive(broker, Dead(message=first.message), 2)
    assert list(done) == [True, True]
    assert {each.id for each in held} == {"a", "b"}
    channel = await place.link.channel()
    assert (await channel.count(names.crashed(QUEUE)))[0] == 0
    assert await read(broker) == [first.message.body] * 2


async def test_what_is_acknowledged_in_salvage_is_no_dead_letter_any_more(
    place: RabbitPlace, names: Names, broker: RabbitBroker
) -> None:
    await crash(place, names, broker, "a", "b")
    await letters(broker, 2)
    held, done = await receive(broker, Ack(), 2)
    assert len(held) == 2
    assert list(done) == [True, True]
    assert await letters(broker, 0) == []


async def others_read(place: RabbitPlace, names: Names) -> list[bytes]:
    """Read as another process does, which the lock keeps out while anybody else has it."""
    other = place.make(names.prefix)
    await other.open()
    try:
        return await read(other)
    finally:
        await other.close()


async def test_letters_that_somebody_else_takes_meanwhile_end_the_walk_and_free_the_queue(
    place: RabbitPlace, names: Names, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = await bury(place, names, 5)
    get = Channel.get

    async def get_and_lose(self: Channel, queue: str) -> tuple[Received, int] | None:
        got = await get(self, queue)
        if got is not None:
            assert await self.purge(queue) == 4
        return got

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "get", get_and_lose)
        assert await read(broker) == [first]
    assert await others_read(place, names) == [first]


async def test_letters_that_the_broker_does_not_send_are_an_error_and_are_left_to_others(
    place: RabbitPlace, names: Names, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await bury(place, names, 3)

    async def consume(_: Channel, *_words: object, **_more: object) -> None:
        """Have nothing sent."""

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "consume", consume)
        patched.setattr(reading, "_DOUBT", 0.05)
        patched.setattr(reading, "_PATIENCE", 0.1)
        with pytest.raises(ConnectionLostError, match="does not send the 2 messages"):
            await read(broker)
    assert sorted(await others_read(place, names)) == bodies


async def test_who_is_cancelled_while_it_takes_the_lock_does_not_keep_it(
    place: RabbitPlace, names: Names, broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = await bury(place, names, 1)
    locked = asyncio.Event()
    lock = Channel.lock

    async def take(self: Channel, name: str) -> None:
        await lock(self, name)
        locked.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "lock", take)
        browsing = asyncio.ensure_future(read(broker))
        async with asyncio.timeout(PATIENCE):
            await locked.wait()
        browsing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await browsing
    assert await others_read(place, names) == bodies
