"""The rows of the statements with many columns, as they come and go. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from brokerq.records import ENDED, Record, State
from brokerq.sql.history import step
from brokerq.store import NewJob
from brokerq_postgres.wire import bounded, bounded_or_null, unescape, unescape_or_null, write_json

STATES: dict[str, State] = {state.value: state for state in State}
STATE_TEXTS: dict[State, str] = {state: state.value for state in State}

Row = tuple[object, ...]

RecordRow = tuple[
    str,  # id
    str,  # state
    datetime,  # first_at
    int,  # epoch
    bool,  # claimed
    int,  # attempts
    int,  # crashes
    int,  # fence
    str | None,  # owner
    float,  # lease_until
    datetime | None,  # due_at
    datetime | None,  # expires_at
    str | None,  # key
    int,  # redrives
    bool,  # cancelling
    str | None,  # history, only where it should be trimmed
]
"""A row of `find_records.sql`; a plain tuple because every step of every job reads one."""


class JobRow(NamedTuple):
    """A row of `find_jobs.sql` and `search_jobs.sql`."""

    id: str
    job: str
    queue: str
    level: str
    state: str
    epoch: int
    attempts: int
    crashes: int
    redrives: int
    first_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    user_key: str | None
    tags: str | None
    correlation: str | None
    cause: str | None
    worker: str | None
    cancelling: bool
    history: str
    result: bytes | None
    failure: str | None
    note: str | None
    log: str | None
    headers: str | None
    body: bytes | None


class LetterRow(NamedTuple):
    """A row of `find_letters.sql` and `find_newest_letters.sql`."""

    job_id: str
    epoch: int
    state: str
    job: str
    queue: str
    level: str
    reason: str
    error_type: str | None
    error_message: str | None
    group: str
    at: datetime
    redrives: int
    headers: str
    body: bytes
    note: str | None
    by: str | None
    lease_until: float


def read_record(row: RecordRow) -> Record:
    """Return the record in a row."""
    (
        id_,
        state,
        first_at,
        epoch,
        claimed,
        attempts,
        crashes,
        fence,
        owner,
        lease_until,
        due_at,
        expires_at,
        key,
        redrives,
        cancelling,
        _,
    ) = row
    return Record(
        id=unescape(id_),
        state=STATES[state],
        first_at=first_at,
        epoch=epoch,
        claimed=claimed,
        attempts=attempts,
        crashes=crashes,
        fence=fence,
        owner=unescape_or_null(owner),
        lease_until=lease_until,
        due_at=due_at,
        expires_at=expires_at,
        key=unescape_or_null(key),
        redrives=redrives,
        cancelling=cancelling,
    )


def new_row(record: Record, job: NewJob, micros: int, ended_at: datetime, note: str | None) -> Row:
    """Return the values of `add_jobs.sql`; `ended_at` is for a job that ends as it begins."""
    head = job.head
    return (
        *rules_row(record),
        head.job,
        job.queue,
        job.level,
        head.key,
        write_json(head.tags) if head.tags else None,
        head.correlation,
        head.cause,
        record.owner if record.state == State.RUNNING else None,
        step(record.state, micros, record.attempts, None),
        note,
        ended_at if record.state in ENDED else None,
    )


def rules_row(record: Record) -> Row:
    """Return the values of the columns that the rules look at, in the order of the table."""
    return (
        bounded(record.id),
        STATE_TEXTS[record.state],
        record.first_at,
        record.epoch,
        record.claimed,
        record.attempts,
        record.crashes,
        record.fence,
        record.owner,
        record.lease_until,
        record.due_at,
        record.expires_at,
        bounded_or_null(record.key),
        record.redrives,
        record.cancelling,
    )
