"""The messages that wait for a relay; the functions that take a ledger or a connection write."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from brokerq.broker import Lane, Outgoing
from brokerq.outbox import Backlog, OutboxStats, Taken
from brokerq.records import CancelAnswer, ReserveAnswer
from brokerq.store import NewJob
from brokerq_sqlite import jobs as jobs_
from brokerq_sqlite.keys import take_keys
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import headers_text, numbers, read_message, span, to_micros

_KEEP = load("keep_message")
_TAKE = load("take_kept_messages")
_REMOVE_SENT = load("remove_sent_messages")
_REMOVE = load("remove_kept_message")
_RELEASE = load("release_kept_message")
_PUT_BACK = load("put_back_kept_messages")
_FIND_NEXT = load("find_next_kept_message")
_COUNT = load("count_kept_messages")


class Row(NamedTuple):
    """What `take_kept_messages.sql` returns."""

    due_at: int
    id: int
    job_id: str
    queue: str
    level: str
    order_key: str | None
    tenant: str | None
    headers: str
    body: bytes


def schedule(ledger: Ledger, jobs: Sequence[tuple[NewJob, Outgoing]]) -> list[ReserveAnswer]:
    """See `brokerq.outbox.Outbox.schedule`."""
    news = [job for job, _ in jobs]
    answers, taken = take_keys(ledger, news)
    for number in taken:
        _keep(ledger, *jobs[number])
    jobs_.enqueue(ledger, [news[number] for number in taken])
    return answers


def _keep(ledger: Ledger, job: NewJob, outgoing: Outgoing) -> None:
    not_before = job.head.not_before
    values = {
        "app": ledger.app,
        "job_id": outgoing.id,
        "queue": outgoing.lane.queue,
        "level": outgoing.lane.level,
        "due": to_micros(not_before) if not_before else ledger.micros + span(outgoing.delay),
        "order_key": outgoing.order,
        "tenant": outgoing.tenant,
        "headers": headers_text(outgoing.message.headers),
        "body": outgoing.message.body,
    }
    ledger.db.execute(_KEEP, values)


def cancel(ledger: Ledger, job_id: str) -> CancelAnswer:
    """See `brokerq.store.Jobs.cancel`."""
    answer = jobs_.cancel(ledger, job_id)
    if answer == CancelAnswer.CANCELLED:
        db, app = ledger.db, ledger.app
        _release(db, app, db.execute(_REMOVE, (app, job_id)).fetchall())
    return answer


def _release(db: sqlite3.Connection, app: int, gone: Sequence[tuple[str, str | None]]) -> None:
    for queue, order_key in gone:
        if order_key is not None:
            db.execute(_RELEASE, (app, queue, order_key))


class Lease(NamedTuple):
    """Who takes messages, as of when; microseconds, and seconds on the lease clock."""

    owner: str
    now: int
    mono: float
    lease: timedelta


def take(
    db: sqlite3.Connection, app: int, lease: Lease, *, ahead: timedelta, limit: int
) -> list[Taken]:
    """See `brokerq.outbox.Outbox.take`."""
    values = {
        "app": app,
        "owner": lease.owner,
        "until": lease.mono + lease.lease.total_seconds(),
        "now": lease.now,
        "mono": lease.mono,
        "ahead": span(ahead),
        "limit": limit,
    }
    rows = sorted(Row(*row) for row in db.execute(_TAKE, values))
    return [_read(row, lease.now) for row in rows]


def _read(row: Row, now: int) -> Taken:
    outgoing = Outgoing(
        lane=Lane(queue=row.queue, level=row.level),
        message=read_message(row.headers, row.body),
        id=row.job_id,
        delay=timedelta(microseconds=max(0, row.due_at - now)),
        order=row.order_key,
        tenant=row.tenant,
    )
    return Taken(row.id, outgoing)


def sent(db: sqlite3.Connection, app: int, ids: Sequence[int], owner: str) -> None:
    """See `brokerq.outbox.Outbox.sent`."""
    gone = db.execute(_REMOVE_SENT, (app, numbers(list(ids)), owner)).fetchall()
    _release(db, app, gone)


def put_back(
    db: sqlite3.Connection, app: int, ids: Sequence[int], owner: str, ready_at: int
) -> None:
    """See `brokerq.outbox.Outbox.put_back`."""
    db.execute(_PUT_BACK, (ready_at, app, numbers(list(ids)), owner))


def next_due(
    db: sqlite3.Connection, app: int, *, ahead: timedelta, now: int, mono: float
) -> timedelta | None:
    """See `brokerq.outbox.Outbox.next_due`."""
    values = {"app": app, "ahead": span(ahead), "mono": mono}
    (ready_at,) = db.execute(_FIND_NEXT, values).fetchone()
    return None if ready_at is None else timedelta(microseconds=max(0, ready_at - now))


def stats(db: sqlite3.Connection, app: int, now: int) -> OutboxStats:
    """See `brokerq.outbox.Outbox.outbox`."""
    rows = db.execute(_COUNT, {"app": app, "now": now}).fetchall()
    oldest = min((first for *_, first in rows), default=now)
    return OutboxStats(
        queues={queue: Backlog(waiting, due) for queue, waiting, due, _ in rows},
        overdue=timedelta(microseconds=max(0, now - oldest)),
    )
