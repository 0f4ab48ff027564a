"""A broker in memory: real semantics, for tests and for programs that need no durability.

| brokerq | here |
| --- | --- |
| queue | declared in a `MemoryState`: that of the URL's name, or of this object |
| publish | appended under a lock; confirmed means kept until the process ends |
| delay, retry | a heap by due time; the very message comes back, whatever the delay |
| lease | by the clock that was passed in; judged on every call, with a timer while someone waits |
| release | to the front of its lane; with a delay, to the back of it when due |
| dead letter | moved to a list |
| order | a line per key: only its first message is ready, delayed or in flight |
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from brokerq.broker import (
    Broker,
    Capabilities,
    Counting,
    DeadLetters,
    Durability,
    Inspectable,
    Lane,
    Ordering,
    Outgoing,
    QueueSpec,
    QueueStats,
)
from brokerq.errors import ConnectionLostError, UnknownQueueError
from brokerq.message import Message
from brokerq_memory.consumer import MemoryConsumer
from brokerq_memory.queues import MemoryQueue
from brokerq_memory.state import MemoryState
from brokerq_memory.wire import MAX_BODY, letter_key

CAPABILITIES = Capabilities(
    max_body=MAX_BODY,
    max_delay=None,
    max_batch=1_000,
    lease=timedelta(seconds=30),
    max_hold=None,
    ordering=Ordering.PER_KEY,
    delayed_ordering=True,
    max_levels=None,
    counting=Counting.ALL,
    durability=Durability.PROCESS,
    reports_lost_lease=True,
    publish_in_transaction=False,
)


class MemoryBroker(Broker, Inspectable, DeadLetters):
    """One app's view of a `MemoryState`; several may share one, on any event loop."""

    def __init__(self, *, prefix: str, state: MemoryState) -> None:
        self.state = state
        self._prefix = prefix
        self._queues = state.app(prefix)
        self._open = False
        self._consumers: set[MemoryConsumer] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False
        loop = asyncio.get_running_loop()
        with self.state.lock:
            for consumer in tuple(self._consumers):
                consumer.close()
            for queue in self._queues.values():
                queue.disarm(loop)

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        self._require_open()
        self.state.declare(self._prefix, queues, create=create)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._require_open()
        self.state.publish(self._prefix, messages)

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[MemoryConsumer]:
        self._require_open()
        queue = self._queue(lane.queue)
        if lane.level not in queue.lanes:
            raise UnknownQueueError(f"queue {lane.queue!r} has no level {lane.level!r}")
        consumer = MemoryConsumer(self.state, queue, queue.lanes[lane.level], prefetch=prefetch)
        self._consumers.add(consumer)
        try:
            yield consumer
        finally:
            self._consumers.discard(consumer)
            consumer.close()

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        self._require_open()
        with self.state.lock:
            now = self.state.clock.monotonic()
            return [self._queue(name).stats(now) for name in queues]

    async def purge(self, queue: str) -> int:
        self._require_open()
        with self.state.lock:
            return self._queue(queue).purge(self.state.clock.monotonic())

    @asynccontextmanager
    async def browse(self, queue: str) -> AsyncGenerator[AsyncIterator[Message]]:
        self._require_open()
        with self.state.lock:
            letters = tuple(self._queue(queue).dead)
        yield _each(letters)

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        self._require_open()
        unwanted = frozenset[tuple[str | None, int]](letters)
        with self.state.lock:
            dead = self._queue(queue).dead
            kept = [message for message in dead if letter_key(message) not in unwanted]
            removed = len(dead) - len(kept)
            dead[:] = kept
        return removed

    def _queue(self, name: str) -> MemoryQueue:
        try:
            return self._queues[name]
        except KeyError:
            raise UnknownQueueError(f"queue {name!r} is not declared at memory://") from None

    def _require_open(self) -> None:
        if not self._open:
            raise ConnectionLostError("the memory broker is not open: call open() first")


async def _each(messages: Sequence[Message]) -> AsyncGenerator[Message]:
    for message in messages:
        yield message
