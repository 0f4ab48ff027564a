"""An app's connections: opened by first use, on the engine's loop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import uuid_utils

from brokerq.broker import Capabilities, QueueSpec
from brokerq.client import Client
from brokerq.clock import Clock
from brokerq.connect import Backends, open_backends
from brokerq.engine.loop import LoopThread
from brokerq.errors import CapabilityError, ConfigurationError, ConnectionLostError
from brokerq.explain import needs
from brokerq.publishing import Request
from brokerq.registry import Registry
from brokerq.runtime import Limits, Runtime
from brokerq.tally import Published

if TYPE_CHECKING:
    from brokerq.settings import Settings

logger = logging.getLogger("brokerq")

T = TypeVar("T")
Topology = Literal["declare", "verify", "assume"]


class Session:
    """Opens, once, and closes what an app runs on.

    Every coroutine but `call`, `publish` and `close` runs on the engine's loop.
    """

    def __init__(
        self,
        name: str,
        registry: Registry,
        *,
        url: str | None,
        store_url: str | None,
        prefix: str | None,
        clock: Clock,
        random: Random,
        app_version: str | None,
        limits: Limits,
        settings: Callable[[], Settings],
    ) -> None:
        self._name = name
        self._registry = registry
        self._url = url
        self._store_url = store_url
        self._prefix = prefix
        self.clock = clock
        self._random = random
        self._app_version = app_version
        self.limits = limits
        self._settings = settings
        self._thread, self._aside = self._threads()
        self._opening: asyncio.Lock | None = None
        self._closing = False
        self._end = threading.Lock()
        self._stack = AsyncExitStack()
        self._runtime: Runtime | None = None
        self._client: Client | None = None
        self._any_loop = False
        self._workers: dict[asyncio.Task[Any], Callable[[], None]] = {}
        self._declared: set[str] = set()
        self._pid = os.getpid()

    @staticmethod
    def new_id() -> str:
        """Return a job id that nobody else has; later ones sort behind it."""
        return str(uuid_utils.uuid7())

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop, from any loop."""
        self._check_process(coroutine)
        return await self._thread.call(coroutine)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine on the engine's loop; the future is cancelled if that loop is stopped."""
        self._check_process(coroutine)
        return self._thread.begin(coroutine)

    def call_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and block this thread until it is done."""
        self._check_process(coroutine)
        return self._thread.call_sync(coroutine)

    def run_aside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where handlers run if no loop of the program's is there; blocks."""
        self._check_process(coroutine)
        return self._aside.call_sync(coroutine)

    @property
    def settings(self) -> Settings:
        """What the environment says. Raises `ConfigurationError`."""
        return self._settings()

    def _threads(self) -> tuple[LoopThread, LoopThread]:
        return LoopThread(f"brokerq-{self._name}"), LoopThread(f"brokerq-{self._name}-jobs")

    def _check_process(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if os.getpid() == self._pid:
            return
        if self._runtime is not None:
            coroutine.close()
            raise ConfigurationError(
                "the app was opened before this process was forked: its connections belong to the "
                "parent. Open it after the fork, or start processes with spawn"
            )
        self._pid = os.getpid()
        self._thread, self._aside = self._threads()

    def backends(self, *, stored: bool = True) -> Backends:
        """Return what the URLs stand for, without connecting; with a store only if `stored`."""
        settings = self.settings
        return open_backends(
            self._url or settings.url,
            (self._store_url or settings.store_url) if stored else "none://",
            app=self._name,
            clock=self.clock,
            cwd=Path.cwd(),
            prefix=self._prefix,
        )

    async def runtime(self) -> Runtime:
        """Return the open app, opening it if need be.

        Raises `ConfigurationError` and its kin, `ConnectionLostError` or `StorageError`; then it
        is not open, and the next use tries again.
        """
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._closing:
                raise ConnectionLostError("the app is being closed: use it before or afterwards")
            if self._runtime is None:
                self._runtime = await self._open()
                self._client = Client(self._runtime)
            await self._declare(self._runtime)
            return self._runtime

    async def client(self) -> Client:
        """Return what publishes through the open app."""
        await self.runtime()
        assert self._client is not None  # noqa: S101 - set with the runtime
        return self._client

    async def publish(self, requests: Sequence[Request]) -> list[Published]:
        """Publish, from any loop; on this one where the broker can and everything is ready."""
        client = self._client if self._any_loop and os.getpid() == self._pid else None
        if client is not None and len(self._declared) == len(self._registry.queues):
            return await client.publish(requests)

        async def send() -> list[Published]:
            return await (await self.client()).publish(requests)

        return await self.call(send())

    async def join(self, connection: object, requests: Sequence[Request]) -> list[Published]:
        """Publish within the program's transaction, on the loop that runs."""
        return await self._ready().join(connection, requests)

    def join_sync(self, connection: object, requests: Sequence[Request]) -> list[Published]:
        """Publish within the program's transaction, in this thread."""
        return self._ready().join_sync(connection, requests)

    def _ready(self) -> Client:
        """Return the client if nothing has to be opened or declared first.

        That would write to what the transaction may have locked.
        """
        client = self._client if os.getpid() == self._pid else None
        if client is None or len(self._declared) < len(self._registry.queues):
            raise ConfigurationError(
                "the app is not open, or a queue was declared since: open it, with `async with`, "
                "bq.open() or bq.open_sync(), before a transaction begins that is to publish"
            )
        return client

    async def _open(self) -> Runtime:
        backends = self.backends()
        if self._settings().topology != "declare":
            for each in backends.migrations:
                each.leave_alone()
        await asyncio.to_thread(backends.make_folder)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(backends.broker.close)
            await backends.broker.open()
            if backends.store is not None:
                stack.push_async_callback(backends.store.close)
                await backends.store.open()
            self._stack = stack.pop_all()
        self._any_loop = backends.any_loop
        logger.info("app %s opened: %s", self._name, backends.description)
        host = socket.gethostname()
        return Runtime(
            registry=self._registry,
            broker=backends.broker,
            store=backends.store,
            clock=self.clock,
            random=self._random,
            owner=f"{host}:{os.getpid()}:{secrets.token_hex(4)}",
            host=host,
            app_version=self._app_version,
            new_id=self.new_id,
            limits=self.limits,
        )

    async def _declare(self, runtime: Runtime) -> None:
        """Bring about what the code has declared since the last time."""
        new = [q.spec for name, q in self._registry.queues.items() if name not in self._declared]
        if not new:
            return
        for spec in new:
            _check(spec, runtime.broker.capabilities, stored=runtime.store is not None)
        topology: Topology = self.settings.topology
        if topology != "assume":
            await runtime.broker.declare(new, create=topology == "declare")
        self._declared.update(spec.name for spec in new)

    async def close(self) -> None:
        """Close everything; harmless when nothing is open. The next use opens anew.

        A worker that runs is stopped first, without grace: its jobs go back to their queue. What
        else is under way in another task or thread fails with `ConnectionLostError`.
        """
        if os.getpid() == self._pid:
            await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """As `close`, for code that is not async."""
        if os.getpid() != self._pid:
            return
        with self._end:  # at the same time: the second waits, then there is nothing left to close
            thread, aside = self._thread, self._aside
            if not thread.started:
                return
            try:
                thread.call_sync(self._close())
            finally:
                thread.stop()
                aside.stop()
                self._thread, self._aside = self._threads()
                self._opening = None
                self._closing = False

    async def while_open(
        self, main: Coroutine[Any, Any, T], *, request_stop: Callable[[], None]
    ) -> T:
        """Run a worker, on the engine's loop; closing the app stops it first."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - within a coroutine
        self._workers[task] = request_stop
        try:
            return await main
        finally:
            del self._workers[task]

    async def _close(self) -> None:
        self._closing = True
        for request_stop in self._workers.values():
            request_stop()
            request_stop()  # twice: without grace
        if self._workers:
            await asyncio.wait(tuple(self._workers))
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            stack, self._stack = self._stack, AsyncExitStack()
            self._runtime = self._client = None
            self._any_loop = False
            self._declared.clear()
            await stack.aclose()


def _check(spec: QueueSpec, can: Capabilities, *, stored: bool) -> None:
    for need in needs([spec], can, stored=stored):
        if not need.kept:
            raise CapabilityError(f"queue {spec.name!r} needs {need.what}: {need.how}")
