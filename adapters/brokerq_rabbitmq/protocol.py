"""The connection below its channels: frames in and out, and whether the peer is still there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from pamqp.base import Frame as Method
from pamqp.commands import Connection

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq import frames
from brokerq_rabbitmq.calls import Calls
from brokerq_rabbitmq.errors import again
from brokerq_rabbitmq.frames import FrameError, Splitter

logger = logging.getLogger("brokerq.rabbitmq")

M = TypeVar("M", bound=Method)

OnEnd = Callable[[BaseException], None]

CLOSE_TIMEOUT = 3.0
"""Seconds that a peer has to say goodbye."""
MOST_CHANNELS = 65_535
_TOGETHER = 64 * 1024
"""Bytes after which what is written is not kept for the end of the turn."""
_SILENT_BEATS = 4
"""Halves of the heartbeat without a byte after which the peer is gone."""
_DONE = 200


class Receiver(Protocol):
    """A channel, as the connection sees it."""

    def receive(self, kind: int, payload: bytes) -> None:
        """Take a frame. Raises `FrameError`."""
        ...

    def end(self, error: ConnectionLostError) -> None:
        """Learn that the connection is gone."""
        ...


class Wire(asyncio.Protocol):
    """One connection. Once lost it stays lost.

    What is written in one turn of the loop is sent together: a system call costs a message.

    Attributes:
        error: Why it is lost; None: it is not.
        frame_max: Bytes of the longest frame that may be sent.
        channel_max: How many channels there may be.
    """

    def __init__(self) -> None:
        self.error: ConnectionLostError | None = None
        self.frame_max = frames.MOST_FRAME
        self.channel_max = MOST_CHANNELS
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter()
        self._calls = Calls()
        self._channels: dict[int, Receiver] = {}
        self._free: list[int] = []
        self._callbacks: list[OnEnd] = []
        self._out: list[bytes] = []
        self._waiting = 0
        self._paused = self._blocked = self._closing = False
        self._ready = asyncio.Event()
        self._ready.set()
        self._gone = asyncio.Event()
        self._heard = self._said = True
        self._silence = 0
        self._timer: asyncio.TimerHandle | None = None

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the socket is closed."""
        self._gone.set()
        why = "it was closed by the other side" if exc is None else repr(exc)
        self._lose(ConnectionLostError(f"the connection to RabbitMQ was lost: {why}"))
        self._stop_timer()

    def pause_writing(self) -> None:
        """Note that the peer reads too slowly."""
        self._paused = True
        self._update_ready()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._paused = False
        self._update_ready()

    def data_received(self, data: bytes) -> None:
        """Hand the frames that are complete to whom they concern."""
        self._heard = True
        try:
            for kind, number, payload in self._splitter.feed(data):
                if self.error is not None:
                    return
                channel = self._channels.get(number)
                if channel is not None:
                    channel.receive(kind, payload)
                elif number == 0:
                    self._receive(kind, payload)
                elif not self._closing:
                    raise FrameError(f"a frame for channel {number}, which is not open")  # noqa: TRY301
        except FrameError as exc:
            self.hang_up(f"RabbitMQ sent what it must not: {exc}")

    def write(self, *pieces: bytes) -> None:
        """Have the pieces sent soon; nothing else comes between them."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += pieces
        self._waiting += sum(map(len, pieces))
        if self._waiting > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._said = True
            data = b"".join(self._out)
            self._out.clear()
            self._waiting = 0
            self._transport.write(data)

    # Whether it can be written to

    def _update_ready(self) -> None:
        if self.error is None and (self._paused or self._blocked):
            self._ready.clear()
        else:
            self._ready.set()

    async def until_ready(self) -> None:
        """Wait while the broker wants nothing published, or reads too slowly.

        Raises `ConnectionLostError`.
        """
        while not self._ready.is_set():
            await self._ready.wait()
        self.require_open()

    def require_open(self) -> None:
        """Raise `ConnectionLostError` when it is lost or being closed."""
        if self.error is not None:
            raise again(self.error)
        if self._closing:
            raise _closed_here()

    @property
    def alive(self) -> bool:
        """Whether it is not known to be lost."""
        return self.error is None and not self._closing

    # What concerns the connection itself

    def _receive(self, kind: int, payload: bytes) -> None:
        if kind == frames.BEAT:
            return
        if kind != frames.METHOD:
            raise FrameError(f"a frame of type {kind} that belongs to no channel")
        match frames.read_method(payload):
            case Connection.Close() as close:
                self._leave(close)
            case Connection.Blocked():
                self._blocked = True
                self._update_ready()
            case Connection.Unblocked():
                self._blocked = False
                self._update_ready()
            case method:
                self._calls.answer(method, method)

    def _leave(self, close: Connection.Close) -> None:
        """Do as the broker wants: what it has not read yet it will not read."""
        self.write(frames.method(0, Connection.CloseOk()))
        self._flush()
        why = f"{close.reply_code} {close.reply_text}"
        self._lose(ConnectionLostError(f"RabbitMQ closed the connection: {why}"))
        if self._transport is not None:
            self._transport.close()
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def ask(self, words: bytes, answer: type[M]) -> asyncio.Future[M]:
        """Say something to the connection itself; the future has the answer.

        Raises `ConnectionLostError`.
        """
        if self.error is not None:
            raise again(self.error)
        expected = cast("asyncio.Future[M]", self._calls.expect(answer))
        self.write(words)
        return expected

    def agree(self, *, frame_max: int, channel_max: int, heartbeat: int) -> None:
        """Begin to live by what was negotiated; `heartbeat` in seconds, zero: none."""
        self.frame_max, self.channel_max = frame_max, channel_max
        self._splitter.limit = frame_max
        if heartbeat:
            self._beat(heartbeat / 2)

    def _beat(self, interval: float) -> None:
        """Say that we are there, and look whether the peer is.

        Turns without a byte are counted and no time: where this program was held up, what came
        meanwhile is read before the next turn.
        """
        self._silence = 0 if self._heard else self._silence + 1
        if self._silence == _SILENT_BEATS:
            silent = _SILENT_BEATS * interval
            self.hang_up(f"the connection to RabbitMQ was lost: nothing came for {silent:g} s")
            return
        if not self._said:
            self.write(frames.HEARTBEAT)
            self._flush()
        self._heard = self._said = False
        self._timer = self._loop.call_later(interval, self._beat, interval)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Channels

    def attach(self, channel: Receiver) -> int:
        """Return the number of a new channel. Raises `ConnectionLostError`: there are too many."""
        self.require_open()
        number = self._free.pop() if self._free else len(self._channels) + 1
        if number > self.channel_max:
            raise ConnectionLostError(
                f"all {self.channel_max} channels that RabbitMQ allows are in use"
            )
        self._channels[number] = channel
        return number

    def detach(self, number: int) -> None:
        """Have the number free for another channel: the broker has no word left for this one."""
        if self._channels.pop(number, None) is not None:
            self._free.append(number)

    # The end

    def on_end(self, callback: OnEnd) -> None:
        """Have the callback called once, when the connection is lost or closed."""
        if self.error is None:
            self._callbacks.append(callback)
        else:
            callback(self.error)

    async def close(self) -> None:
        """Say goodbye, and hang up in any case."""
        if self.alive:
            self._closing = True
            self._end_channels(_closed_here())
            goodbye = frames.method(0, Connection.Close(_DONE, "", 0, 0))
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self.ask(goodbye, Connection.CloseOk)
            except (TimeoutError, ConnectionLostError) as exc:
                logger.debug("RabbitMQ's connection did not close in order: %r", exc)
            finally:
                self.hang_up("the connection to RabbitMQ was closed by this side")
        await self._gone.wait()

    def hang_up(self, why: str) -> None:
        """Close the socket without a word."""
        self._lose(ConnectionLostError(why))
        if self._transport is not None:
            self._transport.abort()

    def _lose(self, error: ConnectionLostError) -> None:
        if self.error is not None:
            return
        self.error = error
        self._out.clear()
        self._stop_timer()
        self._ready.set()
        self._calls.fail(error)
        self._end_channels(error)
        for callback in self._callbacks:
            callback(error)
        self._callbacks.clear()

    def _end_channels(self, error: ConnectionLostError) -> None:
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            channel.end(error)


def _closed_here() -> ConnectionLostError:
    return ConnectionLostError("the connection to RabbitMQ was closed by this side")
