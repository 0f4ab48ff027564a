"""The records of jobs, by the rules of `brokerq.records`; called with the state's lock held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from heapq import nlargest

from brokerq import records as rules
from brokerq.errors import NotFoundError
from brokerq.records import (
    BURIED,
    ENDED,
    SUCCEEDED,
    CancelAnswer,
    ClaimAnswer,
    Claimed,
    Duplicate,
    Hold,
    KeyRecord,
    Now,
    Record,
    Recorded,
    ReserveAnswer,
    State,
)
from brokerq.store import Claim, Failure, Finish, Holding, JobFilter, JobView, NewJob
from brokerq_memory.ledger import Entry, Ledger, view
from brokerq_memory.letters import file_letter

_LONGEST_LOG = 1_000
_LONGEST_NOTE = 200
_NOTHING = b"null"
"""What most jobs return; there is nothing to be gained by forgetting it."""


def claim(ledger: Ledger, claims: Sequence[Claim], now: Now) -> list[ClaimAnswer]:
    """See `Jobs.claim`."""
    return [_claim(ledger, wanted, now) for wanted in claims]


def _claim(ledger: Ledger, wanted: Claim, now: Now) -> ClaimAnswer:
    job = wanted.job
    head = job.head
    entry = ledger.entries.get(head.id)
    before = None if entry is None else entry.record
    holder = None
    if entry is None and head.key is not None:
        holder = ledger.keys.get(rules.scoped_key(head) or "")
    answer, record = rules.claim(
        before,
        holder,
        head,
        owner=wanted.owner,
        lease=wanted.lease,
        fence=ledger.fence + 1,
        now=now,
        early=wanted.early,
    )
    if record is not None:
        if entry is None:
            entry = ledger.add(record, job, now)
        else:
            entry.move(record, now)
        if isinstance(answer, Claimed):
            ledger.fence += 1
            entry.worker = wanted.owner
        else:
            if isinstance(answer, Duplicate):
                entry.note = f"duplicate_of {answer.of}"
            ledger.end(entry, before or record, now)
    if isinstance(answer, Recorded) and answer.state in BURIED and entry is not None:
        return replace(answer, letter=_letter_headers(ledger, entry.record))
    return answer


def _letter_headers(ledger: Ledger, record: Record) -> dict[str, str] | None:
    """Return the headers of the dead letter with which this epoch of the job ended."""
    filed = ledger.letters.get(record.id, {}).get(record.epoch)
    return None if filed is None else dict(filed.letter.message.headers)


def renew(ledger: Ledger, holdings: Sequence[Holding], lease: timedelta, now: Now) -> list[Hold]:
    """See `Jobs.renew`."""
    answers: list[Hold] = []
    for holding in holdings:
        entry = ledger.entries.get(holding.id)
        answer, record = rules.renew(
            None if entry is None else entry.record,
            owner=holding.owner,
            fence=holding.fence,
            lease=lease,
            now=now,
        )
        if record is not None and entry is not None:
            entry.record = record
        answers.append(answer)
    return answers


def finish(ledger: Ledger, finishes: Sequence[Finish], now: Now) -> list[State | None]:
    """See `Jobs.finish`."""
    return [_finish(ledger, verdict, now) for verdict in finishes]


def _finish(ledger: Ledger, verdict: Finish, now: Now) -> State | None:
    holding = verdict.holding
    entry = ledger.entries.get(holding.id)
    if entry is None:
        return None
    before = entry.record
    record = rules.finish(
        before,
        owner=holding.owner,
        fence=holding.fence,
        state=verdict.state,
        attempt=verdict.attempt,
        copy=verdict.copy,
        delay=verdict.delay,
        now=now,
    )
    if record is None:
        return None
    entry.move(record, now, _step_note(verdict.failure, verdict.note))
    if verdict.failure is not None:
        entry.failure = verdict.failure
    if verdict.note is not None:
        entry.note = verdict.note
    if verdict.log:
        entry.log = (*entry.log, *verdict.log)[-_LONGEST_LOG:]
    state = record.state
    if state in ENDED:
        if state == SUCCEEDED and verdict.result is not None:
            entry.result = verdict.result
            entry.result_until = now.wall + verdict.result_ttl
            if verdict.result != _NOTHING:
                ledger.push(ledger.results, entry.result_until, record.id)
        if state in BURIED and verdict.letter is not None:
            file_letter(ledger, entry, verdict.letter, now)
        ledger.end(entry, before, now, verdict.window)
    return state


def _step_note(failure: Failure | None, note: str | None) -> str | None:
    if failure is not None:
        return f"{failure.type}: {failure.message}"[:_LONGEST_NOTE]
    return None if note is None else note[:_LONGEST_NOTE]


def reserve(
    ledger: Ledger, jobs: Sequence[NewJob], *, owner: str, lease: timedelta, now: Now
) -> list[ReserveAnswer]:
    """See `Jobs.reserve`."""
    answers: list[ReserveAnswer] = []
    for job in jobs:
        holder, held_by = key_holder(ledger, job)
        answer, record = rules.reserve(
            holder, held_by, job.head, owner=owner, lease=lease, now=now, delay=job.delay
        )
        if record is not None:
            _write_reservation(ledger, record, job, now)
        answers.append(answer)
    return answers


def key_holder(ledger: Ledger, job: NewJob) -> tuple[KeyRecord | None, Record | None]:
    """Return who holds the job's key, and that job's record; else the record the job has."""
    key = rules.scoped_key(job.head)
    holder = None if key is None else ledger.keys.get(key)
    return holder, ledger.record(job.head.id if holder is None else holder.job_id)


def _write_reservation(ledger: Ledger, record: Record, job: NewJob, now: Now) -> None:
    entry = ledger.entries.get(record.id)
    if entry is None:
        ledger.add(record, job, now)
        ledger.push(ledger.reservations, record.first_at, record.id)
    else:
        entry.record = record


def enqueue(ledger: Ledger, jobs: Sequence[NewJob], now: Now) -> None:
    """See `Jobs.enqueue`."""
    for job in jobs:
        entry = ledger.entries.get(job.head.id)
        before = None if entry is None else entry.record
        record = rules.enqueue(before, job.head, now=now, delay=job.delay)
        if record is None:
            continue
        if entry is None:
            ledger.add(record, job, now)
        else:
            entry.move(record, now)


def free(ledger: Ledger, ids: Sequence[str], owner: str) -> None:
    """See `Jobs.free`."""
    for job_id in ids:
        record = ledger.record(job_id)
        if record is not None and record.state == State.RESERVED and record.owner == owner:
            ledger.drop_key(record)
            del ledger.entries[job_id]


def cancel(ledger: Ledger, job_id: str, now: Now) -> CancelAnswer:
    """See `Jobs.cancel`."""
    entry = ledger.shown(job_id)
    if entry is None:
        raise NotFoundError(f"there is no job {job_id!r}, or it is past its retention")
    before = entry.record
    answer, record = rules.cancel(before)
    if record is None:
        return answer
    if record.state in ENDED:
        entry.move(record, now)
        ledger.end(entry, before, now)
        ledger.outbox.drop(job_id)
    else:
        entry.record = record
    return answer


def get(ledger: Ledger, job_ids: Sequence[str], now: Now) -> list[JobView | None]:
    """See `Jobs.get`."""
    entries = [ledger.entries.get(job_id) for job_id in job_ids]
    return [
        None if entry is None or entry.job is None else view(entry, entry.job, now.wall, whole=True)
        for entry in entries
    ]


def search(
    ledger: Ledger, wanted: JobFilter, *, limit: int, after: str | None, now: Now
) -> list[JobView]:
    """See `Jobs.search`."""
    found = {
        job_id: (entry, entry.job)
        for job_id, entry in ledger.entries.items()
        if entry.job is not None
        and (after is None or job_id < after)
        and _fits(entry, entry.job, wanted)
    }
    return [view(*found[job_id], now.wall, whole=False) for job_id in nlargest(limit, found)]


def _fits(entry: Entry, job: NewJob, wanted: JobFilter) -> bool:
    head, record = job.head, entry.record
    return (
        (wanted.states is None or record.state in wanted.states)
        and wanted.job in {None, head.job}
        and wanted.queue in {None, job.queue}
        and wanted.key in {None, head.key}
        and wanted.correlation in {None, head.correlation}
        and (wanted.tag is None or wanted.tag in head.tags)
        and (wanted.before is None or record.first_at < wanted.before)
        and (wanted.after is None or record.first_at >= wanted.after)
    )


def counts(ledger: Ledger) -> Mapping[tuple[str, State], int]:
    """See `Jobs.counts`."""
    totals: dict[tuple[str, State], int] = {}
    for entry in ledger.entries.values():
        if entry.job is not None:
            place = (entry.job.queue, entry.record.state)
            totals[place] = totals.get(place, 0) + 1
    return totals
