"""The records as they are shown: by id, searched, counted. Only reads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from heapq import nlargest

from brokerq.message import Message
from brokerq.records import State
from brokerq.store import Failure, JobFilter, JobView
from brokerq_sqlite.conditions import Conditions
from brokerq_sqlite.history import read_history
from brokerq_sqlite.queries import load
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
    rows = db.execute(_FIND_JOBS, (app, texts(job_ids))).fetchall()
    found = {row[0]: _view(row, now) for row in rows}
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
    states: list[State | None] = [None] if wanted.states is None else sorted(set(wanted.states))
    rows: list[tuple[object, ...]] = []
    for state in states:
        conditions = Conditions(_SEARCH_JOBS, {"app": app})
        conditions.equal("state", None if state is None else state.value)
        conditions.equal("job", wanted.job)
        conditions.equal("queue", wanted.queue)
        conditions.equal("user_key", wanted.key)
        conditions.equal("correlation", wanted.correlation)
        conditions.add("{} IN (SELECT value FROM json_each(tags))", wanted.tag)
        conditions.compare("first_at", "<", write_instant(wanted.before))
        conditions.compare("first_at", ">=", write_instant(wanted.after))
        conditions.compare("id", "<", after)
        rows += db.execute(*conditions.query("id DESC", limit)).fetchall()
    newest = nlargest(limit, rows, key=lambda row: str(row[0])) if len(states) > 1 else rows
    return [_view(row, now) for row in newest]


def counts(db: sqlite3.Connection, app: int) -> dict[tuple[str, State], int]:
    return {
        (queue, State(state)): number
        for queue, state, number in db.execute(_COUNT_JOBS, (app,)).fetchall()
    }


def _view(row: tuple[object, ...], now: int) -> JobView:
    (
        id_,
        job,
        queue,
        level,
        state,
        epoch,
        attempts,
        crashes,
        redrives,
        first_at,
        due_at,
        expires_at,
        ended_at,
        user_key,
        tags,
        correlation,
        cause,
        worker,
        cancelling,
        history,
        result,
        result_until,
        failure,
        note,
        log,
        headers,
        body,
    ) = row
    return JobView(  # type: ignore[arg-type]  # the columns are of these types
        id=id_,
        job=job,
        queue=queue,
        level=level,
        state=State(state),
        epoch=epoch,
        attempts=attempts,
        crashes=crashes,
        redrives=redrives,
        first_at=from_micros(first_at),
        due_at=read_instant(due_at) if due_at is not None and due_at > now else None,
        expires_at=read_instant(expires_at),
        ended_at=read_instant(ended_at),
        key=user_key,
        tags=tuple(read_texts(tags)),
        correlation=correlation,
        cause=cause,
        worker=worker,
        cancelling=bool(cancelling),
        history=read_history(history),
        message=_message(headers, body),
        result=result if result_until is not None and now < result_until else None,
        failure=_failure(failure),
        note=note,
        log=tuple(read_texts(log)),
    )


def _message(headers: str | None, body: bytes | None) -> Message | None:
    return None if headers is None or body is None else read_message(headers, body)


def _failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    type_, message = json.loads(text)
    return Failure(type=type_, message=message)
