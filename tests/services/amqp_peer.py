"""A RabbitMQ that does what a script says, frame by frame: what a real one does seldom or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from brokerq_rabbitmq.client import Channel as ClientChannel
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.options import Address, Options
from pamqp.base import Frame as Method
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Confirm, Connection
from pamqp.frame import FrameTypes, marshal, unmarshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from tests.services.ports import HOST

M = TypeVar("M", bound=FrameTypes)

PREAMBLE = b"AMQP\x00\x00\x09\x01"
PATIENCE = 10.0


class Peer:
    """The server's end of one connection.

    Attributes:
        heartbeats: How many came.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heartbeats = 0
        self._reader = reader
        self._writer = writer

    async def read(self) -> tuple[int, FrameTypes]:
        """Return the next frame that is no heartbeat, after the number of its channel."""
        while True:
            head = await self._reader.readexactly(7)
            rest = await self._reader.readexactly(int.from_bytes(head[3:], "big") + 1)
            _, number, frame = unmarshal(head + rest)
            if not isinstance(frame, Heartbeat):
                return number, frame
            self.heartbeats += 1

    async def expect(self, kind: type[M], number: int = 1) -> M:
        """Return the next frame, which must be of this kind and channel."""
        channel, frame = await self.read()
        assert isinstance(frame, kind), frame
        assert channel == number
        return frame

    def say(self, *methods: Method, number: int = 1) -> None:
        """Send methods."""
        self.send(b"".join(marshal(method, number) for method in methods))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def drip(self, data: bytes) -> None:
        """Send bytes one by one."""
        for position in range(len(data)):
            self._writer.write(data[position : position + 1])
            await self._writer.drain()
            await asyncio.sleep(0)

    async def expect_preamble(self) -> None:
        """Take the client's first word."""
        assert await self._reader.readexactly(8) == PREAMBLE

    async def greet(self, *, frame_max: int = 131_072, channel_max: int = 2_047) -> None:
        """Have the client log in."""
        await self.expect_preamble()
        self.say(Connection.Start(server_properties={"version": "4.0.5"}), number=0)
        await self.expect(Connection.StartOk, 0)
        self.say(Connection.Tune(channel_max, frame_max, 60), number=0)
        await self.expect(Connection.TuneOk, 0)
        await self.expect(Connection.Open, 0)
        self.say(Connection.OpenOk(), number=0)

    async def give_channel(self, number: int = 1, *, confirms: bool = False) -> None:
        """Open a channel."""
        await self.expect(Channel.Open, number)
        self.say(Channel.OpenOk(), number=number)
        if confirms:
            await self.expect(Confirm.Select, number)
            self.say(Confirm.SelectOk(), number=number)

    async def give_consumer(self, tag: str = "c") -> None:
        """Have what is delivered consumed."""
        await self.expect(Basic.Qos)
        self.say(Basic.QosOk())
        assert (await self.expect(Basic.Consume)).consumer_tag == tag
        self.say(Basic.ConsumeOk(tag))

    async def expect_message(self, size: int, number: int = 1) -> list[int]:
        """Take a message with a body of so many bytes; return how many came in each frame."""
        await self.expect(Basic.Publish, number)
        assert (await self.expect(ContentHeader, number)).body_size == size
        sizes: list[int] = []
        while sum(sizes) < size:
            sizes.append(len(await self.expect(ContentBody, number)))
        return sizes

    async def part(self) -> None:
        """Let the client go in order."""
        while not isinstance((await self.read())[1], Connection.Close):
            continue
        self.say(Connection.CloseOk(), number=0)
        await self.until_gone()

    async def until_gone(self) -> bytes:
        """Wait until the client has hung up; return what it has said before."""
        try:
            return await self._reader.read(-1)
        except ConnectionError:
            return b""


def message(
    tag: int, *bodies: bytes, consumer: str = "c", size: int | None = None, number: int = 1
) -> bytes:
    """Return the frames of a delivery."""
    properties = Basic.Properties(message_id=f"m{tag}", headers={"n": str(tag)}, delivery_mode=2)
    length = sum(map(len, bodies)) if size is None else size
    frames: list[FrameTypes] = [
        Basic.Deliver(consumer, tag, exchange="", routing_key="q"),
        ContentHeader(body_size=length, properties=properties),
        *map(ContentBody, bodies),
    ]
    return b"".join(marshal(frame, number) for frame in frames)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncGenerator[Options]:
    """Serve one connection by the script, which must come to its end; yield how to connect."""
    played: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Peer(reader, writer))
        except BaseException as exc:  # noqa: BLE001 - the test has it
            played.set_exception(exc)
        else:
            played.set_result(None)
        finally:
            writer.close()

    server = await asyncio.start_server(play, HOST, 0)
    port: int = server.sockets[0].getsockname()[1]
    async with server:
        yield Options(
            addresses=(Address(host=HOST, port=port),), connect_timeout=timedelta(seconds=PATIENCE)
        )
        async with asyncio.timeout(PATIENCE):
            await played


@asynccontextmanager
async def linked(script: Script, *, heartbeat: int = 15) -> AsyncGenerator[Link]:
    """Connect to the script's server; nothing of the connection may be left at the end."""
    before = asyncio.all_tasks()
    async with scripted(script) as options, asyncio.timeout(2 * PATIENCE):
        own = replace(options, heartbeat=timedelta(seconds=heartbeat))
        link = await Link.open(own.addresses[0], own, name="test")
        try:
            yield link
        finally:
            await link.close()
    assert not link.alive
    assert asyncio.all_tasks() == before


def publish(
    channel: ClientChannel, body: bytes = b"", *, key: str = "q", message_id: str | None = "m"
) -> asyncio.Future[None]:
    """Publish a message that is like all others."""
    return channel.publish(exchange="", key=key, message_id=message_id, headers={}, body=body)
