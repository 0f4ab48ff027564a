"""Publishing against a scripted server that refuses a message by closing the channel it came on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.publisher import Parcel, Publisher
from pamqp.commands import Basic, Channel

from tests.services.amqp_peer import PATIENCE, Peer, Script, scripted

NO_EXCHANGE = Channel.Close(404, "NOT_FOUND - no exchange 'x' in vhost '/'", 60, 40)
TOO_LARGE = Channel.Close(406, "PRECONDITION_FAILED - message size 9 is larger than 5", 60, 40)
NO_RIGHT = Channel.Close(403, "ACCESS_REFUSED - access to exchange 'x' refused", 60, 40)


@asynccontextmanager
async def publishing(
    script: Script, *, timeout: float = 10 * PATIENCE
) -> AsyncGenerator[tuple[Publisher, Connection]]:
    """Publish to the script's server, if not said otherwise with more time than the test has."""
    async with scripted(script) as options, asyncio.timeout(PATIENCE):
        connection = Connection(options, name="test", random=Random(1))
        connection.start()
        try:
            yield Publisher(connection, timeout=timeout, random=Random(1)), connection
        finally:
            await connection.close()


def parcels(count: int, exchange: str = "") -> list[Parcel]:
    return [Parcel(exchange, "q", f"m{n}", {}, b"x" * n) for n in range(count)]


async def refuse(peer: Peer, close: Channel.Close) -> None:
    peer.say(close)
    await peer.expect(Channel.CloseOk)


async def test_what_was_on_its_way_to_an_exchange_that_is_gone_may_have_been_taken() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        for size in range(4):
            await peer.expect_message(size)
        peer.say(Basic.Ack(2))
        await refuse(peer, NO_EXCHANGE)
        await peer.give_channel(confirms=True)
        await peer.expect_message(0)
        await refuse(peer, NO_EXCHANGE)
        await peer.part()

    async with publishing(script) as (publisher, _):
        outcome = await publisher.send(parcels(4, "x"))
    assert (outcome.failed, list(outcome.unknown)) == ({}, [0, 2, 3])
    assert outcome.taken(1)
    assert "no exchange 'x'" in outcome.unknown[3]


@pytest.mark.parametrize("close", [TOO_LARGE, NO_RIGHT], ids=["too large", "no right"])
async def test_what_is_refused_among_others_is_told_apart_on_a_channel_that_nobody_shares(
    close: Channel.Close,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        for size in range(3):
            await peer.expect_message(size)
        await refuse(peer, close)
        await peer.give_channel(confirms=True)
        await peer.expect_message(0)
        peer.say(Basic.Ack(1))
        await peer.expect_message(1)
        await refuse(peer, close)
        await peer.give_channel(confirms=True)
        await peer.expect_message(2)
        peer.say(Basic.Ack(1))
        await peer.expect(Channel.Close)
        peer.say(Channel.CloseOk())
        await peer.part()

    async with publishing(script) as (publisher, _):
        outcome = await publisher.send(parcels(3))
    assert (outcome.failed, outcome.unknown) == ({}, {1: close.reply_text})


@pytest.mark.parametrize("close", [NO_EXCHANGE, TOO_LARGE, NO_RIGHT], ids=["404", "406", "403"])
async def test_what_is_refused_alone_was_not_taken_and_is_not_sent_again(
    close: Channel.Close,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        await peer.expect_message(0)
        await refuse(peer, close)
        await peer.part()

    async with publishing(script) as (publisher, _):
        outcome = await publisher.send(parcels(1, "x"))
    assert (outcome.failed, outcome.unknown) == ({0: close.reply_text}, {})


async def test_a_confirm_that_overtook_the_refusal_counts() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        await peer.expect_message(0)
        await peer.expect_message(1)
        peer.say(Basic.Ack(2), NO_EXCHANGE)
        await peer.expect(Channel.CloseOk)
        await peer.part()

    async with publishing(script) as (publisher, _):
        outcome = await publisher.send(parcels(2, "x"))
    assert (list(outcome.failed), outcome.unknown) == ([0], {})


async def test_who_publishes_while_the_broker_is_closed_learns_it_at_once() -> None:
    sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        await peer.expect_message(0)
        sent.set()
        await peer.part()

    async with publishing(script) as (publisher, connection):
        sending = asyncio.ensure_future(publisher.send(parcels(1)))
        await sent.wait()
        await connection.close()
        outcome = await sending
    assert list(outcome.unknown) == [0]
    assert "not open" in outcome.unknown[0]


async def test_a_channel_with_confirms_that_were_given_up_is_left_when_nobody_uses_it() -> None:
    patient_sent, hasty_over = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(1, confirms=True)
        await peer.expect_message(0)
        await peer.expect_message(0)
        patient_sent.set()
        await hasty_over.wait()
        await peer.give_channel(2, confirms=True)
        await peer.expect_message(0, 2)
        peer.say(Basic.Ack(1), number=2)
        peer.say(Basic.Ack(2), number=1)
        await peer.expect(Channel.Close, 1)
        peer.say(Basic.Ack(1), Channel.CloseOk(), number=1)
        await peer.part()

    async with publishing(script) as (publisher, _):
        hasty = asyncio.ensure_future(publisher.send(parcels(1)))
        patient = asyncio.ensure_future(publisher.send(parcels(1)))
        await patient_sent.wait()
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        hasty_over.set()
        assert (await publisher.send(parcels(1))).taken(0)
        assert (await patient).taken(0)


async def test_what_is_not_confirmed_in_time_is_unknown_and_the_next_has_another_channel() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(1, confirms=True)
        await peer.expect_message(0)
        await peer.expect(Channel.Close, 1)
        await peer.give_channel(2, confirms=True)
        peer.say(Channel.CloseOk(), number=1)
        await peer.expect_message(0, 2)
        peer.say(Basic.Ack(1), number=2)
        await peer.part()

    async with publishing(script, timeout=0.5) as (publisher, _):
        assert list((await publisher.send(parcels(1))).unknown) == [0]
        assert (await publisher.send(parcels(1))).taken(0)
