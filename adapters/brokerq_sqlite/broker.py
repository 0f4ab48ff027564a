"""A broker in one SQLite file, shared by all processes of one host."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import timedelta
from functools import partial

from brokerq.broker import (
    Capabilities,
    Counting,
    Durability,
    Inspectable,
    Lane,
    Ordering,
    Outgoing,
    QueueStats,
)
from brokerq.errors import ConnectionLostError, PublishError, StorageError
from brokerq.message import Message
from brokerq.sql.broker import LaneBroker
from brokerq.sql.topology import LaneRow
from brokerq_sqlite import outgoing
from brokerq_sqlite.consumer import SqliteLane
from brokerq_sqlite.database import Database
from brokerq_sqlite.deliveries import NextEvent, release_lapsed, unblock
from brokerq_sqlite.errors import OutcomeUnknownError
from brokerq_sqlite.queries import load
from brokerq_sqlite.topology import Topology
from brokerq_sqlite.wire import MAX_BODY, read_message, texts
from brokerq_sqlite.writer import Transaction

_COUNT = load("count_messages")
_PURGE_BLOCKED = load("purge_blocked_messages")
_PURGE_READY = load("purge_ready_messages")
_FIND_LAST = load("find_last_message")
_READ_DEAD = load("read_dead_messages")
_DISCARD = load("discard_dead_messages")

_PURGE_STEP = 2_000
_PAGE = 100
_SLACK = 0.0005
"""Seconds; the wall clock, by which messages are due, is not the event loop's."""

CAPABILITIES = Capabilities(
    max_body=MAX_BODY,
    max_delay=None,
    max_batch=10_000,
    lease=timedelta(seconds=30),
    max_hold=None,
    ordering=Ordering.PER_KEY,
    delayed_ordering=True,
    max_levels=None,
    counting=Counting.ALL,
    durability=Durability.HOST,
    reports_lost_lease=True,
    publish_in_transaction=True,
)


class SqliteBroker(LaneBroker[NextEvent], Inspectable):
    """One app's queues in a file."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.topology = Topology(database)
        super().__init__(database, self.topology, clock=database.clock, slack=_SLACK)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._require_open()
        now = self.database.now()
        batch = outgoing.prepare(messages, self.topology.known, now)
        if batch.undeclared:
            batch = outgoing.prepare(messages, await self.topology.look(), now)
        if batch.rows:
            try:
                await self.database.write(partial(outgoing.add, batch.rows, batch.order_keys))
            except (ConnectionLostError, StorageError) as exc:
                unknown = isinstance(exc, OutcomeUnknownError)
                raise outgoing.failed(messages, exc, unknown=unknown) from exc
        if batch.undeclared:
            refusal = outgoing.refusal(messages, batch.undeclared)
            raise PublishError(refusal, failed=batch.undeclared)

    def _statements(self, lane: Lane, row: LaneRow, lease: timedelta) -> SqliteLane:
        return SqliteLane(self.database, lane, row, lease=lease)

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        self._require_open()
        app, now, mono = self.database.app, self.database.now(), self.database.clock.monotonic()

        def count(db: sqlite3.Connection) -> list[QueueStats]:
            db.execute("BEGIN")  # one picture of all of them
            try:
                return [_count(db, queue, app=app, now=now, mono=mono) for queue in queues]
            finally:
                db.execute("COMMIT")

        return await self.database.read(count)

    async def purge(self, queue: str) -> int:
        """Remove in small steps, so that nobody waits for the lock for long."""
        self._require_open()
        rows = await self.topology.look()
        lanes = [row.id for (name, _), row in rows.items() if name == queue]
        last = await self.database.read(lambda db: int(db.execute(_FIND_LAST).fetchone()[0]))
        removed = 0
        for lane in lanes:
            # What waits behind others goes first: else it would only move up.
            for statement in (_PURGE_BLOCKED, _PURGE_READY):
                step = _PURGE_STEP
                while step == _PURGE_STEP:
                    mono = self.database.clock.monotonic()
                    purge = partial(_purge, statement, lane=lane, last=last, mono=mono)
                    step = await self.database.write(purge)
                    removed += step
        return removed

    async def _letters(self, queue: str) -> AsyncGenerator[Message]:
        values = {
            "app": self.database.app,
            "queue": queue,
            "after_due": -1,
            "after_id": 0,
            "limit": _PAGE,
        }
        while True:
            page = await self.database.read(lambda db: db.execute(_READ_DEAD, values).fetchall())
            for due, id_, headers, body in page:
                values["after_due"], values["after_id"] = due, id_
                yield read_message(headers, body)
            if len(page) < _PAGE:
                return

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        self._require_open()
        named = [[job_id, str(epoch)] for job_id, epoch in letters]
        values = {"app": self.database.app, "queue": queue, "letters": texts(named)}
        return await self.database.write(lambda t: t.db.execute(_DISCARD, values).rowcount)


def _count(db: sqlite3.Connection, queue: str, *, app: int, now: int, mono: float) -> QueueStats:
    values = {"app": app, "queue": queue, "now": now, "mono": mono}
    ready, in_flight, delayed, dead, oldest = db.execute(_COUNT, values).fetchone()
    return QueueStats(
        queue=queue,
        ready=ready,
        in_flight=in_flight,
        delayed=delayed,
        dead=dead,
        oldest=None if oldest is None else timedelta(microseconds=now - oldest),
    )


def _purge(statement: str, transaction: Transaction, *, lane: int, last: int, mono: float) -> int:
    release_lapsed(transaction, lane=lane, mono=mono)
    values = {"lane": lane, "last": last, "limit": _PURGE_STEP}
    rows = transaction.db.execute(statement, values).fetchall()
    order_keys = [order_key for (order_key,) in rows if order_key is not None]
    if order_keys:
        unblock(transaction, order_keys)
    return len(rows)
