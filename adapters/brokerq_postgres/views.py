"""The records as they are shown: by id, searched, counted. Only reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from heapq import nlargest

from brokerq.message import Message
from brokerq.records import ENDED, State
from brokerq.sql.history import read_history
from brokerq.store import Failure, JobFilter, JobView
from brokerq_postgres.conditions import Conditions
from brokerq_postgres.database import Database
from brokerq_postgres.queries import load
from brokerq_postgres.rows import JobRow
from brokerq_postgres.wire import (
    bounded,
    escape,
    read_message,
    read_texts,
    texts,
    unescape,
    unescape_or_null,
    write_json,
)


async def get(database: Database, job_ids: Sequence[str]) -> list[JobView | None]:
    """See `brokerq.store.Jobs.get`."""
    ids = [bounded(job_id) for job_id in job_ids]
    rows = await database.fetch("find_jobs", {"app": database.app, "ids": texts(ids)})
    found = {unescape(row[0]): _view(JobRow._make(row)) for row in rows}
    return [found.get(job_id) for job_id in ids]


async def search(
    database: Database, wanted: JobFilter, *, limit: int, after: str | None
) -> list[JobView]:
    """Look in each state by itself: each has its entries in the order of ids."""
    states: Sequence[State | None] = [None] if wanted.states is None else sorted(set(wanted.states))
    rows: list[JobRow] = []
    for state in states:
        conditions = _conditions(database, wanted, state)
        conditions.add("id < {}", None if after is None else escape(after))
        statement, values = conditions.query("id DESC", limit)
        found = await database.fetch_statement(database.queries.fill(statement), values)
        rows += map(JobRow._make, found)
    newest = nlargest(limit, rows, key=lambda row: row.id) if len(states) > 1 else rows
    return [_view(row) for row in newest]


def _conditions(database: Database, wanted: JobFilter, state: State | None) -> Conditions:
    conditions = Conditions(load("search_jobs"), {"app": database.app})
    if state is not None:
        # As the indexes have it: the few ends without success by state, what goes on together.
        conditions.equal("ended_as" if state in ENDED else "state", state.value)
        if state not in ENDED:
            conditions.also("ended_at IS NULL")
        elif state != State.SUCCEEDED:
            conditions.also("ended_as <> 'succeeded'")
    conditions.equal("job", wanted.job)
    conditions.equal("queue", wanted.queue)
    conditions.equal("user_key", wanted.key)
    conditions.equal("correlation", wanted.correlation)
    conditions.add("strpos(tags, {}) > 0", None if wanted.tag is None else write_json(wanted.tag))
    conditions.add("first_at < {}", wanted.before)
    conditions.add("first_at >= {}", wanted.after)
    return conditions


async def counts(database: Database) -> dict[tuple[str, State], int]:
    """See `brokerq.store.Jobs.counts`."""
    rows = await database.fetch("count_jobs", {"app": database.app})
    return {(unescape(queue), State(state)): number for queue, state, number in rows}


def _view(row: JobRow) -> JobView:
    return JobView(
        id=unescape(row.id),
        job=unescape(row.job),
        queue=unescape(row.queue),
        level=unescape(row.level),
        state=State(row.state),
        epoch=row.epoch,
        attempts=row.attempts,
        crashes=row.crashes,
        redrives=row.redrives,
        first_at=row.first_at,
        due_at=row.due_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        key=unescape_or_null(row.user_key),
        tags=tuple(read_texts(row.tags)),
        correlation=unescape_or_null(row.correlation),
        cause=unescape_or_null(row.cause),
        worker=unescape_or_null(row.worker),
        cancelling=row.cancelling,
        history=read_history(row.history),
        message=_message(row.headers, row.body),
        result=row.result,
        failure=_failure(row.failure),
        note=unescape_or_null(row.note),
        log=tuple(read_texts(row.log)),
    )


def _message(headers: str | None, body: bytes | None) -> Message | None:
    return None if headers is None or body is None else read_message(headers, body)


def _failure(text: str | None) -> Failure | None:
    if text is None:
        return None
    type_, message = json.loads(text)
    return Failure(type=type_, message=message)
