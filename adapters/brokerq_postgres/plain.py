"""New jobs without key and order, as the one statement that publishes them takes them. Pure.

Of thousands of jobs that are published at once nearly everything is alike. So columns are looked at
as a whole, and what a column has only once is sent only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast

from brokerq.broker import Lane, Outgoing
from brokerq.store import NewJob
from brokerq.wire import Head
from brokerq_postgres.topology import LaneRows
from brokerq_postgres.transaction import Values
from brokerq_postgres.wire import (
    MAX_BODY,
    bounded,
    headers_text,
    once,
    scalars,
    some,
    span,
    texts,
    write_json,
)

Jobs = Sequence[tuple[NewJob, Outgoing]]


class Batch(NamedTuple):
    """Jobs as they are put into the database.

    Attributes:
        touched: In how many seconds there is something, by lane.
    """

    values: Values
    touched: dict[int, float]


def read_jobs(jobs: Jobs, lanes: LaneRows) -> Batch | None:
    """Return the values of `publish_jobs.sql`; None: some jobs must be looked at one by one."""
    news = [new for new, _ in jobs]
    # The fields of these are columns.
    job = cast("Any", NewJob._make(zip(*news, strict=True)))
    head = cast("Any", Head._make(zip(*job.head, strict=True)))
    messages = [message for _, message in jobs]
    if some(head.key) or any(message.order is not None for message in messages):
        return None
    rows = _lanes([message.lane for message in messages], lanes)
    headers = [headers_text(message.message.headers) for message in messages]
    bodies = [message.message.body for message in messages]
    # As JSON the headers are never shorter.
    if rows is None or max(map(len, headers)) + max(map(len, bodies)) > MAX_BODY:
        return None
    delays = _spans([message.delay for message in messages])
    job_ids = [message.id for message in messages]
    values = {
        **_records(head, job_ids),
        "waits": scalars(some([span(delay) if delay else None for delay in job.delay])),
        "queues": texts(once(job.queue)),
        "levels": texts(once(job.level)),
        "lanes": scalars(once(rows)),
        "delays": scalars(once(delays)),
        "tenants": texts(once([bounded(message.tenant or "") for message in messages])),
        "job_ids": texts(job_ids),
        "headers": texts(headers),
        "bodies": bodies,
    }
    return Batch(values, _touched(rows, delays))


def _records(head: Any, job_ids: list[str]) -> dict[str, object]:
    ids = [bounded(id_) for id_ in head.id]
    return {
        "ids": texts([] if ids == job_ids else ids),
        "first_ats": scalars(once(head.first_at)),
        "epochs": scalars(once(head.epoch)),
        "attempts": scalars(once(head.attempts)),
        "crashes": scalars(once(head.crashes)),
        "not_befores": scalars(some(head.not_before)),
        "expires_ats": scalars(some(head.expires_at)),
        "redrives": scalars(once(head.redrives)),
        "jobs": texts(once(head.job)),
        "tags": texts(some([write_json(tags) if tags else None for tags in head.tags])),
        "correlations": texts(some(head.correlation)),
        "causes": texts(some(head.cause)),
    }


def _lanes(wanted: Sequence[Lane], lanes: LaneRows) -> list[int] | None:
    """Return the numbers of the lanes; None: one of them is not known."""
    found: list[int] = []
    last, number = None, 0
    for lane in wanted:
        if lane is not last:
            row = lanes.get((lane.queue, lane.level))
            if row is None:
                return None
            last, number = lane, row.id
        found.append(number)
    return found


def _spans(delays: Sequence[timedelta]) -> list[int]:
    return [span(delay) if delay else 0 for delay in delays]


def _touched(rows: Sequence[int], delays: Sequence[int]) -> dict[int, float]:
    if len(once(rows)) == 1:
        return {rows[0]: min(delays) / 1e6}
    touched: dict[int, float] = {}
    for lane, delay in zip(rows, delays, strict=True):
        seconds = delay / 1e6
        if seconds < touched.get(lane, seconds + 1):
            touched[lane] = seconds
    return touched
