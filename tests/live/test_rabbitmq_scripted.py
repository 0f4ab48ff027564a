"""The client against a server that says what no test can have a real one say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from brokerq_rabbitmq import protocol
from brokerq_rabbitmq.client import Channel
from brokerq_rabbitmq.errors import ChannelRefusedError, NackedError, ReturnedError
from brokerq_rabbitmq.wire import Received
from pamqp import commands
from pamqp.commands import Basic, Connection, Queue
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from brokerq.errors import ConnectionLostError
from tests.services.amqp_peer import Peer, linked, message, publish

NO_QUEUE = commands.Channel.Close(404, "NOT_FOUND - no queue 'q'", 50, 10)


async def consume(channel: Channel, wanted: int) -> asyncio.Future[list[Received]]:
    """Begin to consume; the future has what came, when it is as much as is wanted."""
    arrived: asyncio.Future[list[Received]] = asyncio.get_running_loop().create_future()
    received: list[Received] = []

    def push(each: Received) -> None:
        received.append(each)
        if len(received) == wanted:
            arrived.set_result(received)

    def fail(error: BaseException) -> None:
        if not arrived.done():
            arrived.set_exception(error)

    await channel.consume("q", tag="c", prefetch=9, on_message=push, on_cancel=fail)
    channel.on_end(fail)
    return arrived


# Messages in pieces


@pytest.mark.parametrize("how", ["byte by byte", "at once"])
async def test_messages_come_whole_in_whatever_pieces_they_are_sent(how: str) -> None:
    sent = message(1, b"one") + message(2) + message(3, b"th", b"re", b"e") + message(4, b"", b"4")

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.give_consumer()
        if how == "at once":
            peer.send(sent)
        else:
            await peer.drip(sent)
        assert (await peer.expect(Basic.Ack)).delivery_tag == 4
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel()
        received = await (await consume(channel, 4))
        channel.ack(4, multiple=True)
        await asyncio.sleep(0)
    assert [(each.tag, each.id, each.body) for each in received] == [
        (1, "m1", b"one"), (2, "m2", b""), (3, "m3", b"three"), (4, "m4", b"4")
    ]  # fmt: skip
    assert [each.headers for each in received] == [{"n": str(n)} for n in (1, 2, 3, 4)]


async def test_a_body_is_sent_in_the_frames_that_were_agreed_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(frame_max=4_096, channel_max=1)
        await peer.give_channel(confirms=True)
        assert await peer.expect_message(10_000) == [4_088, 4_088, 1_824]
        assert await peer.expect_message(0) == []
        peer.say(Basic.Ack(2, multiple=True))
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel(confirms=True)
        await asyncio.gather(publish(channel, bytes(10_000)), publish(channel))
        with pytest.raises(NackedError, match="its headers have 5"):
            await channel.publish(
                exchange="", key="q", message_id="m", headers={"a": "b" * 5_000}, body=b""
            )
        with pytest.raises(ConnectionLostError, match="all 1 channels"):
            await link.channel()


# What is confirmed


async def test_each_message_gets_the_confirm_that_is_its_own() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel(confirms=True)
        for _ in range(7):
            await peer.expect_message(0)
        peer.say(Basic.Ack(3), Basic.Nack(2, multiple=True), Basic.Return(312, "NO_ROUTE", "", "x"))
        returned = ContentHeader(properties=Basic.Properties(message_id="m"))
        peer.send(marshal(returned, 1))
        peer.say(Basic.Nack(4), Basic.Ack(6, multiple=True))
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel(confirms=True)
        keys = ("q", "q", "q", "q", "x", "q", "q")
        sent = [publish(channel, key=key) for key in keys]
        await sent[5]
        open_still = sent.pop()
        outcomes = [type(confirm.exception()) for confirm in sent]
        nothing = type(None)
        assert outcomes == [
            NackedError, NackedError, nothing, NackedError, ReturnedError, nothing
        ]  # fmt: skip
        assert not open_still.done()
    with pytest.raises(ConnectionLostError, match="closed by this side"):
        await open_still


async def test_who_stops_waiting_for_an_answer_leaves_it_to_nobody_else() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        for count in (1, 2):
            await peer.expect(Queue.Declare)
            if count == 2:
                peer.say(Queue.DeclareOk("q", 1, 0), Queue.DeclareOk("q", 2, 0))
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel()
        impatient = asyncio.ensure_future(channel.count("q"))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await channel.count("q") == (2, 0)


# Ends of channels and connections


async def test_a_channel_that_is_closed_in_the_midst_of_a_message_fails_what_was_asked_on_it() -> (
    None
):
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.give_consumer()
        await peer.give_channel(2, confirms=True)
        await peer.expect_message(0, 2)
        await peer.expect(Queue.Declare)
        peer.send(message(1, b"half", size=8))
        peer.say(NO_QUEUE)
        await peer.expect(commands.Channel.CloseOk)
        peer.say(Basic.Ack(1), number=2)
        await peer.give_channel(1)
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel()
        arrived = await consume(channel, 1)
        other = await link.channel(confirms=True)
        confirm = publish(other)
        with pytest.raises(ChannelRefusedError, match="404 NOT_FOUND - no queue 'q'") as refused:
            await channel.count("q")
        assert (refused.value.code, refused.value.text) == (404, "NOT_FOUND - no queue 'q'")
        assert isinstance(arrived.exception(), ChannelRefusedError)
        with pytest.raises(ChannelRefusedError):
            channel.ack(1, multiple=False)
        await channel.close()
        await confirm
        assert other.alive
        again = await link.channel()
        assert (channel.alive, again.alive) == (False, True)


async def test_both_sides_may_close_a_channel_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.expect(commands.Channel.Close)
        peer.send(message(1, b"too late", consumer="?"))
        peer.say(NO_QUEUE)
        await peer.expect(commands.Channel.CloseOk)
        peer.say(commands.Channel.CloseOk())
        await peer.give_channel()
        await peer.part()

    async with linked(script) as link:
        await (await link.channel()).close()
        assert (await link.channel()).alive


async def test_a_consumer_that_the_broker_ends_is_told() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.give_consumer()
        peer.say(Basic.Cancel("c", nowait=True))
        await peer.part()

    async with linked(script) as link:
        channel = await link.channel()
        with pytest.raises(ConnectionLostError, match="cancelled the consumer of q"):
            await (await consume(channel, 1))
        assert channel.alive


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (marshal(Connection.Close(320, "CONNECTION_FORCED - bye", 0, 0), 0), "320 CONNECTION_FO"),
        (b"", "closed by the other side"),
        (b"\x15\x03\x03\x00\x02\x02\x28\x00", "unknown type 21"),
        (b"\x01\x00\x01\x00\x10\x00\x00\x00", "1048576 bytes, 131064 are agreed on"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00", "does not end there"),
        (marshal(Queue.PurgeOk(1), 1), r"Queue\.PurgeOk, which was not asked for"),
        (marshal(Basic.Ack(9), 2), "the confirm 9, which nobody waits for"),
        (marshal(Basic.Ack(2**62, multiple=True), 2), "which nobody waits for"),
        (marshal(Basic.Deliver("?", 1, routing_key=""), 1), "unknown consumer"),
        (marshal(ContentHeader(body_size=1), 1), "a content header where none is due"),
        (message(1, b"ab", b"c", size=2), "a body where none is due"),
        (message(1, b"abc", size=2), "longer than the 2 bytes"),
        (message(1, b"a", size=2) + message(2, b"b"), "in the midst of a message"),
        (marshal(Queue.PurgeOk(1), 7), "channel 7, which is not open"),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x99\x00\x01\xce", r"unknown method 153\.1"),
        (b"\x08\x00\x01\x00\x00\x00\x00\xce", "type 8 on a channel"),
        (b"\x03\x00\x00\x00\x00\x00\x00\xce", "type 3 that belongs to no channel"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_the_end_of_a_connection_fails_all_that_waits_and_says_why(
    last: bytes, why: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.give_consumer()
        await peer.give_channel(2, confirms=True)
        await peer.expect_message(0, 2)
        await peer.expect(Queue.Declare, 2)
        peer.say(Connection.Blocked("memory"), number=0)
        peer.send(last)
        if last:
            said = await peer.until_gone()
            assert said == (marshal(Connection.CloseOk(), 0) if "320" in why else b"")

    async with linked(script) as link:
        ended: list[BaseException] = []
        link.on_end(ended.append)
        channel = await link.channel()
        arrived = await consume(channel, 9)
        other = await link.channel(confirms=True)
        counting = asyncio.ensure_future(other.count("q"))
        waiting: list[asyncio.Future[Any]] = [publish(other), counting, arrived]
        for each in waiting:
            with pytest.raises(ConnectionLostError, match=why):
                await each
        with pytest.raises(ConnectionLostError, match=why):
            await link.until_unblocked()
        with pytest.raises(ConnectionLostError, match=why):
            await link.channel()
        with pytest.raises(ConnectionLostError, match=why):
            publish(other)
        assert len(ended) == 1
        assert [each.alive for each in (link, channel, other)] == [False] * 3


async def test_a_peer_that_does_not_say_goodbye_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT", 0.1)

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.give_channel()
        await peer.until_gone()

    async with linked(script) as link:
        channel = await link.channel()
        waiting = asyncio.ensure_future(channel.count("q"))
        await asyncio.sleep(0)
        await link.close()
        with pytest.raises(ConnectionLostError, match="closed by this side"):
            await waiting
