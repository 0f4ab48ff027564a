"""The dead-letter catalogue; each function runs within a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from brokerq import records as rules
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.message import Message
from brokerq.records import Record
from brokerq.store import Failure, NewJob
from brokerq.wire import DEAD_PREFIX, Head, WireError, read_head, without_verdict
from brokerq_postgres.conditions import Conditions
from brokerq_postgres.database import Database
from brokerq_postgres.ledger import Ledger
from brokerq_postgres.queries import load
from brokerq_postgres.rows import LetterRow
from brokerq_postgres.transaction import Transaction
from brokerq_postgres.wire import (
    bounded,
    escape,
    headers_text,
    read_message,
    scalars,
    texts,
    unescape,
    unescape_or_null,
)

Burial = tuple[Record, Message, Failure | None]


async def file_letters(ledger: Ledger, burials: Sequence[Burial]) -> None:
    """Enter the dead letters of jobs that have just been buried; once per epoch."""
    if not burials:
        return
    values = {
        "app": ledger.app,
        "at": ledger.now.wall,
        "ids": texts([bounded(record.id) for record, _, _ in burials]),
        "epochs": scalars(record.epoch for record, _, _ in burials),
        "redrives": scalars(record.redrives for record, _, _ in burials),
        "reasons": texts([_told(burial, "reason", "unroutable") for burial in burials]),
        "error_types": texts([_told(burial, "error-type", _type(burial[2])) for burial in burials]),
        "error_messages": texts(
            [_told(burial, "error-message", _message(burial[2])) for burial in burials]
        ),
        "groups": texts([_told(burial, "group", "") for burial in burials]),
        "headers": texts([headers_text(letter.headers) for _, letter, _ in burials]),
        "bodies": [letter.body for _, letter, _ in burials],
    }
    await ledger.transaction.send("add_letters", values)


def _told(burial: Burial, name: str, default: str | None) -> str | None:
    return burial[1].headers.get(f"{DEAD_PREFIX}{name}", default)


def _type(failure: Failure | None) -> str | None:
    return None if failure is None else failure.type


def _message(failure: Failure | None) -> str | None:
    return None if failure is None else failure.message


async def find(
    database: Database, wanted: LetterFilter, *, limit: int, after: str | None
) -> list[Letter]:
    """Return letters, oldest job id first."""
    conditions = Conditions(load("find_letters"), {"app": database.app})
    ids = None if wanted.ids is None else [bounded(job_id) for job_id in wanted.ids]
    conditions.among("job_id", ids)
    conditions.among("state", wanted.states)
    conditions.equal("job", wanted.job)
    conditions.equal("queue", wanted.queue)
    conditions.equal("reason", wanted.reason)
    conditions.equal("error_type", wanted.error_type)
    conditions.equal("grouped", wanted.group)
    conditions.add("at <= clock_timestamp() - {}", wanted.older_than)
    conditions.add("at >= clock_timestamp() - {}", wanted.newer_than)
    conditions.add("job_id > {}", None if after is None else escape(after))
    statement, values = conditions.query("job_id", limit)
    rows = await database.fetch_statement(database.queries.fill(statement), values)
    return [_read(LetterRow._make(row)) for row in rows]


def _read(row: LetterRow) -> Letter:
    return Letter(
        job_id=unescape(row.job_id),
        epoch=row.epoch,
        state=LetterState(row.state),
        job=unescape(row.job),
        queue=unescape(row.queue),
        level=unescape(row.level),
        reason=unescape(row.reason),
        error_type=unescape_or_null(row.error_type),
        error_message=unescape_or_null(row.error_message),
        group=unescape(row.group),
        at=row.at,
        redrives=row.redrives,
        message=read_message(row.headers, row.body),
        note=unescape_or_null(row.note),
        by=unescape_or_null(row.by),
    )


async def begin_redrives(
    transaction: Transaction, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
) -> list[Redrive | NotRedriven]:
    """See `brokerq.catalogue.Catalogue.begin_redrive`."""
    ledger = Ledger(transaction)
    await ledger.load(job_ids)
    values = {"app": ledger.app, "ids": texts([bounded(job_id) for job_id in job_ids])}
    rows = map(LetterRow._make, await transaction.fetch("find_newest_letters", values))
    found = {unescape(row.job_id): row for row in rows}
    heads = [(row, _head_of(row)) for row in found.values()]
    await ledger.load_keys([head and rules.scoped_key(head) for _, head in heads])
    answers = [
        _begin_redrive(ledger, job_id, found.get(bounded(job_id)), force=force)
        for job_id in dict.fromkeys(job_ids)
    ]
    begun = [answer for answer in answers if isinstance(answer, Redrive)]
    await transaction.send(
        "begin_redrives",
        {
            "app": ledger.app,
            "by": escape(by),
            "until": ledger.now.lease + lease.total_seconds(),
            "ids": texts([one.letter.job_id for one in begun]),
            "epochs": scalars(one.letter.epoch for one in begun),
        },
    )
    await ledger.flush()
    by_id = dict(zip(dict.fromkeys(job_ids), answers, strict=True))
    return _once(job_ids, by_id, by=by)


def _once(
    job_ids: Sequence[str], answers: dict[str, Redrive | NotRedriven], *, by: str
) -> list[Redrive | NotRedriven]:
    """Answer for each id; who is named a second time is being redriven by then."""
    told: list[Redrive | NotRedriven] = []
    seen: set[str] = set()
    for job_id in job_ids:
        answer = answers[job_id]
        if isinstance(answer, Redrive):
            if job_id in seen:
                answer = _under_way(job_id)
            else:
                answer = replace(answer, letter=replace(answer.letter, by=by))
        seen.add(job_id)
        told.append(answer)
    return told


def _under_way(job_id: str) -> NotRedriven:
    return NotRedriven(job_id=job_id, why=f"job {job_id} is being redriven already")


def _begin_redrive(
    ledger: Ledger, job_id: str, row: LetterRow | None, *, force: bool
) -> Redrive | NotRedriven:
    if row is None:
        return NotRedriven(job_id=job_id, why=f"job {job_id} has no dead letter", missing=True)
    letter = _read(row)
    if letter.state == LetterState.REDRIVING:
        if row.lease_until > ledger.now.lease:
            return _under_way(job_id)
    elif letter.state != LetterState.OPEN:
        return NotRedriven(job_id=job_id, why=f"the dead letter of job {job_id} is {letter.state}")
    else:
        why = _put_back(ledger, job_id, letter, force=force)
        if why is not None:
            return NotRedriven(job_id=job_id, why=why)
    record = ledger.records[job_id]
    return Redrive(
        letter=replace(letter, state=LetterState.REDRIVING),
        epoch=letter.epoch + 1,
        redrives=record.redrives,
        first_at=record.first_at,
        expires_at=record.expires_at,
    )


def _put_back(ledger: Ledger, job_id: str, letter: Letter, *, force: bool) -> str | None:
    """Give the job its next epoch and its key, or return why not."""
    try:
        job = _job_of(letter)
    except WireError as exc:
        return f"the dead letter of job {job_id} cannot be read: {exc}"
    key = rules.scoped_key(job.head)
    record = ledger.records.get(job_id)
    redriven = rules.redrive(
        record,
        ledger.holder(key),
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
    return None


def _job_of(letter: Letter) -> NewJob:
    """Return the job as its dead letter tells it."""
    message = without_verdict(letter.message)
    return NewJob(head=read_head(message), message=message, queue=letter.queue, level=letter.level)


def _head_of(row: LetterRow) -> Head | None:
    try:
        return _job_of(_read(row)).head
    except WireError:
        return None
