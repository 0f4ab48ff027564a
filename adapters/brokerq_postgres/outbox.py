"""The messages that wait for a relay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from brokerq.broker import Lane, Outgoing
from brokerq.duration import ZERO
from brokerq.outbox import Backlog, OutboxStats, Taken
from brokerq.records import CancelAnswer, ReserveAnswer
from brokerq.store import NewJob
from brokerq_postgres import jobs as jobs_
from brokerq_postgres.database import Database
from brokerq_postgres.publishing import take as take_keys
from brokerq_postgres.transaction import Rows, Transaction, Values
from brokerq_postgres.wire import (
    escape,
    headers_text,
    read_message,
    scalars,
    span,
    texts,
    unescape,
    unescape_or_null,
)


async def schedule(
    transaction: Transaction, jobs: Sequence[tuple[NewJob, Outgoing]]
) -> list[ReserveAnswer]:
    """See `brokerq.outbox.Outbox.schedule`."""
    news = [job for job, _ in jobs]
    ledger, answers, taken = await take_keys(transaction, news)
    await _keep(transaction, [jobs[number] for number in taken])
    jobs_.enqueue_loaded(ledger, [news[number] for number in taken])
    await ledger.flush()
    return answers


async def _keep(transaction: Transaction, jobs: Sequence[tuple[NewJob, Outgoing]]) -> None:
    if not jobs:
        return
    messages = [outgoing for _, outgoing in jobs]
    values = {
        "app": transaction.app,
        "job_ids": texts([each.id for each in messages]),
        "queues": texts([each.lane.queue for each in messages]),
        "levels": texts([each.lane.level for each in messages]),
        "delays": scalars(span(each.delay) for each in messages),
        "not_befores": scalars(job.head.not_before for job, _ in jobs),
        "order_keys": texts([each.order for each in messages]),
        "tenants": texts([each.tenant for each in messages]),
        "headers": texts([headers_text(each.message.headers) for each in messages]),
        "bodies": [each.message.body for each in messages],
    }
    if any(each.order is not None for each in messages):
        transaction.require_latest()
        names = ("app", "queues", "order_keys")
        await transaction.send("lock_kept_keys", {name: values[name] for name in names})
    await transaction.send("keep_messages", values)


async def cancel(transaction: Transaction, job_id: str) -> CancelAnswer:
    """See `brokerq.store.Jobs.cancel`."""
    answer = await jobs_.cancel(transaction, job_id)
    if answer == CancelAnswer.CANCELLED:
        place = {"app": transaction.app, "job_id": escape(job_id)}
        keys = await transaction.fetch("find_kept_keys_of_job", place)
        await _end(transaction, "remove_kept_messages", place, keys)
    return answer


async def _end(transaction: Transaction, name: str, values: Values, keys: Rows) -> None:
    """Remove messages; what waits behind those with ordering keys may go."""
    freed = {
        "app": transaction.app,
        "queues": texts([unescape(queue) for queue, _ in keys]),
        "order_keys": texts([unescape(order_key) for _, order_key in keys]),
    }
    if keys:
        await transaction.send("lock_kept_keys", freed)
    await transaction.send(name, values)
    if keys:
        await transaction.send("release_kept_messages", freed)


async def take(
    database: Database, *, owner: str, lease: timedelta, ahead: timedelta, limit: int
) -> list[Taken]:
    """See `brokerq.outbox.Outbox.take`."""
    values = {
        "app": database.app,
        "owner": escape(owner),
        "lease": lease.total_seconds(),
        "ahead": ahead,
        "limit": limit,
    }
    rows = await database.fetch("take_kept_messages", values)
    return [_read(row[1:]) for row in sorted(rows)]


def _read(row: tuple[int, int, str, str, str, str | None, str | None, str, bytes]) -> Taken:
    id_, delay, job_id, queue, level, order_key, tenant, headers, body = row
    outgoing = Outgoing(
        lane=Lane(queue=unescape(queue), level=unescape(level)),
        message=read_message(headers, body),
        id=unescape(job_id),
        delay=timedelta(microseconds=max(0, delay)),
        order=unescape_or_null(order_key),
        tenant=unescape_or_null(tenant),
    )
    return Taken(id_, outgoing)


async def sent(transaction: Transaction, ids: Sequence[int], owner: str) -> None:
    """See `brokerq.outbox.Outbox.sent`."""
    values = {"app": transaction.app, "ids": scalars(ids)}
    keys = await transaction.fetch("find_kept_keys", values)
    await _end(transaction, "remove_sent_messages", {**values, "owner": escape(owner)}, keys)


async def put_back(database: Database, ids: Sequence[int], *, owner: str, delay: timedelta) -> None:
    """See `brokerq.outbox.Outbox.put_back`."""
    values = {
        "app": database.app,
        "ids": scalars(ids),
        "owner": escape(owner),
        "delay": delay,
    }
    await database.fetch("put_back_kept_messages", values)


async def next_due(database: Database, *, ahead: timedelta) -> timedelta | None:
    """See `brokerq.outbox.Outbox.next_due`."""
    values = {"app": database.app, "ahead": ahead}
    ((micros,),) = await database.fetch("find_next_kept_message", values)
    return None if micros is None else max(ZERO, timedelta(microseconds=micros))


async def stats(database: Database) -> OutboxStats:
    """See `brokerq.outbox.Outbox.outbox`."""
    rows = await database.fetch("count_kept_messages", {"app": database.app})
    oldest = max((age for *_, age in rows), default=0)
    return OutboxStats(
        queues={unescape(queue): Backlog(waiting, due) for queue, waiting, due, _ in rows},
        overdue=timedelta(microseconds=max(0, oldest)),
    )
