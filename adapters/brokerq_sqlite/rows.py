"""The rows of the statements with many columns, as they come and go. Pure."""

from __future__ import annotations

from typing import NamedTuple

from brokerq.records import ENDED, Record, State
from brokerq.sql.history import step
from brokerq.store import NewJob
from brokerq_sqlite.wire import from_micros, read_instant, texts, to_micros, write_instant

_STATES: dict[str, State] = {state.value: state for state in State}
STATE_TEXTS: dict[State, str] = {state: state.value for state in State}

Row = tuple[object, ...]

RecordRow = tuple[
    str,  # id
    str,  # state
    int,  # first_at
    int,  # epoch
    int,  # claimed
    int,  # attempts
    int,  # crashes
    int,  # fence
    str | None,  # owner
    float,  # lease_until
    int | None,  # due_at
    int | None,  # expires_at
    str | None,  # key
    int,  # redrives
    int,  # cancelling
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
    first_at: int
    due_at: int | None
    expires_at: int | None
    ended_at: int | None
    user_key: str | None
    tags: str | None
    correlation: str | None
    cause: str | None
    worker: str | None
    cancelling: int
    history: str
    result: bytes | None
    result_until: int | None
    failure: str | None
    note: str | None
    log: str | None
    headers: str | None
    body: bytes | None


class LetterRow(NamedTuple):
    """A row of `find_letters.sql` and `find_newest_letter.sql`."""

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
    at: int
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
    return Record(  # by position, as it is for every step: by name takes three times as long
        id_,
        _STATES[state],
        from_micros(first_at),
        epoch,
        bool(claimed),
        attempts,
        crashes,
        fence,
        owner,
        lease_until,
        read_instant(due_at),
        read_instant(expires_at),
        key,
        redrives,
        bool(cancelling),
    )


def published_row(app: int, record: Record, job: NewJob, micros: int) -> Row:
    """Return the values of `add_published_job.sql`."""
    return (
        app,
        record.id,
        STATE_TEXTS[record.state],
        to_micros(record.first_at),
        record.epoch,
        record.attempts,
        record.crashes,
        write_instant(record.due_at),
        write_instant(record.expires_at),
        record.key,
        record.redrives,
        *_told(job),
        step(record.state, micros, record.attempts, None),
    )


def rules_row(record: Record) -> Row:
    """Return the values of the columns that the rules look at, in the order of the table."""
    return (
        STATE_TEXTS[record.state],
        to_micros(record.first_at),
        record.epoch,
        record.claimed,
        record.attempts,
        record.crashes,
        record.fence,
        record.owner,
        record.lease_until,
        write_instant(record.due_at),
        write_instant(record.expires_at),
        record.key,
        record.redrives,
        record.cancelling,
    )


def whole_row(app: int, record: Record, job: NewJob, micros: int, note: str | None) -> Row:
    """Return the values of `add_job.sql`."""
    return (
        app,
        record.id,
        *rules_row(record),
        *_told(job),
        record.owner if record.state == State.RUNNING else None,
        step(record.state, micros, record.attempts, None),
        note,
        micros if record.state in ENDED else None,
    )


def _told(job: NewJob) -> Row:
    """Return what is known of the job from its message and stays so."""
    head = job.head
    return (
        head.job,
        job.queue,
        job.level,
        head.key,
        texts(head.tags) if head.tags else None,
        head.correlation,
        head.cause,
    )
