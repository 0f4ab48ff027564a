"""A queue in memory: what is ready, delayed, in flight, dead, or waits behind its ordering key.

Everything here is guarded by the lock of the `MemoryState` that the queue is in. Work per message
does not grow with the number of messages: the heap holds only what is delayed, and a lapsed lease
is found at the front of what its consumer holds.
"""

from __future__ import annotations

import heapq
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from math import inf

from brokerq.broker import Lane, QueueSpec, QueueStats
from brokerq.clock import Clock
from brokerq.message import Message
from brokerq_memory.alarm import Alarm
from brokerq_memory.bell import Bell


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A message in a queue.

    Attributes:
        due: When it became, or becomes, ready; monotonic seconds, as `until` is.
        deliveries: How often it was handed out.
        until: When the lease of its last delivery ends.
    """

    message: Message
    id: str
    lane: MemoryLane
    order: str | None
    due: float
    deliveries: int = 0
    until: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class MemoryLane:
    """One level of a queue: what could be delivered now, and who waits for it."""

    lane: Lane
    ready: deque[Entry] = field(default_factory=deque[Entry])
    bell: Bell = field(default_factory=Bell)

    def append(self, entry: Entry) -> None:
        self.ready.append(entry)
        self.bell.ring()

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Put entries before all others, in the order given."""
        self.ready.extendleft(reversed(entries))
        self.bell.ring(len(entries))


@dataclass(slots=True, kw_only=True, eq=False)
class Holder:
    """What one consumer holds, by token; its lease never changes, so the first lapses first.

    Attributes:
        room: Rings when it could hold more.
    """

    lane: MemoryLane
    lease: float
    held: dict[object, Entry] = field(default_factory=dict[object, Entry])
    room: Bell = field(default_factory=Bell)

    def first_until(self) -> float:
        """Return when the first lease ends; something is held."""
        return next(iter(self.held.values())).until

    def extend(self, token: object, until: float) -> bool:
        """Begin a lease anew; False where it is not held."""
        entry = self.held.pop(token, None)
        if entry is None:
            return False
        entry.until = until
        self.held[token] = entry
        return True

    def lapse(self, now: float) -> None:
        """Give back what is held for too long."""
        if not self.held or self.first_until() > now:
            return
        lapsed: list[tuple[object, Entry]] = []
        for token, entry in self.held.items():
            if entry.until > now:
                break
            lapsed.append((token, entry))
        for token, _ in lapsed:
            del self.held[token]
        self.lane.give_back([entry for _, entry in lapsed])
        self.room.ring_all()

    def hand_back(self) -> None:
        """Give back everything; nothing more will be held."""
        entries = list(self.held.values())
        self.held.clear()
        self.lane.give_back(entries)
        self.room.ring_all()


class MemoryQueue:
    """One declared queue of one app."""

    def __init__(self, spec: QueueSpec, clock: Clock, alarm: Alarm | None) -> None:
        self.spec = spec
        self.lanes = {
            level: MemoryLane(lane=Lane(queue=spec.name, level=level)) for level in spec.levels
        }
        self.dead: list[Message] = []
        self._clock = clock
        self._alarm = alarm
        self._delayed: list[tuple[float, int, Entry]] = []
        self._numbers = count()
        self._lines: dict[str, deque[Entry]] = {}
        self._holders: dict[Holder, None] = {}

    def put(self, entry: Entry, now: float) -> None:
        """Take a new message in, behind those with its ordering key."""
        if entry.order is not None:
            line = self._lines.setdefault(entry.order, deque())
            line.append(entry)
            if len(line) > 1:
                return
        self.place(entry, now)

    def place(self, entry: Entry, now: float) -> None:
        """Make an entry that is first in its order ready, or delayed until it is due."""
        if entry.due <= now:
            entry.lane.append(entry)
            return
        heapq.heappush(self._delayed, (entry.due, next(self._numbers), entry))
        self.expect(entry.due, now)

    def remove(self, entry: Entry, now: float) -> None:
        """Be done with an entry that was in flight: the next with its key may go."""
        if entry.order is None:
            return
        line = self._lines[entry.order]
        line.popleft()
        if line:
            self.place(line[0], now)
        else:
            del self._lines[entry.order]

    def join(self, holder: Holder) -> None:
        """Let a consumer in."""
        self._holders[holder] = None

    def leave(self, holder: Holder) -> None:
        """Let a consumer go, and give back what it holds."""
        self._holders.pop(holder, None)
        holder.hand_back()

    def refresh(self, now: float) -> None:
        """Do what is due: delayed messages become ready, leases lapse."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            _, _, entry = heapq.heappop(delayed)
            entry.lane.append(entry)
        for holder in self._holders:
            holder.lapse(now)

    def expect(self, at: float, now: float) -> None:
        """See to it that whoever waits learns of what becomes due at `at`."""
        if self._alarm is not None and self._alarm.is_later(at) and self._is_waited_for():
            self._alarm.arm(min(at, self._first_event()), now, self._tick)

    def expect_next(self, now: float) -> None:
        """See to it that whoever waits learns of what becomes due first."""
        at = self._first_event()
        if at < inf:
            self.expect(at, now)

    def _first_event(self) -> float:
        ends = (holder.first_until() for holder in self._holders if holder.held)
        return min(min(ends, default=inf), self._delayed[0][0] if self._delayed else inf)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self.refresh(now)
        self.expect_next(now)

    def disarm(self, loop: AbstractEventLoop) -> None:
        """Rely on that event loop no longer: whoever waits sets an alarm of their own."""
        if self._alarm is not None:
            self._alarm.disarm(loop)
            self.wake_all()

    def wake_all(self) -> None:
        """Let everybody look again."""
        for lane in self.lanes.values():
            lane.bell.ring_all()
        for holder in self._holders:
            holder.room.ring_all()

    def _is_waited_for(self) -> bool:
        return any(lane.bell.waiters for lane in self.lanes.values()) or any(
            holder.room.waiters for holder in self._holders
        )

    def stats(self, now: float) -> QueueStats:
        """Count; what waits behind its ordering key counts as ready."""
        self.refresh(now)
        ready = [entry for lane in self.lanes.values() for entry in lane.ready]
        oldest = min((entry.due for entry in ready), default=None)
        return QueueStats(
            queue=self.spec.name,
            ready=len(ready) + self._blocked(),
            in_flight=sum(len(holder.held) for holder in self._holders),
            delayed=len(self._delayed),
            dead=len(self.dead),
            oldest=None if oldest is None else timedelta(seconds=now - oldest),
        )

    def purge(self, now: float) -> int:
        """Remove all but what is in flight and dead; return how many."""
        self.refresh(now)
        removed = sum(len(lane.ready) for lane in self.lanes.values())
        removed += len(self._delayed) + self._blocked()
        for lane in self.lanes.values():
            lane.ready.clear()
        self._delayed.clear()
        held = [entry for holder in self._holders for entry in holder.held.values()]
        self._lines = {e.order: deque([e]) for e in held if e.order is not None}
        return removed

    def _blocked(self) -> int:
        return sum(len(line) - 1 for line in self._lines.values())
