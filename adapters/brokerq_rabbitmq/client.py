"""What the rest of the adapter says to RabbitMQ: on connections, and on channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pamqp.commands import Basic, Exchange, Queue

from brokerq_rabbitmq.assembly import OnMessage
from brokerq_rabbitmq.channel import RawChannel
from brokerq_rabbitmq.handshake import connect
from brokerq_rabbitmq.options import Address, Options
from brokerq_rabbitmq.protocol import OnEnd, Wire
from brokerq_rabbitmq.versions import Version, read_version
from brokerq_rabbitmq.wire import Received

Arguments = Mapping[str, str | int]


class Link:
    """One connection to one node. Once lost it stays lost."""

    def __init__(self, wire: Wire, version: str) -> None:
        self._wire = wire
        self.version: Version = read_version(version)

    @classmethod
    async def open(cls, address: Address, options: Options, *, name: str) -> Link:
        """Connect, within `connect_timeout`. Raises `ConnectionLostError`."""
        return cls(*await connect(address, options, name=name))

    @property
    def alive(self) -> bool:
        """Whether it is not known to be lost."""
        return self._wire.alive

    def on_end(self, callback: OnEnd) -> None:
        """Have the callback called once, when the connection is lost or closed."""
        self._wire.on_end(callback)

    async def until_unblocked(self) -> None:
        """Wait while the broker, out of memory or disk, wants nothing published.

        Raises `ConnectionLostError`.
        """
        await self._wire.until_ready()

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel. Raises `ConnectionLostError`."""
        channel = Channel(self._wire)
        await channel.open(confirms=confirms)
        return channel

    async def close(self) -> None:
        """Say goodbye, and hang up in any case."""
        await self._wire.close()

    def hang_up(self) -> None:
        """Close the socket without a word."""
        self._wire.hang_up("the connection to RabbitMQ was cut by this side")


class Channel(RawChannel):
    """One channel. The broker closes it for a mistake; the connection and others go on.

    Every method raises `ChannelRefusedError` then, and `ConnectionLostError` when it is gone. One
    that is cancelled while it waits has been said all the same.
    """

    async def consume(
        self,
        queue: str,
        *,
        tag: str,
        prefetch: int,
        on_message: OnMessage,
        on_cancel: OnEnd,
        no_ack: bool = False,
    ) -> None:
        """Have what comes to the queue handed to `on_message`, `prefetch` of it unacknowledged.

        `on_cancel` is called when the broker ends this, as when the queue is deleted. `no_ack`:
        what is sent is removed at once, however much it is.
        """
        if not no_ack:
            await self._ask(Basic.Qos(prefetch_count=prefetch), Basic.QosOk)
        self._expect_messages(tag, queue, on_message, on_cancel)
        consume = Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack)
        await self._ask(consume, Basic.ConsumeOk)

    async def cancel(self, tag: str) -> None:
        """End a consumer; what it was handed stays with the channel."""
        await self._ask(Basic.Cancel(tag), Basic.CancelOk)

    async def get(self, queue: str) -> tuple[Received, int] | None:
        """Take one message and learn how many more there are; None: the queue is empty."""
        answer = await self._ask_any(Basic.Get(queue=queue), Basic.GetOk, Basic.GetEmpty)
        if isinstance(answer, Basic.GetEmpty):
            return None
        return cast("tuple[Received, int]", answer)

    async def count(self, queue: str) -> tuple[int, int]:
        """Return how many messages are ready in a queue, and its consumers.

        Raises `ChannelRefusedError` where there is no such queue.
        """
        answer = await self._ask(Queue.Declare(queue=queue, passive=True), Queue.DeclareOk)
        return answer.message_count or 0, answer.consumer_count or 0

    async def declare_queue(self, name: str, arguments: Arguments) -> None:
        """Make a durable queue, or make sure that it is as it should be."""
        declare = Queue.Declare(queue=name, durable=True, arguments=dict(arguments))
        await self._ask(declare, Queue.DeclareOk)

    async def lock(self, name: str) -> None:
        """Make a queue that no other connection can make until this one ends."""
        await self._ask(Queue.Declare(queue=name, exclusive=True), Queue.DeclareOk)

    async def declare_exchange(
        self, name: str, kind: str, arguments: Arguments, *, passive: bool = False
    ) -> None:
        """Make a durable exchange, or make sure that it is as it should be, or just there."""
        declare = Exchange.Declare(
            exchange=name,
            exchange_type=kind,
            passive=passive,
            durable=True,
            arguments=dict(arguments),
        )
        await self._ask(declare, Exchange.DeclareOk)

    async def bind_queue(self, queue: str, exchange: str, key: str) -> None:
        """Have the exchange send to the queue what has such a key."""
        bind = Queue.Bind(queue=queue, exchange=exchange, routing_key=key)
        await self._ask(bind, Queue.BindOk)

    async def bind_exchange(self, target: str, source: str, key: str) -> None:
        """Have one exchange send to another what has such a key."""
        bind = Exchange.Bind(destination=target, source=source, routing_key=key)
        await self._ask(bind, Exchange.BindOk)

    async def purge(self, queue: str) -> int:
        """Remove what is ready; return how many."""
        return (await self._ask(Queue.Purge(queue=queue), Queue.PurgeOk)).message_count or 0

    async def delete_queue(self, queue: str) -> None:
        """Remove a queue with all that is in it."""
        await self._ask(Queue.Delete(queue=queue), Queue.DeleteOk)

    async def delete_exchange(self, exchange: str) -> None:
        """Remove an exchange."""
        await self._ask(Exchange.Delete(exchange=exchange), Exchange.DeleteOk)
