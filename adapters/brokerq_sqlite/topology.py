"""What is declared: the queues of an app, the numbers of their lanes, and drift."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import DriftError, UnknownQueueError
from brokerq_sqlite.database import Database
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import span
from brokerq_sqlite.writer import Transaction

_FIND_LANES = load("find_lanes")
_ADD_QUEUE = load("add_queue")
_ADD_LANE = load("add_lane")
_CHANGE_LEASE = load("change_lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A lane as the file knows it.

    Attributes:
        id: Never given to another lane, even of another app.
        queue: The queue's own number.
        lease: Seconds.
    """

    id: int
    queue: int
    ordered: bool
    lease: float


LaneRows = dict[tuple[str, str], LaneRow]
"""By queue and level."""


class Topology:
    """The lanes of one app; a lane that is there stays there, so what is known stays true."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: LaneRows = {}
        self._leases: dict[str, timedelta] = {}

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        """See `brokerq.broker.Broker.declare`."""
        app = self._database.app

        def check(db: sqlite3.Connection) -> LaneRows:
            return _check(db, app, queues, create=False)

        def bring_about(transaction: Transaction) -> LaneRows:
            there = _check(transaction.db, app, queues, create=True)
            _add_missing(transaction.db, app, queues, there)
            return find_lanes(transaction.db, app)

        database = self._database
        known = await (database.write(bring_about) if create else database.read(check))
        self._known = known
        self._leases.update({spec.name: spec.lease for spec in queues})

    @property
    def known(self) -> LaneRows:
        """What is known of the app's lanes; others may have been declared since."""
        return self._known

    async def look(self) -> LaneRows:
        """Return all lanes that the app has now."""
        app = self._database.app
        self._known = await self._database.read(lambda db: find_lanes(db, app))
        return self._known

    async def get(self, lane: Lane) -> LaneRow:
        """Return the lane. Raises `UnknownQueueError`."""
        place = (lane.queue, lane.level)
        row = self._known.get(place) or (await self.look()).get(place)
        if row is None:
            raise UnknownQueueError(
                f"queue {lane.queue!r} with level {lane.level!r} is not declared: declare it first"
            )
        return row

    def lease(self, lane: Lane, row: LaneRow) -> timedelta:
        """Return the lease: as this process declared it, else as the last one did."""
        return self._leases.get(lane.queue, timedelta(seconds=row.lease))

    def forget(self) -> None:
        """Look anew; the file may be another when it is opened again."""
        self._known = {}


def find_lanes(db: sqlite3.Connection, app: int) -> LaneRows:
    """Read the lanes of an app."""
    return {
        (name, level): LaneRow(id=lane, queue=queue, ordered=bool(ordered), lease=lease / 1e6)
        for name, level, lane, queue, ordered, lease in db.execute(_FIND_LANES, (app,))
    }


def _check(
    db: sqlite3.Connection, app: int, queues: Sequence[QueueSpec], *, create: bool
) -> LaneRows:
    there = find_lanes(db, app)
    found = list(differences(queues, there, create=create))
    if found:
        raise DriftError("; ".join(found))
    return there


def differences(wanted: Sequence[QueueSpec], there: LaneRows, *, create: bool) -> Iterator[str]:
    """Say, one sentence each, what is not as wanted. A lease may change."""
    levels: dict[str, list[str]] = {}
    ordered: dict[str, bool] = {}
    for (queue, level), row in there.items():
        levels.setdefault(queue, []).append(level)
        ordered[queue] = row.ordered
    for spec in wanted:
        name = spec.name
        if name not in levels:
            if not create:
                yield f"queue {name!r} is not there"
            continue
        if set(levels[name]) != set(spec.levels):
            yield (
                f"queue {name!r} has the levels {', '.join(levels[name])}, "
                f"the app declares {', '.join(spec.levels)}"
            )
        if ordered[name] != spec.ordered:
            yield (
                f"queue {name!r} is {'' if ordered[name] else 'not '}ordered, "
                f"the app declares that it is{'' if spec.ordered else ' not'}"
            )


def _add_missing(
    db: sqlite3.Connection, app: int, queues: Sequence[QueueSpec], there: LaneRows
) -> None:
    known = {queue: row.lease for (queue, _), row in there.items()}
    for spec in queues:
        lease = span(spec.lease)
        if spec.name not in known:
            (queue,) = db.execute(_ADD_QUEUE, (app, spec.name, spec.ordered, lease)).fetchone()
            lanes = [(queue, level, position) for position, level in enumerate(spec.levels)]
            db.executemany(_ADD_LANE, lanes)
            known[spec.name] = lease / 1e6
        elif known[spec.name] != lease / 1e6:
            db.execute(_CHANGE_LEASE, (lease, app, spec.name))
