"""The dead-letter catalogue; each function runs within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from brokerq import records as rules
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.message import Message
from brokerq.records import BURIED, Record, State
from brokerq.store import Failure, NewJob
from brokerq.wire import DEAD_PREFIX, WireError, read_head
from brokerq_sqlite.conditions import Conditions
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import from_micros, headers_text, read_message, span

_ADD_LETTER = load("add_letter")
_CONFIRM_REDRIVES = load("confirm_redrives")
_END_REDRIVE = load("end_redrive")
_FIND_NEWEST_LETTER = load("find_newest_letter")
_FIND_LETTERS = load("find_letters")
_BEGIN_REDRIVE = load("begin_redrive")
_CLOSE_LETTER = load("close_letter")
_FIND_LAPSED = load("find_lapsed_redrives")
_MARK_BURIED = load("mark_buried")

_FREE_REDRIVES = 2
"""From the third time on only with `force`: a job that keeps dying is a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filed:
    """A letter, and when the lease of its redrive ends."""

    letter: Letter
    lease_until: float


def file_letter(ledger: Ledger, record: Record, message: Message, failure: Failure | None) -> None:
    """Enter the dead letter of a job that has just been buried; once per epoch."""
    place = (ledger.app, record.id)
    ledger.db.execute(_CONFIRM_REDRIVES, place)  # its copy came, or it could not die again
    dead = message.headers.get
    ledger.db.execute(
        _ADD_LETTER,
        {
            "app": ledger.app,
            "id": record.id,
            "epoch": record.epoch,
            "reason": dead(f"{DEAD_PREFIX}reason", "unroutable"),
            "error_type": dead(f"{DEAD_PREFIX}error-type", failure.type if failure else None),
            "error_message": dead(
                f"{DEAD_PREFIX}error-message", failure.message if failure else None
            ),
            "grouped": dead(f"{DEAD_PREFIX}group", ""),
            "at": ledger.micros,
            "redrives": record.redrives,
            "headers": headers_text(message.headers),
            "body": message.body,
        },
    )
    ledger.db.execute(_MARK_BURIED, (True, *place))


def find(
    db: sqlite3.Connection,
    app: int,
    wanted: LetterFilter,
    *,
    limit: int,
    after: str | None,
    now: int,
) -> list[Letter]:
    """Return letters, oldest job id first."""
    conditions = Conditions(_FIND_LETTERS, {"app": app})
    conditions.among("job_id", wanted.ids)
    conditions.among("state", wanted.states)
    conditions.equal("job", wanted.job)
    conditions.equal("queue", wanted.queue)
    conditions.equal("reason", wanted.reason)
    conditions.equal("error_type", wanted.error_type)
    conditions.equal("grouped", wanted.group)
    conditions.compare(
        "at", "<=", None if wanted.older_than is None else now - span(wanted.older_than)
    )
    conditions.compare(
        "at", ">=", None if wanted.newer_than is None else now - span(wanted.newer_than)
    )
    conditions.compare("job_id", ">", after)
    rows = db.execute(*conditions.query("job_id", limit)).fetchall()
    return [_read(row).letter for row in rows]


def _read(row: tuple[object, ...]) -> _Filed:
    (
        job_id,
        epoch,
        state,
        job,
        queue,
        level,
        reason,
        error_type,
        error_message,
        group,
        at,
        redrives,
        headers,
        body,
        note,
        by,
        lease_until,
    ) = row
    letter = Letter(  # type: ignore[arg-type]  # the columns are of these types
        job_id=job_id,
        epoch=epoch,
        state=LetterState(state),
        job=job,
        queue=queue,
        level=level,
        reason=reason,
        error_type=error_type,
        error_message=error_message,
        group=group,
        at=from_micros(at),
        redrives=redrives,
        message=read_message(headers, body),
        note=note,
        by=by,
    )
    return _Filed(letter=letter, lease_until=lease_until)


def begin_redrives(
    ledger: Ledger, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
) -> list[Redrive | NotRedriven]:
    ledger.load(job_ids)
    return [_begin_redrive(ledger, job_id, by=by, force=force, lease=lease) for job_id in job_ids]


