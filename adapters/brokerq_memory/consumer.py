"""Takes deliveries from one lane in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from brokerq.broker import Ack, Consumer, Dead, Delivery, Release, Reschedule, Verdict
from brokerq.errors import ConnectionLostError
from brokerq_memory.queues import Entry, Holder, MemoryLane, MemoryQueue
from brokerq_memory.state import MemoryState, due_after
from brokerq_memory.wire import own_copy


class MemoryConsumer(Consumer):
    """Holds up to `prefetch` deliveries, each for the queue's lease as it was on entering."""

    def __init__(
        self, state: MemoryState, queue: MemoryQueue, lane: MemoryLane, *, prefetch: int
    ) -> None:
        self._state = state
        self._queue = queue
        self._lane = lane
        self._prefetch = prefetch
        self._holder = Holder(lane=lane, lease=queue.spec.lease.total_seconds())
        self._open = True
        with state.lock:
            queue.join(self._holder)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        while True:
            with self._state.lock:
                self._require_open()
                now = self._state.clock.monotonic()
                self._queue.refresh(now)
                room = self._prefetch - len(self._holder.held)
                entries = self._take(min(limit, room), now)
                if entries:
                    return entries
                bell = self._holder.room if room <= 0 else self._lane.bell
                waiter = bell.join()
                self._queue.expect_next(now)
            try:
                await waiter.future
            except BaseException:
                with self._state.lock:
                    if not bell.leave(waiter):  # rung, but cancelled before it could take
                        bell.ring()
                raise

    def _take(self, limit: int, now: float) -> Sequence[Delivery]:
        ready = self._lane.ready
        held = self._holder.held
        until = due_after(self._holder.lease, now)
        lane = self._lane.lane
        deliveries: list[Delivery] = []
        for _ in range(min(limit, len(ready))):
            entry = ready.popleft()
            entry.deliveries += 1
            entry.until = until
            token = object()
            held[token] = entry
            deliveries.append(
                Delivery(
                    message=entry.message,
                    lane=lane,
                    id=entry.id,
                    token=token,
                    count=entry.deliveries,
                    in_place=timedelta.max,
                )
            )
        if deliveries:
            self._queue.expect(until, now)
        return deliveries

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        with self._state.lock:
            now = self._state.clock.monotonic()
            self._holder.lapse(now)
            held = self._holder.held
            released: list[Entry] = []
            results: list[bool] = []
            for delivery, verdict in verdicts:
                entry = held.pop(delivery.token, None)
                results.append(entry is not None)
                if entry is None or (entry.order is None and isinstance(verdict, Ack)):
                    continue  # gone, and nothing waits behind it
                self._carry_out(entry, verdict, released, now)
            self._lane.give_back(released)
            self._holder.room.ring_all()
        return results

    def _carry_out(self, entry: Entry, verdict: Verdict, released: list[Entry], now: float) -> None:
        match verdict:
            case Ack():
                self._queue.remove(entry, now)
            case Release(delay=delay) if not delay:
                released.append(entry)
            case Release(delay=delay):
                entry.due = due_after(delay.total_seconds(), now)
                self._queue.place(entry, now)
            case Reschedule(delay=delay, message=message):
                if message is not None:
                    entry.message = own_copy(message)
                    entry.deliveries = 0
                entry.due = due_after(delay.total_seconds(), now)
                self._queue.place(entry, now)
            case Dead(message=message):
                self._queue.dead.append(own_copy(message))
                self._queue.remove(entry, now)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        with self._state.lock:
            now = self._state.clock.monotonic()
            self._holder.lapse(now)
            until = due_after(self._holder.lease, now)
            return [self._holder.extend(delivery.token, until) for delivery in deliveries]

    def close(self) -> None:
        """Hand back what is held; whoever waits to receive gets `ConnectionLostError`."""
        with self._state.lock:
            if self._open:
                self._open = False
                self._queue.leave(self._holder)
                self._lane.bell.ring_all()

    def _require_open(self) -> None:
        if not self._open:
            raise ConnectionLostError("the consumer is closed, or its broker is: open a new one")
