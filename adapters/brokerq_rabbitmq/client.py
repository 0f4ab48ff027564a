"""All use of the client library: connections, channels, and what is said on them.

aiormq is what aio-pika stands on, and costs half of it. Everything else here speaks through `Link`
and `Channel`, so that a leaner client can take its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar, cast

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.connection import Connection
from yarl import URL

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq.errors import (
    ACCESS_REFUSED,
    LOCKED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    ChannelRefusedError,
)
from brokerq_rabbitmq.options import Address, Options
from brokerq_rabbitmq.transport import Transport
from brokerq_rabbitmq.versions import Version, read_version
from brokerq_rabbitmq.wire import HeaderTable, Received

# What it says is for whoever has configured logging; we raise what matters.
logging.getLogger("aiormq").addHandler(logging.NullHandler())

logger = logging.getLogger("brokerq.rabbitmq")

T = TypeVar("T")

Arguments = Mapping[str, str | int]
OnMessage = Callable[[Received], None]
OnEnd = Callable[[BaseException], None]

PERSISTENT = 2
_CLOSE_TIMEOUT = 3.0
_NO_LIMIT = 0
_CODES: dict[type[BaseException], int] = {
    aiormq.ChannelAccessRefused: ACCESS_REFUSED,
    aiormq.ChannelNotFoundEntity: NOT_FOUND,
    aiormq.ChannelLockedResource: LOCKED,
    aiormq.ChannelPreconditionFailed: PRECONDITION_FAILED,
}


class NackedError(Exception):
    """The broker says that it did not take a message: its queue is full, or cannot store it now."""


class ReturnedError(Exception):
    """No queue takes a message, and the broker sent it back."""


class Link:
    """One connection to one node. Once lost it stays lost."""

    def __init__(self, connection: Connection, transport: Transport) -> None:
        self._connection = connection
        self._transport = transport
        self.version: Version = read_version(str(connection.server_properties.get("version", "")))

    @classmethod
    async def open(cls, address: Address, options: Options, *, name: str) -> Link:
        """Connect, within `connect_timeout`. Raises `ConnectionLostError`."""
        heartbeat = int(options.heartbeat.total_seconds())
        query = {"heartbeat": str(heartbeat), "name": name}
        if options.user is None:
            query["auth"] = "external"
        url = URL.build(
            scheme="amqps" if options.tls else "amqp",
            user=options.user,
            password=options.password if options.user is not None else None,
            host=address.host,
            port=address.port,
            path=f"/{options.vhost.replace('/', '%2F')}",
            query=query,
        )
        transport = Transport(address, options)
        connection = Connection(url, transport_factory=transport)
        try:
            async with asyncio.timeout(options.connect_timeout.total_seconds()):
                await _carry(cast("_Resource", connection).connect())
        except TimeoutError as exc:
            raise ConnectionLostError("no answer in time") from exc
        return cls(connection, transport)

    @property
    def alive(self) -> bool:
        """Whether it is not known to be lost."""
        return self._connection.is_opened

    def on_end(self, callback: OnEnd) -> None:
        """Have the callback called once, when the connection is lost or closed."""
        _on_end(cast("_Resource", self._connection), callback)

    async def until_unblocked(self) -> None:
        """Wait while the broker, out of memory or disk, wants nothing published."""
        await self._connection.ready()

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel. Raises `ConnectionLostError`."""
        opening = cast(
            "Awaitable[aiormq.Channel]",
            # A bounded buffer of frames costs a change of task for each ten of them.
            self._connection.channel(publisher_confirms=confirms, frame_buffer_size=_NO_LIMIT),
        )
        try:
            return Channel(await _carry(opening))
        except RuntimeError as exc:  # what aiormq says of a connection that it has closed
            raise ConnectionLostError(f"the connection to RabbitMQ was lost: {exc!r}") from exc

    async def close(self) -> None:
        """Say goodbye, and hang up in any case."""
        if self._connection.is_closed:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._connection.close(aiormq.AMQPConnectionError("closed by this side"))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the socket is closed next
            logger.debug("RabbitMQ's connection did not close in order: %r", exc)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the socket without a word."""
        if self._transport.writer is not None:
            self._transport.writer.transport.abort()


class Channel:
    """One channel. The broker closes it for a mistake; the connection and others go on.

    Every method raises `ChannelRefusedError` then, and `ConnectionLostError` when it is gone.
    """

    def __init__(self, channel: aiormq.Channel) -> None:
        self._channel = channel
        self._in_flight: dict[str | None, asyncio.Future[None]] = {}

    @property
    def alive(self) -> bool:
        """Whether it is not known to be closed."""
        return not self._channel.is_closed

    def on_end(self, callback: OnEnd) -> None:
        """Have the callback called once, when the channel is closed by anyone."""
        _on_end(cast("_Resource", self._channel), callback)

    async def publish(
        self,
        *,
        exchange: str,
        key: str,
        message_id: str | None,
        headers: HeaderTable,
        body: bytes,
    ) -> None:
        """Return when the broker has taken the message; the channel must be one with confirms.

        Raises `NackedError` and `ReturnedError`: not taken. Any other error: nobody knows.
        """
        properties = aiormq.spec.Basic.Properties(
            delivery_mode=PERSISTENT,
            message_id=message_id,
            headers=headers,  # type: ignore[arg-type]  # what pamqp can encode, and no more
        )
        while (earlier := self._in_flight.get(message_id)) is not None:
            await asyncio.wait([earlier])  # the client tells what comes back by its id alone
        done = asyncio.get_running_loop().create_future()
        if message_id is not None:
            self._in_flight[message_id] = done
        try:
            await self._channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                properties=properties,
                mandatory=True,
                wait=False,
            )
        except aiormq.PublishError as exc:
            raise ReturnedError(str(exc)) from exc
        except aiormq.DeliveryError as exc:
            raise NackedError(str(exc)) from exc
        except BaseException as exc:
            raise _ours(exc) from exc
        finally:
            self._in_flight.pop(message_id, None)
            done.set_result(None)

    async def tell(
        self, exchange: str, key: str, body: bytes, *, reply_to: str | None = None
    ) -> None:
        """Send something that may get lost; the channel must be one without confirms."""
        properties = aiormq.spec.Basic.Properties(reply_to=reply_to)
        await _carry(
            self._channel.basic_publish(
                body, exchange=exchange, routing_key=key, properties=properties, wait=False
            )
        )

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

        async def deliver(message: DeliveredMessage) -> None:
            on_message(_receive(message))

        def cancelled(frame: aiormq.spec.Basic.Cancel) -> None:
            if frame.consumer_tag == tag:
                on_cancel(ConnectionLostError(f"RabbitMQ has cancelled the consumer of {queue}"))

        self._channel.on_consumer_cancel_callbacks.add(cancelled)
        if not no_ack:
            await _carry(self._channel.basic_qos(prefetch_count=prefetch))
        await _carry(self._channel.basic_consume(queue, deliver, consumer_tag=tag, no_ack=no_ack))

    async def cancel(self, tag: str) -> None:
        """End a consumer; what it was handed stays with the channel."""
        await _carry(self._channel.basic_cancel(tag))

    async def get(self, queue: str) -> tuple[Received, int] | None:
        """Take one message and learn how many more there are; None: the queue is empty."""
        message = await _carry(self._channel.basic_get(queue))
        if message.message_count is None:
            return None
        return _receive(message), message.message_count

    async def ack(self, tag: int, *, multiple: bool) -> None:
        """Remove a message for good; `multiple`: also all that were handed over before it."""
        await _carry(self._channel.basic_ack(tag, multiple=multiple, wait=False))

    async def nack(self, tag: int, *, multiple: bool = False) -> None:
        """Give a message back; `multiple`: also all that were handed over before it."""
        await _carry(self._channel.basic_nack(tag, multiple=multiple, requeue=True, wait=False))

    async def count(self, queue: str) -> tuple[int, int]:
        """Return how many messages are ready in a queue, and its consumers.

        Raises `ChannelRefusedError` where there is no such queue.
        """
        answer = await _carry(self._channel.queue_declare(queue, passive=True))
        return answer.message_count or 0, answer.consumer_count or 0

    async def declare_queue(self, name: str, arguments: Arguments) -> None:
        """Make a durable queue, or make sure that it is as it should be."""
        await _carry(self._channel.queue_declare(name, durable=True, arguments=dict(arguments)))

    async def lock(self, name: str) -> None:
        """Make a queue that no other connection can make until this one ends."""
        await _carry(self._channel.queue_declare(name, exclusive=True))

    async def declare_exchange(
        self, name: str, kind: str, arguments: Arguments, *, passive: bool = False
    ) -> None:
        """Make a durable exchange, or make sure that it is as it should be, or just there."""
        await _carry(
            self._channel.exchange_declare(
                name, exchange_type=kind, durable=True, passive=passive, arguments=dict(arguments)
            )
        )

    async def bind_queue(self, queue: str, exchange: str, key: str) -> None:
        """Have the exchange send to the queue what has such a key."""
        await _carry(self._channel.queue_bind(queue, exchange, key))

    async def bind_exchange(self, target: str, source: str, key: str) -> None:
        """Have one exchange send to another what has such a key."""
        await _carry(self._channel.exchange_bind(target, source, key))

    async def purge(self, queue: str) -> int:
        """Remove what is ready; return how many."""
        return (await _carry(self._channel.queue_purge(queue))).message_count or 0

    async def delete_queue(self, queue: str) -> None:
        """Remove a queue with all that is in it."""
        await _carry(self._channel.queue_delete(queue))

    async def delete_exchange(self, exchange: str) -> None:
        """Remove an exchange."""
        await _carry(self._channel.exchange_delete(exchange))

    async def close(self) -> None:
        """Close the channel; what it holds goes back. A lost one is closed already."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await _carry(self._channel.close(aiormq.ChannelClosed(0, "closed by this side")))
        except Exception as exc:  # noqa: BLE001 - it ends with its connection, if not now
            logger.debug("RabbitMQ's channel did not close in order: %r", exc)


