"""The records of jobs, by the rules of `brokerq.records`; each function is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from brokerq import records as rules
from brokerq.errors import NotFoundError
from brokerq.records import (
    BURIED,
    ENDED,
    CancelAnswer,
    ClaimAnswer,
    Claimed,
    Duplicate,
    Hold,
    Record,
    Recorded,
    ReserveAnswer,
    State,
)
from brokerq.store import Claim, Finish, Holding, NewJob
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.letters import file_letter
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import read_headers, read_texts, texts

_FIND_LOG = load("find_log")
_WRITE_LOG = load("write_log")
_FIND_LETTER_HEADERS = load("find_letter_headers")
_ASK_TO_END = load("ask_to_end")
_FIND_SHOWN = "SELECT 1 FROM brokerq_jobs WHERE app = ? AND id = ? AND shown = 1"
_REMOVE_JOB = load("remove_job")
_REMOVE_PAYLOAD = load("remove_payload")

_LONGEST_LOG = 1_000


def claim(ledger: Ledger, claims: Sequence[Claim]) -> list[ClaimAnswer]:
    """See `brokerq.store.Jobs.claim`."""
    ledger.load([wanted.job.head.id for wanted in claims])
    ledger.load_keys(_keys_of_new([wanted.job for wanted in claims], ledger))
    ledger.load_keys(_keys_that_may_end(ledger))
    fence = ledger.take_fence()
    answers = [_claim(ledger, wanted, fence) for wanted in claims]
    ledger.flush()
    return answers


def _keys_of_new(jobs: Sequence[NewJob], ledger: Ledger) -> list[str | None]:
    known = ledger.records
    return [rules.scoped_key(job.head) for job in jobs if job.head.id not in known]


def _keys_that_may_end(ledger: Ledger) -> list[str | None]:
    """A job that was asked to end and crashed ends with its next claim."""
    return [record.key for record in ledger.records.values() if record.cancelling]


def _claim(ledger: Ledger, wanted: Claim, fence: int) -> ClaimAnswer:
    job = wanted.job
    head = job.head
    before = ledger.records.get(head.id)
    holder = None
    if before is None and head.key is not None:
        holder = ledger.keys.get(rules.scoped_key(head) or "")
    answer, record = rules.claim(
        before,
        holder,
        head,
        owner=wanted.owner,
        lease=wanted.lease,
        fence=fence,
        now=ledger.now,
        early=wanted.early,
    )
    if record is not None:
        if before is None:
            note = f"duplicate_of {answer.of}" if isinstance(answer, Duplicate) else None
            ledger.add(record, job, note=note)
        elif isinstance(answer, Claimed):
            ledger.take(record, before)
        else:
            ledger.move(record, before)
    if isinstance(answer, Recorded) and answer.state in BURIED:
        return replace(answer, letter=_letter_headers(ledger, head.id, answer.epoch))
    return answer


def _letter_headers(ledger: Ledger, job_id: str, epoch: int) -> dict[str, str] | None:
    """Return the headers of the dead letter with which this epoch of the job ended."""
    row = ledger.db.execute(_FIND_LETTER_HEADERS, (ledger.app, job_id, epoch)).fetchone()
    return None if row is None else read_headers(row[0])


def renew(ledger: Ledger, holdings: Sequence[Holding], lease: timedelta) -> list[Hold]:
    """See `brokerq.store.Jobs.renew`."""
    ledger.load([holding.id for holding in holdings])
    answers: list[Hold] = []
    for holding in holdings:
        answer, record = rules.renew(
            ledger.records.get(holding.id),
            owner=holding.owner,
            fence=holding.fence,
            lease=lease,
            now=ledger.now,
        )
        if record is not None:
            ledger.renew(record)
        answers.append(answer)
    ledger.flush()
    return answers


def finish(ledger: Ledger, finishes: Sequence[Finish]) -> list[State | None]:
    """See `brokerq.store.Jobs.finish`."""
    ledger.load([verdict.holding.id for verdict in finishes])
    ledger.load_keys(record.key for record in list(ledger.records.values()))
    states = [_finish(ledger, verdict) for verdict in finishes]
    ledger.flush()
    for verdict, state in zip(finishes, states, strict=True):
        if state is None:
            continue
        if verdict.log:
            _append_log(ledger, verdict)
        if state in BURIED and verdict.letter is not None:
            file_letter(ledger, ledger.records[verdict.holding.id], verdict.letter, verdict.failure)
    return states


def _finish(ledger: Ledger, verdict: Finish) -> State | None:
    holding = verdict.holding
    before = ledger.records.get(holding.id)
    record = rules.finish(
        before,
        owner=holding.owner,
        fence=holding.fence,
        state=verdict.state,
        attempt=verdict.attempt,
        copy=verdict.copy,
        delay=verdict.delay,
        now=ledger.now,
    )
    if record is None or before is None:
        return None
    ledger.move(record, before, verdict)
    return record.state


def _append_log(ledger: Ledger, verdict: Finish) -> None:
    place = (ledger.app, verdict.holding.id)
    row = ledger.db.execute(_FIND_LOG, place).fetchone()
    lines = [*read_texts(row[0]), *verdict.log][-_LONGEST_LOG:]
    ledger.db.execute(_WRITE_LOG, (texts(lines), *place))


def reserve(
    ledger: Ledger, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
) -> list[ReserveAnswer]:
    """See `brokerq.store.Jobs.reserve`."""
    load_holders(ledger, jobs)
    answers: list[ReserveAnswer] = []
    for job in jobs:
        holder = ledger.keys.get(rules.scoped_key(job.head) or "")
        held_by = ledger.records.get(job.head.id if holder is None else holder.job_id)
        answer, record = rules.reserve(
            holder,
            held_by,
            job.head,
            owner=owner,
            lease=lease,
            now=ledger.now,
            delay=job.delay,
        )
        if record is not None:
            if record.id in ledger.records:
                ledger.write(record)
            else:
                ledger.add(record, job)
        answers.append(answer)
    ledger.flush()
    return answers


def load_holders(ledger: Ledger, jobs: Sequence[NewJob]) -> None:
    """Read the keys of the jobs, who holds them, and what is known of the jobs."""
    ledger.load_keys(rules.scoped_key(job.head) for job in jobs)
    ids = {job.head.id for job in jobs}
    ids.update(holder.job_id for holder in ledger.keys.values())
    ledger.load(ids)


def enqueue(ledger: Ledger, jobs: Sequence[NewJob], headers: Sequence[str] | None = None) -> None:
    """Record the jobs as published; `headers`: of their messages, where known as text."""
    ledger.load([job.head.id for job in jobs])
    ledger.load_keys(_keys_of_new(jobs, ledger))
    for position, job in enumerate(jobs):
        before = ledger.records.get(job.head.id)
        record = rules.enqueue(before, job.head, now=ledger.now, delay=job.delay)
        if record is None:
            continue
        if before is None:
            ledger.add(record, job, headers=None if headers is None else headers[position])
        else:
            ledger.move(record, before)
    ledger.flush()


def free(ledger: Ledger, ids: Sequence[str], owner: str) -> None:
    """See `brokerq.store.Jobs.free`."""
    ledger.load(ids)
    records = list(ledger.records.values())
    ledger.load_keys(record.key for record in records)
    for record in records:
        if record.state == State.RESERVED and record.owner == owner:
            ledger.drop_key(record)
            ledger.db.execute(_REMOVE_JOB, (ledger.app, record.id))
            ledger.db.execute(_REMOVE_PAYLOAD, (ledger.app, record.id))
    ledger.flush()


def cancel(ledger: Ledger, job_id: str) -> CancelAnswer:
    """See `brokerq.store.Jobs.cancel`."""
    ledger.load([job_id])
    before: Record | None = ledger.records.get(job_id)
    shown = ledger.db.execute(_FIND_SHOWN, (ledger.app, job_id)).fetchone()
    if before is None or shown is None:
        raise NotFoundError(f"there is no job {job_id!r}, or it is past its retention")
    answer, record = rules.cancel(before)
    if record is None:
        return answer
    if record.state in ENDED:
        ledger.load_keys([before.key])
        ledger.move(record, before)
        ledger.flush()
    else:
        ledger.db.execute(_ASK_TO_END, (ledger.app, job_id))
    return answer
