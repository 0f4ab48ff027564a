"""An event loop in a thread of its own, where all talk with brokers and stores happens.

A handler that blocks the program's loop then stops nobody's heartbeat, and synchronous code can use
the same connections as asynchronous code.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from brokerq.errors import ConfigurationError, ConnectionLostError

T = TypeVar("T")


class LoopThread:
    """A daemon thread that runs one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; the thread is started by the first use.

        Raises `ConnectionLostError` once it was stopped.
        """
        loop = self._loop
        return self._start() if loop is None else loop

    @property
    def started(self) -> bool:
        """Whether the thread runs."""
        return self._loop is not None

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._stopped:
                raise _closed()
            if self._loop is None:
                started = threading.Event()
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._main, args=(loop, started), name=self._name, daemon=True
                )
                self._thread.start()
                started.wait()
                self._loop = loop
            return self._loop

    @staticmethod
    def _main(loop: asyncio.AbstractEventLoop, started: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            while left := asyncio.all_tasks(loop):  # whoever waits for one must not wait for ever
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it, from any loop; cancelling carries over.

        Raises `ConnectionLostError` if the loop is stopped meanwhile.
        """
        if asyncio.get_running_loop() is self._loop:
            return await coroutine
        future = self._submit(coroutine)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if future.cancelled() and caller is not None and not caller.cancelling():
                raise _closed() from None
            raise

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine on the loop; the future is of the running loop, and no task there."""
        return asyncio.wrap_future(self._submit(coroutine))

    def call_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and block this thread until it is done."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise ConfigurationError(
                "a ..._sync method was called from brokerq's own thread (a hook?), where it would "
                "wait for itself: use the asynchronous method"
            )
        try:
            return self._submit(coroutine).result()
        except concurrent.futures.CancelledError:
            raise _closed() from None

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except (ConnectionLostError, RuntimeError):  # closed before, or in between
            coroutine.close()
            raise _closed() from None

    def stop(self) -> None:
        """End the thread for ever; waits for it, unless called from it."""
        with self._lock:
            self._stopped = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if threading.current_thread() is not thread:
            thread.join()


def _closed() -> ConnectionLostError:
    return ConnectionLostError("the app was closed while it was in use: its next use opens it anew")