def _receive(message: DeliveredMessage) -> Received:
    properties = message.header.properties
    return Received(
        tag=message.delivery_tag or 0,
        id=properties.message_id or None,
        headers=cast("Mapping[str, object]", properties.headers or {}),
        body=message.body,
        reply_to=properties.reply_to,
    )


class _Resource(Protocol):
    """A connection or a channel, typed where the client leaves it open."""

    @property
    def closing(self) -> asyncio.Future[object]: ...
    def connect(self) -> Awaitable[object]: ...


def _on_end(resource: _Resource, callback: OnEnd) -> None:
    def ended(future: asyncio.Future[object]) -> None:
        error = None if future.cancelled() else future.exception()
        callback(_ours(error) if error is not None else ConnectionLostError("closed"))

    resource.closing.add_done_callback(ended)


async def _carry(call: Awaitable[T]) -> T:
    """Wait for an answer; raise our errors. The client cancels us when it means to fail."""
    try:
        return await call
    except BaseException as exc:
        raise _ours(exc) from exc


def _ours(exc: BaseException) -> BaseException:
    if isinstance(exc, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return exc
        return ConnectionLostError("the connection to RabbitMQ was lost")
    code = next((c for cls, c in _CODES.items() if isinstance(exc, cls)), None)
    if code is not None:
        return ChannelRefusedError(code, str(exc))
    if isinstance(exc, aiormq.AMQPError | aiormq.ChannelInvalidStateError | OSError):
        return ConnectionLostError(f"the connection to RabbitMQ was lost: {exc!r}")
    return exc
