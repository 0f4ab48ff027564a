"""The client against a scripted server that is slow, silent, blocked, or no RabbitMQ at all."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
from brokerq_rabbitmq.client import Link
from pamqp import commands
from pamqp.base import Frame as Method
from pamqp.commands import Basic, Connection

from brokerq.errors import ConnectionLostError
from tests.services.amqp_peer import Peer, linked, publish, scripted

# How a connection begins


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Connection.Start(mechanisms="EXTERNAL KERBEROS"), "no login by PLAIN: EXTERNAL KERBEROS"),
        (Connection.Close(403, "ACCESS_REFUSED - wrong password", 0, 0), "403 ACCESS_REFUSED - wr"),
        (Connection.Tune(), "Connection.Tune, which was not asked for"),
        (None, "it was closed by the other side"),
    ],
    ids=["another way", "refused", "out of turn", "hung up on"],
)
async def test_a_login_that_fails_says_why(answer: Method | None, why: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_preamble()
        if answer is not None:
            peer.say(answer, number=0)
            await peer.until_gone()

    async with scripted(script) as options:
        with pytest.raises(ConnectionLostError, match=why):
            await Link.open(options.addresses[0], options, name="test")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_preamble()
        await peer.until_gone()

    async with scripted(script) as options:
        hasty = replace(options, connect_timeout=timedelta(seconds=0.2))
        with pytest.raises(ConnectionLostError, match="no answer in time"):
            await Link.open(hasty.addresses[0], hasty, name="test")


async def test_a_server_without_tls_is_no_one_to_talk_to() -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"AMQP\x00\x00\x09\x01")
        await peer.until_gone()

    async with scripted(script) as options:
        secure = replace(options, tls=ssl.create_default_context())
        with pytest.raises(ConnectionLostError, match=r"(?i)ssl"):
            await Link.open(secure.addresses[0], secure, name="test")


# Slow and silent peers


async def test_a_silent_peer_is_noticed_and_is_told_meanwhile_that_we_are_there() -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await peer.greet()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await peer.read()

    async with linked(script, heartbeat=1) as link:
        loop = asyncio.get_running_loop()
        began, ended = loop.time(), asyncio.Event()
        link.on_end(lambda _: ended.set())
        await ended.wait()
        assert 2 <= loop.time() - began < 6
        with pytest.raises(ConnectionLostError, match="nothing came for 2 s"):
            await link.channel()
    assert peers[0].heartbeats >= 2


async def test_a_peer_that_says_no_more_than_that_it_is_there_is_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(8):
            peer.send(b"\x08\x00\x00\x00\x00\x00\x00\xce")
            await asyncio.sleep(0.4)
        await peer.give_channel()
        await peer.part()

    async with linked(script, heartbeat=1) as link:
        assert (await link.channel()).alive


async def test_nothing_is_published_while_the_broker_wants_nothing() -> None:
    blocked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        peer.say(Connection.Blocked("memory"), number=0)
        peer.say(commands.Channel.Close(406, "x", 0, 0), number=1)
        await peer.expect(commands.Channel.CloseOk)
        await blocked.wait()
        peer.say(Connection.Unblocked(), number=0)
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel(confirms=True)
        ended = asyncio.Event()
        channel.on_end(lambda _: ended.set())
        await ended.wait()
        waiting = asyncio.ensure_future(link.until_unblocked())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        blocked.set()
        await waiting


async def test_who_publishes_faster_than_the_peer_reads_waits() -> None:
    """What waits to be sent stays below a few messages, however many there are."""
    reading = asyncio.Event()
    size, most = 1_000_000, 200

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        await reading.wait()
        for _ in range(most):
            await peer.expect_message(size)
        peer.say(Basic.Ack(most, multiple=True))
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel(confirms=True)
        body = bytes(size)
        sent: list[asyncio.Future[None]] = []

        async def send() -> None:
            while len(sent) < most:
                await channel.until_ready()
                sent.append(publish(channel, body))

        sending = asyncio.ensure_future(send())
        stuck, before = 0, -1
        while stuck < 20:  # the system's buffers take some megabytes
            stuck = stuck + 1 if len(sent) == before else 0
            before = len(sent)
            await asyncio.sleep(0.01)
        assert before < most // 2
        reading.set()
        await sending
        await asyncio.gather(*sent)
