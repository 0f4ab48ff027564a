"""A store in one SQLite file, in one database with the broker of the same URL."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from brokerq.broker import Broker, Outgoing
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.errors import BrokerqError
from brokerq.outbox import OutboxStats, Taken
from brokerq.records import (
    Busy,
    CancelAnswer,
    ClaimAnswer,
    Duplicate,
    Hold,
    Now,
    Recorded,
    ReserveAnswer,
    State,
)
from brokerq.store import (
    Claim,
    Colocated,
    Finish,
    Holding,
    JobFilter,
    JobView,
    NewJob,
    Retention,
    Store,
    Transactional,
)
from brokerq_sqlite import jobs as jobs_
from brokerq_sqlite import joining, outgoing, views
from brokerq_sqlite import letters as letters_
from brokerq_sqlite import outbox as outbox_
from brokerq_sqlite import retention as retention_
from brokerq_sqlite.broker import SqliteBroker
from brokerq_sqlite.database import Database
from brokerq_sqlite.errors import translate
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.publishing import Recording
from brokerq_sqlite.queries import load
from brokerq_sqlite.topology import Topology, find_lanes
from brokerq_sqlite.wire import span, to_micros
from brokerq_sqlite.writer import Transaction

T = TypeVar("T")

logger = logging.getLogger("brokerq.sqlite")

_SYNC = "UPDATE brokerq_about SET value = value + 1 WHERE name = 'fence'"
"""Changes something: a commit that changes nothing syncs nothing."""
_AGAIN = Busy(wait=timedelta(seconds=1))
_PAUSE = load("pause_queue")
_RESUME = load("resume_queue")
_FIND_PAUSES = load("find_pauses")


class SqliteStore(Store, Colocated, Transactional):
    """One app's records in a file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._topology = Topology(database)
        self._is_open = False
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        async with self._turn:
            if self._is_open and not self._database.forked:
                return
            self._topology.forget()
            await self._database.open()
            self._is_open = True

    async def close(self) -> None:
        async with self._turn:
            if self._is_open:
                self._is_open = False
                await self._database.close()

    def _require_open(self) -> None:
        self._database.require_open(self._is_open)

    async def _write(self, run: Callable[[Transaction], T], *, durable: bool = True) -> T:
        self._require_open()
        return await self._database.write(run, durable=durable)

    async def _change(self, change: Callable[[Ledger], T], *, durable: bool = True) -> T:
        """Run it on a ledger as of the transaction's own time."""
        database = self._database
        clock = database.clock

        def run(transaction: Transaction) -> T:
            now = Now(wall=clock.now(), lease=clock.monotonic())
            return change(Ledger(transaction, database.app, now))

        return await self._write(run, durable=durable)

    async def _read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        self._require_open()
        return await self._database.read(run)

    async def claim(self, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        answers = await self._change(lambda ledger: jobs_.claim(ledger, claims), durable=False)
        if not any(isinstance(answer, Duplicate | Recorded) for answer in answers):
            return answers
        # The claim itself may have ended these jobs, whose messages are removed next.
        try:
            await self._write(lambda transaction: transaction.db.execute(_SYNC).rowcount)
        except BrokerqError as exc:  # the other claims were made, and must be told
            logger.warning("jobs that have ended are looked at again: %s", exc)
            ended = Duplicate | Recorded
            return [_AGAIN if isinstance(answer, ended) else answer for answer in answers]
        return answers

    async def renew(self, holdings: Sequence[Holding], *, lease: timedelta) -> Sequence[Hold]:
        # Synced, unlike claims: the crash of who takes the host along is counted from here on.
        return await self._change(lambda ledger: jobs_.renew(ledger, holdings, lease))

    async def finish(self, finishes: Sequence[Finish]) -> Sequence[State | None]:
        return await self._change(lambda ledger: jobs_.finish(ledger, finishes))

    async def reserve(
        self, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
    ) -> Sequence[ReserveAnswer]:
        return await self._change(
            lambda ledger: jobs_.reserve(ledger, jobs, owner=owner, lease=lease)
        )

    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        await self._change(lambda ledger: jobs_.enqueue(ledger, jobs))

    async def free(self, ids: Sequence[str], *, owner: str) -> None:
        await self._change(lambda ledger: jobs_.free(ledger, ids, owner))

    async def cancel(self, job_id: str) -> CancelAnswer:
        return await self._change(lambda ledger: outbox_.cancel(ledger, job_id))

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobView | None]:
        app, now = self._database.app, self._database.now()
        return await self._read(lambda db: views.get(db, app, job_ids, now))

    async def search(
        self, wanted: JobFilter, *, limit: int, after: str | None = None
    ) -> Sequence[JobView]:
        app, now = self._database.app, self._database.now()
        return await self._read(
            lambda db: views.search(db, app, wanted, limit=limit, after=after, now=now)
        )

    async def counts(self) -> Mapping[tuple[str, State], int]:
        app = self._database.app
        return await self._read(lambda db: views.counts(db, app))

    async def prune(self, retention: Retention, *, limit: int) -> int:
        app, now = self._database.app, self._database.now()
        mono = self._database.clock.monotonic()
        return await self._write(
            lambda transaction: retention_.prune(
                transaction, app, retention, limit=limit, now=now, mono=mono
            )
        )

    async def letters(
        self, wanted: LetterFilter, *, limit: int, after: str | None = None
    ) -> Sequence[Letter]:
        app, now = self._database.app, self._database.now()
        return await self._read(
            lambda db: letters_.find(db, app, wanted, limit=limit, after=after, now=now)
        )

    async def begin_redrive(
        self, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
    ) -> Sequence[Redrive | NotRedriven]:
        return await self._change(
            lambda ledger: letters_.begin_redrives(ledger, job_ids, by=by, force=force, lease=lease)
        )

    async def end_redrive(self, redrives: Sequence[Redrive]) -> None:
        app = self._database.app
        await self._write(lambda transaction: letters_.end_redrives(transaction.db, app, redrives))

    async def lapsed_redrives(self, *, limit: int) -> Sequence[str]:
        app, now = self._database.app, self._database.clock.monotonic()
        return await self._read(
            lambda db: letters_.find_lapsed(db, app, limit=limit, lease_now=now)
        )

    async def close_letters(
        self, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
    ) -> Sequence[bool]:
        app = self._database.app
        return await self._write(
            lambda transaction: letters_.close(
                transaction.db, app, job_ids, state=state, by=by, note=note
            )
        )

    async def pause(self, queue: str, *, by: str) -> None:
        row = (self._database.app, queue, by)
        await self._write(lambda transaction: transaction.db.execute(_PAUSE, row).rowcount)

    async def resume(self, queue: str) -> None:
        row = (self._database.app, queue)
        await self._write(lambda transaction: transaction.db.execute(_RESUME, row).rowcount)

    async def paused(self) -> Collection[str]:
        app = self._database.app
        rows = await self._read(lambda db: db.execute(_FIND_PAUSES, (app,)).fetchall())
        return frozenset(queue for (queue,) in rows)

    async def schedule(self, jobs: Sequence[tuple[NewJob, Outgoing]]) -> Sequence[ReserveAnswer]:
        return await self._change(lambda ledger: outbox_.schedule(ledger, jobs))

    async def take(
        self, *, owner: str, lease: timedelta, ahead: timedelta, limit: int
    ) -> Sequence[Taken]:
        database = self._database
        now, mono = database.now(), database.clock.monotonic()
        wanted = outbox_.Lease(owner, now, mono, lease)
        return await self._write(
            lambda t: outbox_.take(t.db, database.app, wanted, ahead=ahead, limit=limit)
        )

    async def sent(self, ids: Sequence[int], *, owner: str) -> None:
        app = self._database.app
        await self._write(lambda transaction: outbox_.sent(transaction.db, app, ids, owner))

    async def put_back(self, ids: Sequence[int], *, owner: str, delay: timedelta) -> None:
        app, ready_at = self._database.app, self._database.now() + span(delay)
        await self._write(lambda t: outbox_.put_back(t.db, app, ids, owner, ready_at))

    async def next_due(self, *, ahead: timedelta) -> timedelta | None:
        app, now = self._database.app, self._database.now()
        mono = self._database.clock.monotonic()
        return await self._read(
            lambda db: outbox_.next_due(db, app, ahead=ahead, now=now, mono=mono)
        )

    async def outbox(self) -> OutboxStats:
        app, now = self._database.app, self._database.now()
        return await self._read(lambda db: outbox_.stats(db, app, now))

    def shares(self, broker: Broker) -> bool:
        return isinstance(broker, SqliteBroker) and broker.database.path == self._database.path

    async def publish_recorded(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> Sequence[ReserveAnswer]:
        self._require_open()
        messages, now = [message for _, message in jobs], self._database.now()
        batch = outgoing.prepare(messages, self._topology.known, now)
        if batch.undeclared:
            batch = outgoing.prepare(messages, await self._topology.look(), now)
        recording = Recording(jobs, batch)
        return await recording.confirm(self._change(recording.run))

    def join_sync(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        self._require_open()
        database = self._database
        clock = database.clock
        now = Now(wall=clock.now(), lease=clock.monotonic())
        try:
            with joining.joined(connection, database.path) as transaction:
                ledger = Ledger(transaction, database.app, now)
                if outbox:
                    return outbox_.schedule(ledger, jobs)
                lanes = find_lanes(transaction.db, database.app)
                messages = [message for _, message in jobs]
                batch = outgoing.prepare(messages, lanes, to_micros(now.wall))
                return Recording(jobs, batch).run(ledger)
        except sqlite3.Error as exc:
            raise outgoing.failed(jobs, translate(exc, database.path), unknown=False) from exc

    async def join(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        return self.join_sync(connection, jobs, outbox=outbox)

    def join_finish_sync(self, connection: object, finish: Finish) -> State | None:
        self._require_open()
        database = self._database
        now = Now(wall=database.clock.now(), lease=database.clock.monotonic())
        try:
            with joining.joined(connection, database.path) as transaction:
                return jobs_.finish(Ledger(transaction, database.app, now), [finish])[0]
        except sqlite3.Error as exc:
            raise translate(exc, database.path) from exc

    async def join_finish(self, connection: object, finish: Finish) -> State | None:
        return self.join_finish_sync(connection, finish)
