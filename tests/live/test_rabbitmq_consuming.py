"""Consumers that do not come about, or fail: nothing of them is left, and nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
import pytest_asyncio
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.census import Share, ask
from brokerq_rabbitmq.client import Channel, Link
from brokerq_rabbitmq.errors import ChannelRefusedError
from brokerq_rabbitmq.topology import Names
from pamqp import commands
from pamqp.commands import Basic, Queue

from brokerq.broker import Ack, Lane, Outgoing, QueueSpec
from brokerq.errors import ConnectionLostError
from brokerq.message import Message
from tests.contract.rabbitmq_place import RabbitPlace, rabbit_place
from tests.services.amqp_peer import Peer, linked, message

LANE = Lane(queue="mail")
SPEC = QueueSpec(name="mail")
PATIENCE = 10.0
IDLE = b'["one", {}]'
BUSY = b'["other", {"mail": [1, 0]}]'


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


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Channel]:
    """The channels that are opened in this test."""
    channels: list[Channel] = []
    open_channel = Link.channel

    async def channel(self: Link, *, confirms: bool = False) -> Channel:
        channels.append(await open_channel(self, confirms=confirms))
        return channels[-1]

    monkeypatch.setattr(Link, "channel", channel)
    return channels


def outgoing(name: str) -> Outgoing:
    return Outgoing(lane=LANE, message=Message(headers={}, body=b""), id=name)


async def test_a_consumer_that_cannot_join_the_census_leaves_no_channel(
    place: RabbitPlace, names: Names, broker: RabbitBroker, opened: list[Channel]
) -> None:
    channel = await place.link.channel()
    await channel.delete_exchange(names.census)
    opened.clear()
    with pytest.raises(ChannelRefusedError, match="404"):
        async with broker.consume(LANE, prefetch=1):
            pytest.fail("it may not be counted")
    assert [each.alive for each in opened] == [False, False]


async def test_a_consumer_that_is_given_up_while_it_joins_the_census_leaves_no_channel(
    broker: RabbitBroker, opened: list[Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = asyncio.Event()

    async def bind(_: Channel, *_words: str) -> None:
        joining.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Channel, "bind_queue", bind)

    async def consume() -> None:
        async with broker.consume(LANE, prefetch=1):
            pytest.fail("it may not be counted")

    consuming = asyncio.ensure_future(consume())
    async with asyncio.timeout(PATIENCE):
        await joining.wait()
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert [each.alive for each in opened] == [False, False]


async def test_a_process_that_answers_twice_hides_no_other() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.expect(Queue.Declare)
        peer.say(Queue.DeclareOk("listeners", 0, 2))
        await peer.expect(commands.Channel.Close)
        peer.say(commands.Channel.CloseOk())
        await peer.give_channel()
        await peer.expect(Basic.Consume)
        peer.say(Basic.ConsumeOk("answers"))
        await peer.expect_message(0)
        for tag, answer in enumerate((IDLE, IDLE, BUSY), 1):
            peer.send(message(tag, answer, consumer="answers"))
        await peer.expect(commands.Channel.Close)
        peer.say(commands.Channel.CloseOk())
        await peer.part()

    async with linked(script) as link:
        shares = await ask(link, link, Names("app"))
    assert shares == [{}, {"mail": Share(held=1, unread=0)}]


async def test_more_than_the_protocol_can_say_is_as_much_as_it_can(broker: RabbitBroker) -> None:
    await broker.publish([outgoing("one")])
    async with broker.consume(LANE, prefetch=100_000) as consumer, asyncio.timeout(PATIENCE):
        [held] = await consumer.receive(100_000)
        assert await consumer.settle([(held, Ack())]) == [True]


async def test_a_consumer_that_fails_by_a_mistake_says_so_to_who_receives(
    broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with broker.consume(LANE, prefetch=1) as consumer:

        async def fail(_: Channel, *_words: object, **_more: object) -> None:
            raise ValueError("a mistake")

        monkeypatch.setattr(Channel, "consume", fail)
        with pytest.raises(ConnectionLostError, match="a mistake"):
            async with asyncio.timeout(PATIENCE):
                await consumer.receive(1)
    assert "the consumer of" in caplog.text
