"""Calls from event loops to a thread, and their answers back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from brokerq.errors import BrokerqError

PATIENCE = 0.002
"""Seconds that patient calls wait for one that is not."""

A = TypeVar("A")
T = TypeVar("T")


class Call(Generic[A]):
    """One call: what to do with an `A`, and whom to tell.

    Attributes:
        durable: Whether what it writes must be on the disk before it is answered.
        patient: Whether it may wait a moment for one that is not, to be run together with it.
    """

    __slots__ = ("durable", "error", "future", "loop", "patient", "result", "run")

    def __init__(
        self, run: Callable[[A], object], *, durable: bool = False, patient: bool = False
    ) -> None:
        self.run = run
        self.durable = durable
        self.patient = patient
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[object] = self.loop.create_future()
        self.result: object = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        """Tell the caller; in its own loop."""
        if self.future.done():  # the caller was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def answer_all(calls: Iterable[Call[A]]) -> None:
    """Tell all callers, with one wake-up for each event loop."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Call[A]]] = defaultdict(list)
    for call in calls:
        by_loop[call.loop].append(call)
    for loop, its in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_answer_each, its)


def _answer_each(calls: list[Call[A]]) -> None:
    for call in calls:
        call.answer()


class CallThread(Generic[A]):
    """A thread that takes calls, many at once, until it is stopped.

    `serve` runs in the thread: it takes batches by `take` until None. What is only used there is
    also only referred to from there, so that nothing of it is touched in a forked child, where
    the thread does not exist.
    """

    def __init__(self, name: str, serve: Callable[[CallThread[A]], None]) -> None:
        self._queue: SimpleQueue[Call[A] | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._stopped = False
        self._pid = os.getpid()
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that the thread runs in."""
        return self._pid != os.getpid()

    def submit(self, call: Call[A]) -> bool:
        """Queue a call; False if the thread takes no more."""
        with self._guard:
            if self._stopped:
                return False
            self._queue.put(call)
            return True

    def take(self, limit: int) -> list[Call[A]] | None:
        """Wait for a call and return it with all that are queued behind it; None: stop."""
        first = self._queue.get()
        if first is None:
            return None
        calls = [first]
        until = time.monotonic() + PATIENCE
        patient = first.patient
        while len(calls) < limit:
            left = until - time.monotonic() if patient else 0.0
            try:
                call = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except Empty:
                break
            if call is None:
                self._queue.put(None)
                break
            calls.append(call)
            patient = patient and call.patient
        return calls

    def stop(self) -> None:
        """Take no more calls; those that are queued are still served."""
        with self._guard:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        self._serve(self)


def fail_all(calls: Iterable[Call[A]], error: BrokerqError) -> None:
    """Give every call the same error, each an object of its own."""
    for call in calls:
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        call.error = copy
