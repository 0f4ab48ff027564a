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
    Recorded,
    ReserveAnswer,
    State,
)
from brokerq.store import Claim, Finish, Holding, NewJob
from brokerq_postgres.ledger import Ledger
from brokerq_postgres.letters import file_letters
from brokerq_postgres.transaction import Transaction
from brokerq_postgres.wire import bounded, read_headers, read_texts, texts, write_json

_LONGEST_LOG = 1_000


async def claim(transaction: Transaction, claims: Sequence[Claim]) -> list[ClaimAnswer]:
    """See `brokerq.store.Jobs.claim`."""
    ledger = Ledger(transaction)
    await ledger.load([wanted.job.head.id for wanted in claims], fences=len(claims))
    await ledger.load_keys(_keys_of_new([wanted.job for wanted in claims], ledger))
    await ledger.load_keys(_keys_that_may_end(ledger))
    answers = [
        _claim(ledger, wanted, fence) for wanted, fence in zip(claims, ledger.fences, strict=True)
    ]
    await ledger.flush()
    return await _with_letters(ledger, claims, answers)


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
    holder = ledger.holder(rules.scoped_key(head)) if before is None else None
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
    if record is None:
        return answer
    if before is None:
        note = f"duplicate_of {answer.of}" if isinstance(answer, Duplicate) else None
        ledger.add(record, job, note=note)
    elif isinstance(answer, Claimed):
        ledger.take(record)
    else:
        ledger.move(record, before)
    return answer


async def _with_letters(
    ledger: Ledger, claims: Sequence[Claim], answers: list[ClaimAnswer]
) -> list[ClaimAnswer]:
    """Add the headers of the dead letters with which the epochs of buried jobs ended."""
    for position, (wanted, answer) in enumerate(zip(claims, answers, strict=True)):
        if isinstance(answer, Recorded) and answer.state in BURIED:
            place = {"app": ledger.app, "id": bounded(wanted.job.head.id), "epoch": answer.epoch}
            rows = await ledger.transaction.fetch("find_letter_headers", place)
            letter = read_headers(rows[0][0]) if rows else None
            answers[position] = replace(answer, letter=letter)
    return answers


async def renew(
    transaction: Transaction, holdings: Sequence[Holding], lease: timedelta
) -> list[Hold]:
    """See `brokerq.store.Jobs.renew`."""
    ledger = Ledger(transaction)
    await ledger.load([holding.id for holding in holdings])
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
    await ledger.flush()
    return answers


async def finish(transaction: Transaction, finishes: Sequence[Finish]) -> list[State | None]:
    """See `brokerq.store.Jobs.finish`."""
    ledger = Ledger(transaction)
    await ledger.load([verdict.holding.id for verdict in finishes])
    await ledger.load_keys([record.key for record in ledger.records.values()])
    states = [_finish(ledger, verdict) for verdict in finishes]
    await ledger.flush()
    recorded = [
        (verdict, state)
        for verdict, state in zip(finishes, states, strict=True)
        if state is not None
    ]
    await _append_logs(ledger, [verdict for verdict, _ in recorded if verdict.log])
    await file_letters(
        ledger,
        [
            (ledger.records[verdict.holding.id], verdict.letter, verdict.failure)
            for verdict, state in recorded
            if state in BURIED and verdict.letter is not None
        ],
    )
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


async def _append_logs(ledger: Ledger, verdicts: Sequence[Finish]) -> None:
    if not verdicts:
        return
    ids = [verdict.holding.id for verdict in verdicts]
    asked = {"app": ledger.app, "ids": texts([bounded(job_id) for job_id in ids])}
    rows = await ledger.transaction.fetch("find_logs", asked)
    logs = {place: read_texts(log) for place, log in rows}
    for job_id, verdict in zip(ids, verdicts, strict=True):
        logs[bounded(job_id)] = [*logs.get(bounded(job_id), ()), *verdict.log][-_LONGEST_LOG:]
    values = {
        "app": ledger.app,
        "ids": texts(list(logs)),
        "logs": texts([write_json(lines) for lines in logs.values()]),
    }
    await ledger.transaction.send("write_logs", values)


async def reserve(
    transaction: Transaction, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
) -> list[ReserveAnswer]:
    """See `brokerq.store.Jobs.reserve`."""
    ledger = Ledger(transaction)
    await ledger.load_holders(jobs)
    answers: list[ReserveAnswer] = []
    for job in jobs:
        holder = ledger.holder(rules.scoped_key(job.head))
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
    await ledger.flush()
    return answers


async def enqueue(transaction: Transaction, jobs: Sequence[NewJob]) -> None:
    """Record the jobs as published."""
    ledger = Ledger(transaction)
    await ledger.load([job.head.id for job in jobs])
    await ledger.load_keys(_keys_of_new(jobs, ledger))
    enqueue_loaded(ledger, jobs)
    await ledger.flush()


def enqueue_loaded(ledger: Ledger, jobs: Sequence[NewJob]) -> None:
    """Record jobs as published, whose records and keys are loaded."""
    for job in jobs:
        before = ledger.records.get(job.head.id)
        record = rules.enqueue(before, job.head, now=ledger.now, delay=job.delay)
        if record is None:
            continue
        if before is None:
            ledger.add(record, job)
        else:
            ledger.move(record, before)


async def free(transaction: Transaction, ids: Sequence[str], owner: str) -> None:
    """See `brokerq.store.Jobs.free`."""
    ledger = Ledger(transaction)
    await ledger.load(ids)
    records = list(ledger.records.values())
    await ledger.load_keys([record.key for record in records])
    gone = [
        record for record in records if record.state == State.RESERVED and record.owner == owner
    ]
    for record in gone:
        ledger.drop_key(record)
    values = {"app": ledger.app, "ids": texts([bounded(record.id) for record in gone])}
    await transaction.send("remove_jobs", values)
    await ledger.flush()


async def cancel(transaction: Transaction, job_id: str) -> CancelAnswer:
    """See `brokerq.store.Jobs.cancel`."""
    ledger = Ledger(transaction)
    await ledger.load([job_id])
    before = ledger.records.get(job_id)
    place = {"app": ledger.app, "id": bounded(job_id)}
    shown = await transaction.fetch("find_shown", place)
    if before is None or not shown:
        raise NotFoundError(f"there is no job {job_id!r}, or it is past its retention")
    answer, record = rules.cancel(before)
    if record is None:
        return answer
    if record.state in ENDED:
        await ledger.load_keys([before.key])
        ledger.move(record, before)
    else:
        ledger.write(record)
    await ledger.flush()
    return answer
