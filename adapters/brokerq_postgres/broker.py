"""A broker in a PostgreSQL database, shared by any number of hosts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import UTC, datetime, timedelta

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
from brokerq.clock import Clock
from brokerq.errors import ConnectionLostError, PublishError, StorageError
from brokerq.message import Message
from brokerq.sql.broker import LaneBroker
from brokerq.sql.topology import LaneRow
from brokerq_postgres import outgoing
from brokerq_postgres.consumer import PostgresLane
from brokerq_postgres.database import Database
from brokerq_postgres.topology import Topology
from brokerq_postgres.transaction import Transaction
from brokerq_postgres.wire import MAX_BODY, escape, read_message, scalars, texts, unescape

_PURGE_STEP = 1_000
_PAGE = 100
_SLACK = 0.001
"""Seconds; the server's clock is not the event loop's, and notifications are in milliseconds."""
_READY, _BLOCKED = 0, 1
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC)

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


class PostgresBroker(LaneBroker[float], Inspectable):
    """One app's queues in a database."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self.database = database
        self.topology = Topology(database)
        super().__init__(database, self.topology, clock=clock, slack=_SLACK)

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self._require_open()
        batch = outgoing.prepare(messages, self.topology.known)
        if batch.undeclared:
            batch = outgoing.prepare(messages, await self.topology.look())
        if batch.rows:
            try:
                await self._add(batch.rows)
            except (ConnectionLostError, StorageError) as exc:
                raise outgoing.failed(messages, exc) from exc
        if batch.undeclared:
            refusal = outgoing.refusal(messages, batch.undeclared)
            raise PublishError(refusal, failed=batch.undeclared)

    async def _add(self, rows: Sequence[outgoing.MessageRow]) -> None:
        if outgoing.is_ordered(rows):
            await self.database.change(lambda transaction: outgoing.add(rows, transaction))
        else:
            await self.database.fetch("add_messages", outgoing.columns(rows))
            self.database.wakeup.announce(outgoing.touched(rows))

    def _statements(self, lane: Lane, row: LaneRow, lease: timedelta) -> PostgresLane:
        return PostgresLane(self.database, lane, row, lease=lease)

    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        self._require_open()
        return [await self._count(queue) for queue in queues]

    async def _count(self, queue: str) -> QueueStats:
        values = {"app": self.database.app, "queue": escape(queue)}
        (row,) = await self.database.fetch("count_messages", values)
        ready, in_flight, delayed, dead, oldest = row
        return QueueStats(
            queue=queue,
            ready=ready,
            in_flight=in_flight,
            delayed=delayed,
            dead=dead,
            oldest=None if oldest is None else timedelta(seconds=oldest),
        )

    async def purge(self, queue: str) -> int:
        """Remove in small steps, so that nobody waits for a lock for long."""
        self._require_open()
        rows = await self.topology.look()
        lanes = [row.id for (name, _), row in rows.items() if name == queue]
        ((last,),) = await self.database.fetch("find_last_message", {})
        removed = 0
        for lane in lanes:
            # What waits behind others goes first: else it would only move up.
            for state in (_BLOCKED, _READY):
                while step := await self._purge(lane, state, last):
                    removed += step
        return removed

    async def _purge(self, lane: int, state: int, last: int) -> int:
        async def purge(transaction: Transaction) -> int:
            values = {"lane": lane, "state": state, "last": last, "limit": _PURGE_STEP}
            rows = await transaction.fetch("find_to_purge", values)
            order_keys = {"order_keys": texts([unescape(key) for _, key in rows if key])}
            await transaction.send("lock_order_keys", order_keys)
            ids = {"ids": scalars(id_ for id_, _ in rows)}
            removed = await transaction.fetch("purge_messages", ids)
            for freed, seconds in await transaction.fetch("unblock_messages", order_keys):
                transaction.touch(freed, max(0.0, seconds))
            return len(removed)

        return await self.database.change(purge)

    async def _letters(self, queue: str) -> AsyncGenerator[Message]:
        values: dict[str, object] = {
            "app": self.database.app,
            "queue": escape(queue),
            "after": _BEGINNING,
            "after_id": 0,
            "limit": _PAGE,
        }
        while True:
            page = await self.database.fetch("read_dead_messages", values)
            for at, id_, headers, body in page:
                values["after"], values["after_id"] = at, id_
                yield read_message(headers, body)
            if len(page) < _PAGE:
                return

    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        self._require_open()
        values = {
            "app": self.database.app,
            "queue": escape(queue),
            "job_ids": texts([job_id for job_id, _ in letters]),
            "epochs": texts([str(epoch) for _, epoch in letters]),
        }
        return len(await self.database.fetch("discard_dead_messages", values))
