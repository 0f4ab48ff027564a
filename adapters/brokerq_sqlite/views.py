"""The records as they are shown: by id, searched, counted. Only reads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from heapq import nlargest

from brokerq.message import Message
from brokerq.records import State
from brokerq.sql.history import read_history
from brokerq.store import Failure, JobFilter, JobView
from brokerq_sqlite.conditions import Conditions
from brokerq_sqlite.queries import load
from brokerq_sqlite.rows import JobRow
from brokerq_sqlite.wire import (
    from_micros,
    read_instant,
    read_message,
    read_texts,
    texts,
    write_instant,
)

_FIND_JOBS = load("find_jobs")
_SEARCH_JOBS = load("search_jobs")
_COUNT_JOBS = load("count_jobs")


def get(db: sqlite3.Connection, app: int, job_ids: Sequence[str], now: int) -> list[JobView | None]:
    """See `brokerq.store.Jobs.get`."""
    """See `brokerq.store.Jobs.get`."""
    rows = map(JobRow._make, db.execute(_FIND_JOBS, (app, texts(job_ids))))
    found = {row.id: _view(row, now) for row in rows}
    return [found.get(job_id) for job_id in job_ids]


def search(
    db: sqlite3.Connection,
    app: int,
    wanted: JobFilter,
    *,
    limit: int,
    after: str | None,
    now: int,
) -> list[JobView]:
    """Look in each state by itself: the index has each in the order of ids."""
    statement = _SEARCH_JOBS.format(index=_index_for(wanted))
    states: Sequence[State | None] = [None] if wanted.states is None else sorted(set(wanted.states))
    rows: list[JobRow] = []
    for state in states:
        conditions = Conditions(statement, {"app": app})
        conditions.equal("state", None if state is None else state.value)
        conditions.equal("job", wanted.job)
        conditions.equal("queue", wanted.queue)
        conditions.equal("user_key", wanted.key)
        conditions.equal("correlation", wanted.correlation)
        conditions.add("{} IN (SELECT value FROM json_each(tags))", wanted.tag)
        conditions.compare("first_at", "<", write_instant(wanted.before))
        conditions.compare("first_at", ">=", write_instant(wanted.after))
        conditions.compare("id", "<", after)
        rows += map(JobRow._make, db.execute(*conditions.query("id DESC", limit)))
    newest = nlargest(limit, rows, key=lambda row: row.id) if len(states) > 1 else rows
    return [_view(row, now) for row in newest]


def _index_for(wanted: JobFilter) -> str:
    if wanted.key is not None:
        return "INDEXED BY brokerq_jobs_by_key"
    if wanted.correlation is not None:
        return "INDEXED BY brokerq_jobs_by_correlation"
    return "" if wanted.states is None else "INDEXED BY brokerq_jobs_by_state"


def counts(db: sqlite3.Connection, app: int) -> dict[tuple[str, State], int]:
    """See `brokerq.store.Jobs.counts`."""
    return {
        (queue, State(state)): number
        for queue, state, number in db.execute(_COUNT_JOBS, (app,)).fetchall()
    }


def _view(row: JobRow, now: int) -> JobView:
    result_is_kept = row.result_until is not None and now < row.result_until
    waits = row.due_at is not None and row.due_at > now
    return JobView(
        id=row.id,
        job=row.job,
        queue=row.queue,
        level=row.level,
        state=State(row.state),
        epoch=row.epoch,
        attempts=row.attempts,
        crashes=row.crashes,
        redrives=row.redrives,
        first_at=from_micros(row.first_at),
        due_at=read_instant(row.due_at) if waits else None,
        expires_at=read_instant(row.expires_at),
        ended_at=read_instant(row.ended_at),
        key=row.user_key,
        tags=tuple(read_texts(row.tags)),
        correlation=row.correlation,
        cause=row.cause,
        worker=row.worker,
        cancelling=bool(row.cancelling),
        history=read_history(row.history),
        message=_message(row.headers, row.body),
        result=row.result if result_is_kept else None,
        failure=_failure(row.failure),
        note=row.note,
        log=tuple(read_texts(row.log)),
    )


def _message(headers: str | None, body: bytes | None) -> Message | None:
    return None if headers is None or body is None else read_message(headers, body)


def _failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    type_, message = json.loads(text)
    return Failure(type=type_, message=message)
