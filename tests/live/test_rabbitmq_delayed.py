"""Delayed messages of a process that has declared nothing: it has to ask where they will go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from brokerq_rabbitmq.broker import RabbitBroker
from pamqp.commands import Channel, Connection

from brokerq.broker import Lane, Outgoing
from brokerq.clock import SystemClock
from brokerq.errors import PublishError
from brokerq.message import Message
from tests.services.amqp_peer import PATIENCE, Peer, Script, scripted

LANE = Lane(queue="mail")
IMMEDIATE = Outgoing(lane=LANE, message=Message(headers={}, body=b""), id="one")
DELAYED = replace(IMMEDIATE, id="two", delay=timedelta(seconds=5))


@asynccontextmanager
async def talking(script: Script) -> AsyncGenerator[RabbitBroker]:
    """Yield a broker that talks to the script's server, and does not wait long."""
    async with scripted(script) as options, asyncio.timeout(PATIENCE):
        hasty = replace(options, publish_timeout=timedelta(seconds=0.3))
        broker = RabbitBroker(hasty, prefix="app", clock=SystemClock(), random=Random(1))
        await broker.open()
        try:
            yield broker
        finally:
            await broker.close()


async def test_while_the_broker_is_blocked_it_is_asked_nothing_and_nothing_is_sent() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        peer.say(Connection.Blocked("memory"), number=0)
        await peer.expect(Connection.Close, 0)
        peer.say(Connection.CloseOk(), number=0)
        await peer.until_gone()

    async with talking(script) as broker:
        with pytest.raises(PublishError, match=r"did not tell within 0\.3 s") as refused:
            await broker.publish([IMMEDIATE, DELAYED])
        assert (refused.value.failed, refused.value.unknown) == ((0, 1), ())


async def test_a_broker_that_does_not_answer_is_waited_for_no_longer_than_to_publish() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Channel.Open)
        await peer.part()

    async with talking(script) as broker:
        with pytest.raises(PublishError, match=r"did not tell within 0\.3 s") as refused:
            await broker.publish([DELAYED])
        assert (refused.value.failed, refused.value.unknown) == ((0,), ())


async def test_a_connection_that_is_lost_meanwhile_has_sent_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Channel.Open)
        peer.say(Connection.Close(320, "CONNECTION_FORCED - bye", 0, 0), number=0)
        await peer.until_gone()

    async with talking(script) as broker:
        with pytest.raises(PublishError, match="320 CONNECTION_FORCED") as refused:
            await broker.publish([DELAYED])
        assert (refused.value.failed, refused.value.unknown) == ((0,), ())
