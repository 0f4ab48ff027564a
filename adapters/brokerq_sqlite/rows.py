"""The rows of the statements that read many columns: as they come from the file. Pure."""

from __future__ import annotations

from typing import NamedTuple

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
