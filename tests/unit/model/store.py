"""The store's transactions: it reads, asks the rules, and writes; the ledger looks on."""

from dataclasses import replace
from datetime import timedelta

from brokerq import records
from brokerq.catalogue import LetterState
from brokerq.records import (
    BURIED,
    ENDED,
    CancelAnswer,
    ClaimAnswer,
    Claimed,
    KeyRecord,
    Record,
    Recorded,
    ReserveAnswer,
    State,
)
from brokerq.wire import Head
from tests.unit.model.messages import head_of, message_of
from tests.unit.model.world import LEASE, OWNER, POLICY, Entry, Job, ViolationError, World

WINDOW = timedelta(days=5)


def claim(world: World, message: int) -> tuple[ClaimAnswer, World]:
    head = head_of(message)
    job = world.job(head.id)
    fence = 1 + max(job.ledger.fence for job in world.jobs)
    holder = None if head.key is None else world.key
    answer, record = records.claim(
        job.record, holder, head, owner=OWNER, lease=LEASE, fence=fence, now=world.now
    )
    if record is not None:
        if job.record is None and record.key is not None:
            world = _take_key(world, record.key, head)
        world = write(world, job, record)
    if isinstance(answer, Claimed):
        _check_claim(job, answer)
        job = world.job(head.id)
        world = world.with_job(head.id, job._replace(ledger=job.ledger._replace(fence=fence)))
    if isinstance(answer, Recorded) and answer.state in BURIED:
        answer = replace(answer, letter=_letter(world, head.id, answer.epoch))
    return answer, world


def _check_claim(job: Job, answer: Claimed) -> None:
    ledger = job.ledger
    if ledger.ended is not None:
        raise ViolationError(f"P2: a job that ended as {ledger.ended} runs again")
    if ledger.cancel in {CancelAnswer.REQUESTED, CancelAnswer.CANCELLED}:
        raise ViolationError("a job that was cancelled runs again")
    if answer.attempts != ledger.failures:
        raise ViolationError(f"P3: {answer.attempts} attempts counted, {ledger.failures} recorded")


def _letter(world: World, job_id: str, epoch: int) -> dict[str, str] | None:
    for letter in world.letters:
        if (letter.id, letter.epoch) == (job_id, epoch):
            return dict(message_of(letter.message).headers)
    return None


def _take_key(world: World, key: str, head: Head) -> World:
    return world._replace(key=KeyRecord(key=key, job_id=head.id, fingerprint=head.fingerprint))


def write(world: World, job: Job, record: Record) -> World:
    """Write a job's record; an end says what becomes of its key."""
    ledger = job.ledger
    if record.state in ENDED:
        ledger = ledger._replace(ended=record.state)
        if world.key is not None and world.key.job_id == record.id:
            key = records.key_after(record, world.key, window=WINDOW, now=world.now)
            world = world._replace(key=key)
    return world.with_job(record.id, Job(record, ledger))


def finish(
    world: World,
    job_id: str,
    claimed: Claimed,
    *,
    state: State,
    attempt: bool,
    copy: bool,
    delay: timedelta,
    letter: int | None,
) -> tuple[Record | None, World]:
    job = world.job(job_id)
    record = records.finish(
        job.record,
        owner=OWNER,
        fence=claimed.fence,
        state=state,
        attempt=attempt,
        copy=copy,
        delay=delay,
        now=world.now,
    )
    if record is None:
        return None, world
    ledger = job.ledger
    if ledger.fence != claimed.fence:
        raise ViolationError("P2: a worker that lost its lease recorded a verdict")
    if ledger.ended is not None:
        raise ViolationError(f"P2: {record.state} was recorded of a job that is {ledger.ended}")
    if attempt and state != State.SUCCEEDED:
        ledger = ledger._replace(failures=ledger.failures + 1)
        _check_failures(ledger.failures, record.state)
    world = write(world, job._replace(ledger=ledger), record)
    if letter is not None and _letter(world, job_id, claimed.epoch) is None:
        entry = Entry(job_id, claimed.epoch, LetterState.OPEN, letter)
        world = world._replace(letters=(*world.letters, entry))
    return record, world


