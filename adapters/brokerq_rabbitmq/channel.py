"""One channel: what is said on it, and what comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, TypeVar, cast

from pamqp.base import Frame as Method
from pamqp.commands import Basic, Channel, Confirm

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq import frames
from brokerq_rabbitmq.assembly import Assembly, OnMessage
from brokerq_rabbitmq.calls import Calls
from brokerq_rabbitmq.confirms import Confirms
from brokerq_rabbitmq.errors import ChannelRefusedError, NackedError, again
from brokerq_rabbitmq.frames import FrameError
from brokerq_rabbitmq.protocol import CLOSE_TIMEOUT, OnEnd, Wire
from brokerq_rabbitmq.wire import Received

logger = logging.getLogger("brokerq.rabbitmq")

M = TypeVar("M", bound=Method)

_DONE = 200


class _Consumer(NamedTuple):
    queue: str
    on_message: OnMessage
    on_cancel: OnEnd


class RawChannel:
    """Speaks in frames; `client.Channel` says it in words.

    Who asks something, or waits for a confirm, gets `ChannelRefusedError` when the broker closes
    the channel, and `ConnectionLostError` when it is gone.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._error: ConnectionLostError | None = None
        self._calls = Calls()
        self._confirms = Confirms()
        self._assembly = Assembly()
        self._consumers: dict[bytes, _Consumer] = {}
        self._callbacks: list[OnEnd] = []
        self._gone = asyncio.Event()
        self._number = wire.attach(self)

    @property
    def alive(self) -> bool:
        """Whether it is not known to be closed."""
        return self._error is None

    def on_end(self, callback: OnEnd) -> None:
        """Have the callback called once, when the channel is closed by anyone."""
        if self._error is None:
            self._callbacks.append(callback)
        else:
            callback(self._error)

    # What is said

    async def open(self, *, confirms: bool) -> None:
        """Have the broker open it. Raises `ConnectionLostError`."""
        try:
            await self._ask(Channel.Open(), Channel.OpenOk)
            if confirms:
                await self._ask(Confirm.Select(), Confirm.SelectOk)
        except BaseException:
            self.leave()
            raise

    async def _ask(self, method: Method, answer: type[M]) -> M:
        return cast("M", await self._ask_any(method, answer))

    async def _ask_any(self, method: Method, *answers: type[Method]) -> object:
        self._require_open()
        words = frames.method(self._number, method)
        expected = self._calls.expect(*answers)
        self._wire.write(words)
        return await expected

    def _expect_messages(
        self, tag: str, queue: str, on_message: OnMessage, on_cancel: OnEnd
    ) -> None:
        self._consumers[tag.encode()] = _Consumer(queue, on_message, on_cancel)

    async def until_ready(self) -> None:
        """Wait until something can be published. Raises `ConnectionLostError`."""
        await self._wire.until_ready()
        self._require_open()

    def publish(
        self,
        *,
        exchange: str,
        key: str,
        message_id: str | None,
        headers: Mapping[str, object],
        body: bytes,
    ) -> asyncio.Future[None]:
        """Send a message; the future is done when the broker has taken it.

        The channel must be one with confirms, and `until_ready` say that it is time. The future
        raises `NackedError` and `ReturnedError`: not taken. Any other error: nobody knows. This
        itself raises `ConnectionLostError`: not sent.
        """
        self._require_open()
        limit = self._wire.frame_max
        content = frames.content(self._number, message_id, headers, len(body))
        if len(content) > limit:
            refused = asyncio.get_running_loop().create_future()
            refused.set_exception(
                NackedError(f"its headers have {len(content)} bytes, the broker takes {limit}")
            )
            return refused
        self._wire.write(
            frames.publish(self._number, exchange, key, mandatory=True),
            content,
            *frames.body(self._number, body, limit),
        )
        return self._confirms.add(exchange, key, message_id)

    async def tell(
        self, exchange: str, key: str, body: bytes, *, reply_to: str | None = None
    ) -> None:
        """Send something that may get lost; the channel must be one without confirms."""
        await self.until_ready()
        self._wire.write(
            frames.publish(self._number, exchange, key, mandatory=False),
            frames.brief(self._number, reply_to, len(body)),
            *frames.body(self._number, body, self._wire.frame_max),
        )

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Remove a message for good; `multiple`: also all that were handed over before it."""
        self._require_open()
        self._wire.write(frames.ack(self._number, tag, multiple=multiple))

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        """Give a message back; `multiple`: also all that were handed over before it."""
        self._require_open()
        self._wire.write(frames.nack(self._number, tag, multiple=multiple))

    async def close(self) -> None:
        """Close the channel; what it holds goes back. A lost one is closed already."""
        self.leave()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._gone.wait()
        except TimeoutError:  # its number stays in use until the broker answers, or is gone
            logger.debug("RabbitMQ did not say that channel %d is closed", self._number)

    def leave(self) -> None:
        """Say goodbye; the broker need not have read it yet."""
        if self._error is None:
            self._stop(ConnectionLostError("the channel was closed by this side"))
            goodbye = Channel.Close(_DONE, "", 0, 0)
            self._wire.write(frames.method(self._number, goodbye))

    def _require_open(self) -> None:
        if self._error is not None:
            raise again(self._error)

    # What comes

    def receive(self, kind: int, payload: bytes) -> None:
        """Take a frame. Raises `FrameError`."""
        if kind == frames.METHOD:
            index = frames.index_of(payload)
            if self._error is not None or self._assembly.busy:
                self._receive_last(payload)
            elif index == frames.DELIVER:
                consumer, tag = frames.read_deliver(payload)
                if consumer not in self._consumers:
                    raise FrameError(f"a message for the unknown consumer {consumer!r}")
                self._assembly.begin(tag, self._consumers[consumer].on_message)
            elif index in (frames.ACK, frames.NACK):
                number, multiple = frames.read_confirm(payload)
                self._confirms.settle(number, multiple=multiple, taken=index == frames.ACK)
            else:
                self._receive_method(frames.read_method(payload))
        elif self._error is not None:
            return
        elif kind == frames.HEADER:
            self._assembly.add_header(payload)
        elif kind == frames.BODY:
            self._assembly.add_body(payload)
        else:
            raise FrameError(f"a frame of type {kind} on a channel")

    def _receive_method(self, method: Method) -> None:
        match method:
            case Channel.Close():
                self._refuse(method)
            case Basic.Return():
                why = f"{method.reply_code} {method.reply_text}"
                place = method.exchange, method.routing_key or ""
                self._assembly.begin(0, partial(self._note_return, *place, why))
            case Basic.GetOk():
                self._calls.check(method)
                self._assembly.begin(method.delivery_tag or 0, partial(self._hand_over, method))
            case Basic.Cancel():
                self._end_consumer(method)
            case Basic.CancelOk():
                self._consumers.pop((method.consumer_tag or "").encode(), None)
                self._calls.answer(method, method)
            case _:
                self._calls.answer(method, method)

    def _receive_last(self, payload: bytes) -> None:
        """Take what comes when this side has said goodbye, or in the midst of a message."""
        method = frames.read_method(payload)
        if isinstance(method, Channel.Close):
            self._refuse(method)
        elif self._error is None:
            raise FrameError(f"{method.name} in the midst of a message")
        elif isinstance(method, Channel.CloseOk):
            self._wire.detach(self._number)
            self._gone.set()

    def _note_return(self, exchange: str, key: str, why: str, received: Received) -> None:
        self._confirms.note_return(exchange, key, received.id, why)

    def _hand_over(self, method: Basic.GetOk, received: Received) -> None:
        self._calls.answer(method, (received, method.message_count or 0))

    def _end_consumer(self, method: Basic.Cancel) -> None:
        consumer = self._consumers.pop((method.consumer_tag or "").encode(), None)
        if consumer is not None:
            why = f"RabbitMQ has cancelled the consumer of {consumer.queue}"
            consumer.on_cancel(ConnectionLostError(why))

    def _refuse(self, close: Channel.Close) -> None:
        """Learn that the broker has closed the channel; one that was just closed is awaited."""
        self._wire.write(frames.method(self._number, Channel.CloseOk()))
        if self._error is None:
            self._wire.detach(self._number)
            self._stop(ChannelRefusedError(close.reply_code or 0, close.reply_text))
            self._gone.set()

    def end(self, error: ConnectionLostError) -> None:
        """Learn that the connection is gone."""
        self._stop(error)
        self._gone.set()

    def _stop(self, error: ConnectionLostError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._calls.fail(error)
        self._confirms.fail(error)
        self._consumers.clear()
        for callback in self._callbacks:
            callback(error)
        self._callbacks.clear()
