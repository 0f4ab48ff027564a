"""The dead-letter catalogue; each function runs within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from brokerq import records as rules
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.message import Message
from brokerq.records import Record
from brokerq.store import Failure, NewJob
from brokerq.wire import DEAD_PREFIX, WireError, read_head, without_verdict
from brokerq_sqlite.conditions import Conditions
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.queries import load
from brokerq_sqlite.rows import LetterRow
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
    rows = map(LetterRow._make, db.execute(*conditions.query("job_id", limit)))
    return [_read(row) for row in rows]


def _read(row: LetterRow) -> Letter:
    return Letter(
        job_id=row.job_id,
        epoch=row.epoch,
        state=LetterState(row.state),
        job=row.job,
        queue=row.queue,
        level=row.level,
        reason=row.reason,
        error_type=row.error_type,
        error_message=row.error_message,
        group=row.group,
        at=from_micros(row.at),
        redrives=row.redrives,
        message=read_message(row.headers, row.body),
        note=row.note,
        by=row.by,
    )


def begin_redrives(
    ledger: Ledger, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
) -> list[Redrive | NotRedriven]:
    """See `brokerq.catalogue.Catalogue.begin_redrive`."""
    ledger.load(job_ids)
    return [_begin_redrive(ledger, job_id, by=by, force=force, lease=lease) for job_id in job_ids]


def _begin_redrive(
    ledger: Ledger, job_id: str, *, by: str, force: bool, lease: timedelta
) -> Redrive | NotRedriven:
    found = ledger.db.execute(_FIND_NEWEST_LETTER, (ledger.app, job_id)).fetchone()
    if found is None:
        return NotRedriven(job_id=job_id, why=f"job {job_id} has no dead letter", missing=True)
    row = LetterRow._make(found)
    letter = _read(row)
    if letter.state == LetterState.REDRIVING:
        if row.lease_until > ledger.now.lease:
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
    try:
        job = _job_of(letter)
    except WireError as exc:
        return f"the dead letter of job {letter.job_id} cannot be read: {exc}"
    key = rules.scoped_key(job.head)
    ledger.load_keys([key])
    record = ledger.records.get(letter.job_id)
    redriven = rules.redrive(
        record,
        None if key is None else ledger.keys.get(key),
        job.head,
        died_in=letter.epoch,
        force=force,
        now=ledger.now,
    )
    if isinstance(redriven, str):
        return redriven
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
    message = without_verdict(letter.message)
    return NewJob(head=read_head(message), message=message, queue=letter.queue, level=letter.level)


def end_redrives(db: sqlite3.Connection, app: int, redrives: Sequence[Redrive]) -> None:
    """See `brokerq.catalogue.Catalogue.end_redrive`."""
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
    """See `brokerq.catalogue.Catalogue.close_letters`."""
    closed: list[bool] = []
    for job_id in job_ids:
        values = {"app": app, "id": job_id, "state": state.value, "by": by, "note": note}
        done = db.execute(_CLOSE_LETTER, values).rowcount == 1
        if done:
            db.execute(_MARK_BURIED, (False, app, job_id))
        closed.append(done)
    return closed
