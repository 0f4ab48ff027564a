"""Messages that wait for a relay; called with the state's lock held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nsmallest

from brokerq.broker import Outgoing
from brokerq.duration import ZERO
from brokerq.outbox import Backlog, OutboxStats, Taken
from brokerq.records import Now
from brokerq_memory.wire import own_copy


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """A message.

    Attributes:
        due: When it should be in the broker.
        back: Not taken again earlier, since the broker refused it.
        until: When the lease of its owner ends.
    """

    id: int
    outgoing: Outgoing
    due: datetime
    back: datetime | None = None
    owner: str | None = None
    until: float = 0.0

    def ready(self, ahead: timedelta) -> datetime:
        """Return from when on it can be taken."""
        return self.due - ahead if self.back is None else self.back

    def is_free(self, now: Now) -> bool:
        """Tell whether nobody holds it."""
        return self.owner is None or self.until <= now.lease


class Outbox:
    """The messages of one app, by row."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._number = 0

    def add(self, outgoing: Outgoing, not_before: datetime | None, now: Now) -> None:
        """Keep a message."""
        self._number += 1
        own = replace(outgoing, message=own_copy(outgoing.message))
        due = not_before or now.wall + outgoing.delay
        self._rows[self._number] = Row(id=self._number, outgoing=own, due=due)

    def drop(self, job_id: str) -> None:
        """Remove the messages of a job."""
        for row in [row for row in self._rows.values() if row.outgoing.id == job_id]:
            del self._rows[row.id]

    def take(
        self, *, owner: str, lease: timedelta, ahead: timedelta, limit: int, now: Now
    ) -> list[Taken]:
        """See `brokerq.outbox.Outbox.take`."""
        ready = (row for row in self._free(now) if row.ready(ahead) <= now.wall)
        taken = nsmallest(limit, ready, key=lambda row: (row.due, row.id))
        for row in taken:
            row.owner = owner
            row.until = now.lease + lease.total_seconds()
        return [
            Taken(row.id, replace(row.outgoing, delay=max(ZERO, row.due - now.wall)))
            for row in taken
        ]

    def _free(self, now: Now) -> Iterable[Row]:
        """Yield what nobody holds; of each ordering key only the first, if it is free."""
        seen: set[tuple[str, str]] = set()
        for row in self._rows.values():
            order = row.outgoing.order
            if order is not None:
                line = (row.outgoing.lane.queue, order)
                if line in seen:
                    continue
                seen.add(line)
            if row.is_free(now):
                yield row

    def sent(self, ids: Sequence[int], owner: str) -> None:
        """See `brokerq.outbox.Outbox.sent`."""
        for row in self._held(ids, owner):
            del self._rows[row.id]

    def put_back(self, ids: Sequence[int], owner: str, delay: timedelta, now: Now) -> None:
        """See `brokerq.outbox.Outbox.put_back`."""
        for row in self._held(ids, owner):
            row.owner = None
            row.back = now.wall + delay

    def _held(self, ids: Sequence[int], owner: str) -> list[Row]:
        rows = (self._rows.get(id_) for id_ in ids)
        return [row for row in rows if row is not None and row.owner == owner]

    def next_due(self, ahead: timedelta, now: Now) -> timedelta | None:
        """See `brokerq.outbox.Outbox.next_due`."""
        first = min((row.ready(ahead) for row in self._free(now)), default=None)
        return None if first is None else max(ZERO, first - now.wall)

    def stats(self, now: Now) -> OutboxStats:
        """Count."""
        queues: dict[str, Backlog] = {}
        oldest = now.wall
        for row in self._rows.values():
            name = row.outgoing.lane.queue
            waiting, due = queues.get(name, Backlog(0, 0))
            queues[name] = Backlog(waiting + 1, due + (row.due <= now.wall))
            oldest = min(oldest, row.due)
        return OutboxStats(queues=queues, overdue=now.wall - oldest)
