"""A TCP proxy that fails on demand: between a client under test and its server.

It runs on an event loop and a thread of its own, so tests that are coroutines may use it as well as
those that are not. What a method asks for has happened when it returns.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Self, TypeVar

from tests.services.ports import HOST, free_port

T = TypeVar("T")
CHUNK = 65_536
TICK = 0.02
"""Seconds between the portions of a slowed connection."""

_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing is a reset


class Direction(Enum):
    """Where bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


TO_SERVER, TO_CLIENT = Direction


class Flow:
    """What happens to the bytes of one direction, of all connections.

    Attributes:
        open: Set unless bytes are held back.
        dropping: Whether bytes vanish, and ends of connections too.
        rate: Bytes a second on each connection; None: as fast as can be.
        waiting: How many bytes are held back, not counting what the system's buffers have.
        dropped: How many bytes have vanished.
    """

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.dropped = 0
        self.rate: float | None = None
        self.recover()

    def recover(self) -> None:
        """Let everything through again."""
        self.open.set()
        self.dropping = False
        self.rate = None

    def hold(self) -> None:
        """Hold bytes back."""
        self.open.clear()

    def drop(self) -> None:
        """Let bytes vanish."""
        self.dropping = True
        self.open.set()


class Link:
    """One connection of a client, and the one to the server that stands for it.

    Attributes:
        incomplete: Whether bytes of it have vanished.
    """

    def __init__(self, client: socket.socket) -> None:
        self.incomplete = False
        self._client = client
        self._server = _socket()

    async def run(self, address: tuple[str, int], flows: Mapping[Direction, Flow]) -> None:
        """Carry bytes until both ends are closed, or one breaks off."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(self._server, address)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self._client, self._server, flows[TO_SERVER]))
                group.create_task(self._pump(self._server, self._client, flows[TO_CLIENT]))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            self.reset()
        finally:
            self.close()

    def reset(self) -> None:
        """Close both ends so that each hears of a connection that broke off."""
        for end in (self._client, self._server):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close both ends; twice is harmless."""
        self._client.close()
        self._server.close()

    async def _pump(self, source: socket.socket, target: socket.socket, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await loop.sock_recv(source, CHUNK):
            flow.waiting += len(chunk)
            try:
                await flow.open.wait()
                await self._pass_on(target, chunk, flow)
            finally:
                flow.waiting -= len(chunk)
        await flow.open.wait()
        if not flow.dropping:
            target.shutdown(socket.SHUT_WR)

    async def _pass_on(self, target: socket.socket, chunk: bytes, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        left = memoryview(chunk)
        while left:
            if flow.dropping:
                self.incomplete = True
                flow.dropped += len(left)
                return
            rate = flow.rate
            size = len(left) if rate is None else max(1, min(len(left), int(rate * TICK)))
            await loop.sock_sendall(target, left[:size])
            left = left[size:]
            if rate is not None:
                await asyncio.sleep(size / rate)


class Proxy:
    """Listens on loopback for one server; a context manager."""

    def __init__(self, port: int, host: str = HOST) -> None:
        """Stand before the server at `host` and `port`."""
        self.port = free_port()
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._flows = {direction: Flow() for direction in Direction}
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._refuse)
        self._call(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections go through it now."""
        return len(self._links)

    def waiting(self, direction: Direction) -> int:
        """Return how many bytes are held back; the system's buffers may hold more."""
        return self._flows[direction].waiting

    def dropped(self, direction: Direction) -> int:
        """Return how many bytes have vanished so far."""
        return self._flows[direction].dropped

    def cut(self) -> int:
        """Reset all connections, with what is held back lost; return how many there were."""
        return self._call(self._cut)

    def refuse(self) -> None:
        """Take no new connections: whoever tries is refused, as where no server runs."""
        self._call(self._refuse)

    def hold(self, *directions: Direction) -> None:
        """Hold bytes back (both ways, if none is named): they arrive later, or never."""
        self._each(directions, Flow.hold)

    def drop(self, *directions: Direction) -> None:
        """Fall silent: what is sent is taken and goes nowhere, and nobody hears of an end.

        As when the other host has gone. Connections that have lost bytes never get well again:
        `resume` resets them.
        """
        self._each(directions, Flow.drop)

    def slow(self, rate: float, *directions: Direction) -> None:
        """Let only so many bytes a second through, on each connection."""

        def slow(flow: Flow) -> None:
            flow.rate = rate

        self._each(directions, slow)

    def resume(self) -> None:
        """Forward everything again, and take new connections."""
        self._call(self._resume)

    def _each(self, directions: Sequence[Direction], change: Callable[[Flow], None]) -> None:
        async def apply() -> None:
            for direction in directions or Direction:
                change(self._flows[direction])

        self._call(apply)

    def _call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._listener = listener = _socket()
        listener.bind((HOST, self.port))
        listener.listen()
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection; in no task, which would leave one open if it is cancelled then."""
        try:
            client, _ = listener.accept()
        except BlockingIOError:  # it has gone again
            return
        link = Link(_prepared(client))
        task = self._loop.create_task(link.run(self._address, self._flows))
        self._links[link] = task
        task.add_done_callback(partial(self._forget, link))

    def _forget(self, link: Link, task: asyncio.Task[None]) -> None:
        del self._links[link]
        if task.cancelled():  # before it had begun
            link.reset()

    async def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()

    async def _cut(self, *, incomplete: bool = False) -> int:
        tasks = [t for link, t in self._links.items() if link.incomplete or not incomplete]
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):  # no cancellation, then
                raise error
        return len(tasks)

    async def _resume(self) -> None:
        await self._cut(incomplete=True)
        for flow in self._flows.values():
            flow.recover()
        if self._listener is None:
            await self._listen()


def _socket() -> socket.socket:
    return _prepared(socket.socket())


def _prepared(one: socket.socket) -> socket.socket:
    one.settimeout(0)  # the event loop waits
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one
