"""What a memory URL stands for: the queues and records of every app that was given it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from brokerq.broker import Outgoing, QueueSpec
from brokerq.clock import Clock
from brokerq.errors import CapabilityError, DriftError, PublishError
from brokerq_memory.alarm import Alarm
from brokerq_memory.clock import VirtualClock
from brokerq_memory.ledger import Ledger
from brokerq_memory.queues import Entry, MemoryLane, MemoryQueue
from brokerq_memory.topology import differences
from brokerq_memory.wire import check_size, own_copy

_PLACES = 6  # so that no sum of durations is a rounding error later than the instant it stands for


class MemoryState:
    """Shared by brokers and stores, which may be used on several event loops and threads.

    Attributes:
        lock: Held by whoever reads or changes anything in here.
        queues: By app prefix and name.
        ledgers: What the stores keep, by app prefix.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.queues: dict[str, dict[str, MemoryQueue]] = {}
        self.ledgers: dict[str, Ledger] = {}
        # A clock that is moved by hand says so; only a real one needs timers.
        self._alarms = not isinstance(clock, VirtualClock)
        if isinstance(clock, VirtualClock):
            clock.listen(self._wake_all)

    def app(self, prefix: str) -> dict[str, MemoryQueue]:
        """Return the queues of one app."""
        with self.lock:
            return self.queues.setdefault(prefix, {})

    def declare(self, prefix: str, specs: Sequence[QueueSpec], *, create: bool) -> None:
        """See `Broker.declare`; nothing is changed if anything differs."""
        with self.lock:
            queues = self.app(prefix)
            there = {name: queue.spec for name, queue in queues.items()}
            found = list(differences(specs, there, create=create))
            if found:
                raise DriftError("memory:// differs from the app: " + "; ".join(found))
            for spec in specs if create else ():
                if spec.name in queues:
                    queues[spec.name].spec = spec
                else:
                    alarm = Alarm(self.lock) if self._alarms else None
                    queues[spec.name] = MemoryQueue(spec, self.clock, alarm)

    def check(self, prefix: str, messages: Sequence[Outgoing]) -> list[int]:
        """Return the positions that have no lane to go to.

        Raises `BodyTooLargeError` and `CapabilityError` if any message cannot be taken as it is.
        """
        undeclared: list[int] = []
        with self.lock:
            queues = self.app(prefix)
            for position, outgoing in enumerate(messages):
                check_size(position, outgoing)
                queue = queues.get(outgoing.lane.queue)
                if queue is None or outgoing.lane.level not in queue.lanes:
                    undeclared.append(position)
                elif outgoing.order is not None and not queue.spec.ordered:
                    raise CapabilityError(
                        f"message {position} ({outgoing.id}) has an ordering key, but queue "
                        f"{outgoing.lane.queue!r} is not declared with ordered=True"
                    )
        return undeclared

    def publish(self, prefix: str, messages: Sequence[Outgoing]) -> None:
        """See `Broker.publish`."""
        with self.lock:
            undeclared = self.check(prefix, messages)
            queues = self.app(prefix)
            now = self.clock.monotonic()
            refused = frozenset(undeclared)
            for position, outgoing in enumerate(messages):
                if position in refused:
                    continue
                queue = queues[outgoing.lane.queue]
                lane = queue.lanes[outgoing.lane.level]
                queue.put(_entry(outgoing, lane, now), now)
        if undeclared:
            raise PublishError(refusal(messages, undeclared), failed=undeclared)

    def _wake_all(self) -> None:
        with self.lock:
            for queues in self.queues.values():
                for queue in queues.values():
                    queue.wake_all()


def due_after(delay_seconds: float, now: float) -> float:
    """Return when something that is `delay_seconds` away becomes due."""
    return round(now + delay_seconds, _PLACES)


def refusal(messages: Sequence[Outgoing], undeclared: Sequence[int]) -> str:
    """Name the lanes that are missing."""
    lanes = {(messages[i].lane.queue, messages[i].lane.level) for i in undeclared}
    named = ", ".join(f"{queue!r} level {level!r}" for queue, level in sorted(lanes))
    return f"{len(undeclared)} of {len(messages)} messages have no declared queue: {named}"


def _entry(outgoing: Outgoing, lane: MemoryLane, now: float) -> Entry:
    delay = outgoing.delay
    return Entry(
        message=own_copy(outgoing.message),
        id=outgoing.id,
        lane=lane,
        order=outgoing.order,
        due=due_after(delay.total_seconds(), now) if delay else now,
    )
