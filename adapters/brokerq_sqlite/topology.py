"""What is declared: the queues of an app, the numbers of their lanes, and drift."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from brokerq.broker import QueueSpec
from brokerq.sql import topology
from brokerq.sql.topology import KnownLanes, LaneRow
from brokerq_sqlite.database import Database
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import span
from brokerq_sqlite.writer import Transaction

_FIND_LANES = load("find_lanes")
_ADD_QUEUE = load("add_queue")
_ADD_LANE = load("add_lane")
_CHANGE_LEASE = load("change_lease")

LaneRows = topology.LaneRows


class Topology(KnownLanes):
    """The lanes of one app in the file."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        app = self._database.app

        def check(db: sqlite3.Connection) -> LaneRows:
            return _check(db, app, queues, create=False)

        def bring_about(transaction: Transaction) -> LaneRows:
            there = _check(transaction.db, app, queues, create=True)
            _add_missing(transaction.db, app, queues, there)
            return find_lanes(transaction.db, app)

        database = self._database
        known = await (database.write(bring_about) if create else database.read(check))
        self.known = known
        self.leases.update({spec.name: spec.lease for spec in queues})

    async def look(self) -> LaneRows:
        app = self._database.app
        self.known = await self._database.read(lambda db: find_lanes(db, app))
        return self.known


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
    topology.check(queues, there, create=create)
    return there


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