def _check_failures(failures: int, state: State) -> None:
    if failures > POLICY.max_attempts:
        raise ViolationError(f"P3: {failures} failures of {POLICY.max_attempts} were recorded")
    if failures == POLICY.max_attempts and state not in ENDED:
        raise ViolationError(f"P3: failure {failures} was the last, but the job is {state}")


def renew(world: World, job_id: str, claimed: Claimed) -> tuple[records.Hold, World]:
    job = world.job(job_id)
    hold, record = records.renew(
        job.record, owner=OWNER, fence=claimed.fence, lease=LEASE, now=world.now
    )
    if record is not None:
        world = world.with_job(job_id, job._replace(record=record))
    return hold, world


def reserve(world: World, head: Head, *, owner: str) -> tuple[ReserveAnswer, World]:
    held_by = None if world.key is None else world.job(world.key.job_id).record
    answer, record = records.reserve(
        world.key, held_by, head, owner=owner, lease=LEASE, now=world.now
    )
    if record is not None:
        if record.id == head.id and record.key is not None:
            world = _take_key(world, record.key, head)
        world = world.with_job(record.id, world.job(record.id)._replace(record=record))
    return answer, world


def free(world: World, job_id: str, *, owner: str) -> World:
    job = world.job(job_id)
    record = job.record
    if record is None or record.state != State.RESERVED or record.owner != owner:
        return world
    if world.key is not None and world.key.job_id == job_id:
        world = world._replace(key=None)
    return world.with_job(job_id, job._replace(record=None))


def enqueue(world: World, head: Head) -> World:
    job = world.job(head.id)
    record = records.enqueue(job.record, head, now=world.now)
    return world if record is None else world.with_job(head.id, job._replace(record=record))


def cancel(world: World, job_id: str, record: Record) -> World:
    answer, after = records.cancel(record)
    job = world.job(job_id)
    job = job._replace(ledger=job.ledger._replace(cancel=answer))
    return world.with_job(job_id, job) if after is None else write(world, job, after)


def can_redrive(world: World, job_id: str) -> bool:
    """Tell whether the job's newest letter is open and its key is not another's."""
    newest = newest_letter(world, job_id)
    record = world.job(job_id).record
    if newest is None or newest.state != LetterState.OPEN or record is None:
        return False
    return isinstance(_put_back(world, newest, record), Record)


def _put_back(world: World, letter: Entry, record: Record) -> Record | str:
    head = head_of(letter.message)
    holder = None if head.key is None else world.key
    return records.redrive(record, holder, head, died_in=letter.epoch, force=False, now=world.now)


def newest_letter(world: World, job_id: str) -> Entry | None:
    letters = [letter for letter in world.letters if letter.id == job_id]
    return max(letters, key=lambda letter: letter.epoch, default=None)


def begin_redrive(world: World, letter: Entry) -> World:
    job = world.job(letter.id)
    if job.record is None:
        raise ViolationError("P1: a dead letter without a record")
    record = _put_back(world, letter, job.record)
    if isinstance(record, str):
        raise ViolationError(f"P6: a redrive that was possible was refused: {record}")
    if record.key is not None:
        world = _take_key(world, record.key, head_of(letter.message))
    ledger = job.ledger._replace(
        redrives=job.ledger.redrives + 1, failures=0, unrecorded=0, ended=None, cancel=None
    )
    begun = letter._replace(state=LetterState.REDRIVING, copy_epoch=record.epoch)
    return _replace_letter(world.with_job(letter.id, Job(record, ledger)), letter, begun)


def end_redrive(world: World, letter: Entry) -> World:
    return _replace_letter(world, letter, letter._replace(state=LetterState.REDRIVEN))


def _replace_letter(world: World, old: Entry, new: Entry) -> World:
    return world._replace(letters=tuple(new if e == old else e for e in world.letters))