def _begin_redrive(
    ledger: Ledger, job_id: str, *, by: str, force: bool, lease: timedelta
) -> Redrive | NotRedriven:
    row = ledger.db.execute(_FIND_NEWEST_LETTER, (ledger.app, job_id)).fetchone()
    if row is None:
        return NotRedriven(job_id=job_id, why=f"job {job_id} has no dead letter", missing=True)
    filed = _read(row)
    letter = filed.letter
    if letter.state == LetterState.REDRIVING:
        if filed.lease_until > ledger.now.lease:
            return NotRedriven(job_id=job_id, why=f"job {job_id} is being redriven already")
    elif letter.state != LetterState.OPEN:
        return NotRedriven(job_id=job_id, why=f"the dead letter of job {job_id} is {letter.state}")
    else:
        why = _put_back(ledger, letter, force=force)
        if why is not None:
            return NotRedriven(job_id=job_id, why=why)
    until = ledger.now.lease + lease.total_seconds()
    ledger.db.execute(_BEGIN_REDRIVE, (by, until, ledger.app, job_id, letter.epoch))
    record = ledger.records[job_id]
    return Redrive(
        letter=replace(letter, state=LetterState.REDRIVING, by=by),
        epoch=letter.epoch + 1,
        redrives=record.redrives,
        first_at=record.first_at,
        expires_at=record.expires_at,
    )


def _put_back(ledger: Ledger, letter: Letter, *, force: bool) -> str | None:
    """Give the job its next epoch and its key, or return why not."""
    record = ledger.records.get(letter.job_id)
    try:
        job = _job_of(letter)
    except WireError as exc:
        return f"the dead letter of job {letter.job_id} cannot be read: {exc}"
    buried = record or replace(
        rules.new_record(job.head, state=State.DEAD), epoch=letter.epoch, redrives=letter.redrives
    )
    if buried.state not in BURIED:
        return f"job {buried.id} is {buried.state}, it is not dead"
    if buried.redrives >= _FREE_REDRIVES and not force:
        return f"job {buried.id} was redriven {buried.redrives} times already: it needs force"
    key = rules.scoped_key(job.head)
    ledger.load_keys([key])
    holder = None if key is None else ledger.keys.get(key)
    if holder is not None and not rules.key_is_free(holder, for_job=buried.id, now=ledger.now):
        return f"the key of job {buried.id} was taken by job {holder.job_id}"
    redriven = rules.redrive(replace(buried, key=key), now=ledger.now)
    if record is None:
        ledger.add(redriven, job)
    else:
        ledger.redrive(redriven)
        ledger.add_payload(redriven.id, job.message)
        if key is not None:
            ledger.take_key(redriven.id, key, job.head.fingerprint)
    ledger.flush()
    return None


def _job_of(letter: Letter) -> NewJob:
    """Return the job as its dead letter tells it."""
    headers = {
        name: text
        for name, text in letter.message.headers.items()
        if not name.startswith(DEAD_PREFIX)
    }
    message = Message(headers=headers, body=letter.message.body)
    return NewJob(head=read_head(message), message=message, queue=letter.queue, level=letter.level)


def end_redrives(db: sqlite3.Connection, app: int, redrives: Sequence[Redrive]) -> None:
    rows = [(app, one.letter.job_id, one.letter.epoch) for one in redrives]
    db.executemany(_END_REDRIVE, rows)


def find_lapsed(db: sqlite3.Connection, app: int, *, limit: int, lease_now: float) -> list[str]:
    """Return the ids of jobs whose redrive was begun and not ended in time."""
    rows = db.execute(_FIND_LAPSED, (app, lease_now, limit)).fetchall()
    return [job_id for (job_id,) in rows]


def close(
    db: sqlite3.Connection,
    app: int,
    job_ids: Sequence[str],
    *,
    state: LetterState,
    by: str,
    note: str | None,
) -> list[bool]:
    closed: list[bool] = []
    for job_id in job_ids:
        values = {"app": app, "id": job_id, "state": state.value, "by": by, "note": note}
        done = db.execute(_CLOSE_LETTER, values).rowcount == 1
        if done:
            db.execute(_MARK_BURIED, (False, app, job_id))
        closed.append(done)
    return closed
