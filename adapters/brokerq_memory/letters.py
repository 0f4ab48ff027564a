"""The dead-letter catalogue in memory; called with the state's lock held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from heapq import nsmallest
from itertools import islice

from brokerq import records as rules
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.message import Message
from brokerq.records import Now
from brokerq.store import NewJob
from brokerq.wire import DEAD_PREFIX, WireError, read_head, without_verdict
from brokerq_memory.ledger import Entry, Filed, Ledger


def file_letter(ledger: Ledger, entry: Entry, message: Message, now: Now) -> None:
    """Enter the dead letter of a job that has just been buried; once per epoch."""
    record, job = entry.record, entry.job
    if job is None:  # only jobs that ended long ago are without; this one has just ended
        raise AssertionError(record.id)
    filed = ledger.letters.setdefault(record.id, {})
    if record.epoch in filed:
        return
    end_redriving(ledger, record.id)  # its copy came, or the job could not have died again
    dead = message.headers.get
    failure = entry.failure
    letter = Letter(
        job_id=record.id,
        epoch=record.epoch,
        state=LetterState.OPEN,
        job=job.head.job,
        queue=job.queue,
        level=job.level,
        reason=dead(f"{DEAD_PREFIX}reason", "unroutable"),
        error_type=dead(f"{DEAD_PREFIX}error-type", failure.type if failure else None),
        error_message=dead(f"{DEAD_PREFIX}error-message", failure.message if failure else None),
        group=dead(f"{DEAD_PREFIX}group", ""),
        at=now.wall,
        redrives=record.redrives,
        message=message,
    )
    filed[record.epoch] = Filed(letter)
    ledger.push(ledger.deaths, now.wall, record.id, record.epoch)


def letters(
    ledger: Ledger, wanted: LetterFilter, *, limit: int, after: str | None, now: Now
) -> list[Letter]:
    """See `Catalogue.letters`."""
    found: dict[str, Letter] = {}
    for job_id in ledger.letters:
        newest = ledger.newest(job_id)
        if newest is not None and (after is None or job_id > after):
            found[job_id] = newest.letter
    fitting = (job_id for job_id, letter in found.items() if wanted.fits(letter, now=now.wall))
    return [found[job_id] for job_id in nsmallest(limit, fitting)]


def begin_redrive(
    ledger: Ledger, job_id: str, *, by: str, force: bool, lease: timedelta, now: Now
) -> Redrive | NotRedriven:
    """See `Catalogue.begin_redrive`."""
    filed = ledger.newest(job_id)
    if filed is None:
        return NotRedriven(job_id=job_id, why=f"job {job_id} has no dead letter", missing=True)
    state = filed.letter.state
    if state == LetterState.REDRIVING:
        if filed.lease_until > now.lease:
            return NotRedriven(job_id=job_id, why=f"job {job_id} is being redriven already")
    elif state != LetterState.OPEN:
        return NotRedriven(job_id=job_id, why=f"the dead letter of job {job_id} is {state}")
    else:
        why = _put_back(ledger, filed.letter, force=force, now=now)
        if why is not None:
            return NotRedriven(job_id=job_id, why=why)
    filed.letter = replace(filed.letter, state=LetterState.REDRIVING, by=by)
    filed.lease_until = now.lease + lease.total_seconds()
    ledger.redriving[job_id] = filed
    record = ledger.entries[job_id].record
    return Redrive(
        letter=filed.letter,
        epoch=filed.letter.epoch + 1,
        redrives=record.redrives,
        first_at=record.first_at,
        expires_at=record.expires_at,
    )


def _put_back(ledger: Ledger, letter: Letter, *, force: bool, now: Now) -> str | None:
    """Give the job its next epoch and its key, or return why not."""
    try:
        job = _job_of(letter)
    except WireError as exc:
        return f"the dead letter of job {letter.job_id} cannot be read: {exc}"
    entry = ledger.entries.get(letter.job_id)
    key = rules.scoped_key(job.head)
    record = rules.redrive(
        None if entry is None else entry.record,
        None if key is None else ledger.keys.get(key),
        job.head,
        died_in=letter.epoch,
        force=force,
        now=now,
    )
    if isinstance(record, str):
        return record
    if entry is None:
        ledger.add(record, job, now)
        return None
    entry.job = job
    entry.move(record, now)
    entry.note = entry.ended_at = entry.until = None
    ledger.take_key(record, job.head.fingerprint, now)
    return None


def _job_of(letter: Letter) -> NewJob:
    """Return the job as its dead letter tells it."""
    message = without_verdict(letter.message)
    return NewJob(head=read_head(message), message=message, queue=letter.queue, level=letter.level)


def end_redrive(ledger: Ledger, redrives: Sequence[Redrive]) -> None:
    """See `Catalogue.end_redrive`."""
    for redrive in redrives:
        job_id, epoch = redrive.letter.job_id, redrive.letter.epoch
        filed = ledger.redriving.get(job_id)
        if filed is not None and filed.letter.epoch == epoch:
            end_redriving(ledger, job_id)


def end_redriving(ledger: Ledger, job_id: str) -> None:
    """Note that the copy of the job's redrive, if one is under way, is safe."""
    filed = ledger.redriving.pop(job_id, None)
    if filed is not None:
        letter = replace(filed.letter, state=LetterState.REDRIVEN)
        filed.letter = letter
        # Pruning passes over a letter that is being redriven: give it one more chance to go.
        ledger.push(ledger.deaths, letter.at, job_id, letter.epoch)


def lapsed_redrives(ledger: Ledger, *, limit: int, now: Now) -> list[str]:
    """See `Catalogue.lapsed_redrives`."""
    lapsed = (
        job_id for job_id, filed in ledger.redriving.items() if filed.lease_until <= now.lease
    )
    return list(islice(lapsed, limit))


def close_letters(
    ledger: Ledger, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
) -> list[bool]:
    """See `Catalogue.close_letters`."""
    return [_close(ledger, job_id, state, by, note) for job_id in job_ids]


def _close(ledger: Ledger, job_id: str, state: LetterState, by: str, note: str | None) -> bool:
    filed = ledger.newest(job_id)
    if filed is None or filed.letter.state != LetterState.OPEN:
        return False
    filed.letter = replace(filed.letter, state=state, by=by, note=note)
    entry = ledger.entries.get(job_id)
    if entry is not None and entry.ended_at is not None:
        ledger.push(ledger.ended, entry.ended_at, job_id)
    return True
