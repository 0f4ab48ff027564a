"""The rules by which a job's record changes. Pure: every store applies these and adds none.

A store keeps one `Record` per job id and one `KeyRecord` per idempotency key. In one transaction
it reads them, asks a function here what is to become of them, and writes the answer.

Why it is safe to act on the answers, whatever dies in between:

- The record is written first, then the follow-up is confirmed, then the delivery is settled. One
  that meets a recorded verdict has it carried out again, which repeats a message at worst.
- A retry copy and a redrive raise the epoch in the very write that records them. A delivery of an
  older epoch is dropped only when the newest is known to be in the broker (it was claimed), when
  the dead-letter catalogue answers for it, or when the job has ended.
- Every write after the claim compares owner and fence. The fence of a later claim is larger, for
  ever, so who lost the lease can change nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from brokerq.duration import ZERO
from brokerq.record import (
    BURIED,
    ENDED,
    RUNNING,
    SUCCEEDED,
    Busy,
    CancelAnswer,
    ClaimAnswer,
    Claimed,
    Conflict,
    Duplicate,
    Held,
    Hold,
    KeyRecord,
    Now,
    Pending,
    Record,
    Recorded,
    ReserveAnswer,
    Reserved,
    Stale,
    State,
    new_record,
    unrecorded,
)
from brokerq.record_keys import is_conflict, key_after, key_is_free, scoped_key
from brokerq.wire import Head

__all__ = [
    "BURIED",
    "ENDED",
    "RUNNING",
    "SUCCEEDED",
    "Busy",
    "CancelAnswer",
    "ClaimAnswer",
    "Claimed",
    "Conflict",
    "Duplicate",
    "Held",
    "Hold",
    "KeyRecord",
    "Now",
    "Pending",
    "Record",
    "Recorded",
    "ReserveAnswer",
    "Reserved",
    "Stale",
    "State",
    "cancel",
    "claim",
    "enqueue",
    "finish",
    "holds",
    "is_conflict",
    "key_after",
    "key_is_free",
    "new_record",
    "redrive",
    "renew",
    "reserve",
    "scoped_key",
    "unrecorded",
]


def claim(  # noqa: PLR0911 - one return per rule
    record: Record | None,
    holder: KeyRecord | None,
    head: Head,
    *,
    owner: str,
    lease: timedelta,
    fence: int,
    now: Now,
    early: bool = False,
) -> tuple[ClaimAnswer, Record | None]:
    """Answer a delivery's claim; the record as it is to be written, or None: no change.

    `holder` is only looked at where there is no record: a job with a record has, or has lost, its
    key by other rules. `fence` must be larger than any given before. Who takes over a lapsed lease
    begins at once, whether or not it is to be `early`.
    """
    due_at = now.wall if early else None
    if record is None:
        return _claim_new(
            holder, head, owner=owner, lease=lease, fence=fence, now=now, due_at=due_at
        )
    if head.epoch < record.epoch and (record.claimed or record.state != State.RETRYING):
        return Stale(), None
    if record.state in ENDED:
        return _recorded(record, ZERO), None
    if record.state == RUNNING:
        if record.lease_until > now.lease:
            return Busy(wait=timedelta(seconds=record.lease_until - now.lease)), None
        crashed = record.due_at is None  # else nobody knows whether it had begun
        record = record._replace(crashes=record.crashes + crashed, due_at=None)
        due_at = None
        if record.cancelling:
            cancelled = _end(record, State.CANCELLED)
            return _recorded(cancelled, ZERO), cancelled
    wait = ZERO if record.due_at is None else max(ZERO, record.due_at - now.wall)
    if wait and _is_kept_by_broker(record, head):
        wait = ZERO
    if head.epoch < record.epoch:  # the copy may never have been published: kill before follow-up
        return _recorded(record, wait), None
    if wait:
        return Busy(wait=wait), None
    return _take(record, head, owner=owner, lease=lease, fence=fence, now=now, due_at=due_at)


def _is_kept_by_broker(record: Record, head: Head) -> bool:
    """Tell whether the delivery was due when it came: the broker has measured its delay.

    Its timer began before the record was written, so that by the record it comes a moment early.
    """
    return (
        head.not_before is None
        and not record.claimed
        and record.state in {State.RESERVED, State.SCHEDULED}
    )


def _claim_new(
    holder: KeyRecord | None,
    head: Head,
    *,
    owner: str,
    lease: timedelta,
    fence: int,
    now: Now,
    due_at: datetime | None,
) -> tuple[ClaimAnswer, Record]:
    key = scoped_key(head)
    if key is None or holder is None or key_is_free(holder, for_job=head.id, now=now):
        fresh = new_record(head, state=State.QUEUED, key=key)
        return _take(fresh, head, owner=owner, lease=lease, fence=fence, now=now, due_at=due_at)
    record = new_record(head, state=State.SKIPPED)
    if not is_conflict(holder, head.fingerprint):
        return Duplicate(of=holder.job_id), record
    answer, record = _take(
        record, head, owner=owner, lease=lease, fence=fence, now=now, due_at=due_at
    )
    return answer._replace(conflict=holder.job_id), record


def _take(
    record: Record,
    head: Head,
    *,
    owner: str,
    lease: timedelta,
    fence: int,
    now: Now,
    due_at: datetime | None,
) -> tuple[Claimed, Record]:
    epoch = max(record.epoch, head.epoch)
    attempts = max(record.attempts, head.attempts)
    crashes = max(record.crashes, head.crashes)
    first_at, expires_at, redrives = record.first_at, record.expires_at, record.redrives
    # By position, as it is for every delivery: by name takes three times as long.
    taken = Record(
        record.id,
        RUNNING,
        first_at,
        epoch,
        True,  # noqa: FBT003
        attempts,
        crashes,
        fence,
        owner,
        now.lease + lease.total_seconds(),
        due_at,
        expires_at,
        record.key,
        redrives,
        record.cancelling,
    )
    answer = Claimed(
        fence, epoch, attempts, crashes, first_at, expires_at, redrives, None, now.wall
    )
    return answer, taken


def _recorded(record: Record, wait: timedelta) -> Recorded:
    return Recorded(
        state=record.state,
        epoch=record.epoch,
        attempts=record.attempts,
        crashes=record.crashes,
        redrives=record.redrives,
        first_at=record.first_at,
        wait=wait,
    )


def holds(record: Record | None, *, owner: str, fence: int) -> bool:
    """Tell whether that owner still holds the job: nobody else has claimed it since."""
    return (
        record is not None
        and record.state == RUNNING
        and record.owner == owner
        and record.fence == fence
    )


def renew(
    record: Record | None, *, owner: str, fence: int, lease: timedelta, now: Now
) -> tuple[Hold, Record | None]:
    """Begin the lease anew. A lease that lapsed unnoticed is held again: nobody took it over."""
    if record is None or not holds(record, owner=owner, fence=fence):
        return Hold.LOST, None
    renewed = record._replace(lease_until=now.lease + lease.total_seconds())
    return (Hold.CANCEL_REQUESTED if record.cancelling else Hold.HELD), renewed


def finish(
    record: Record | None,
    *,
    owner: str,
    fence: int,
    state: State,
    attempt: bool,
    copy: bool,
    delay: timedelta,
    now: Now,
) -> Record | None:
    """Return the record with the verdict in it, or None: the lease was lost, nothing changes.

    `state` is an ended one, or `retrying`, `waiting`, `scheduled`, `queued`: then the job may be
    claimed again after `delay`. `attempt` counts one; `copy` raises the epoch. A job whose
    cancelling was asked for ends as cancelled rather than wait: look at the state returned.
    """
    if record is None or not holds(record, owner=owner, fence=fence):
        return None
    attempts = record.attempts + attempt
    if state in ENDED or record.cancelling:
        end = state if state in ENDED else State.CANCELLED
        return _end(record, end, attempts=attempts)
    return record._replace(
        state=state,
        attempts=attempts,
        epoch=record.epoch + copy,
        claimed=not copy,
        owner=None,
        lease_until=0.0,
        due_at=now.wall + delay if delay else None,
    )


def _end(record: Record, state: State, *, attempts: int | None = None) -> Record:
    return Record(  # by position, as above
        record.id,
        state,
        record.first_at,
        record.epoch,
        record.claimed,
        record.attempts if attempts is None else attempts,
        record.crashes,
        record.fence,
        None,
        0.0,
        None,
        record.expires_at,
        record.key,
        record.redrives,
    )


def cancel(record: Record) -> tuple[CancelAnswer, Record | None]:
    """End a job that waits, at once; ask one that runs to end."""
    if record.state in ENDED:
        answer = (
            CancelAnswer.CANCELLED if record.state == State.CANCELLED else CancelAnswer.TOO_LATE
        )
        return answer, None
    if record.state == RUNNING:
        return CancelAnswer.REQUESTED, record._replace(cancelling=True)
    return CancelAnswer.CANCELLED, _end(record, State.CANCELLED)


LOOP_GUARD = 2
"""So often a job is redriven without being forced to."""


def redrive(
    record: Record | None,
    holder: KeyRecord | None,
    head: Head,
    *,
    died_in: int,
    force: bool,
    now: Now,
) -> Record | str:
    """Return the record of a buried job put back on its queue, with fresh budgets; or why not.

    `head` is the dead letter's, `died_in` the epoch it ended; they stand for a record that is gone.
    `holder` is who holds the letter's key: the job takes it again.
    """
    buried = record or new_record(head, state=State.DEAD)._replace(epoch=died_in)
    if buried.state not in BURIED:
        return f"job {buried.id} is {buried.state}, it is not dead"
    if buried.redrives >= LOOP_GUARD and not force:
        return f"job {buried.id} was redriven {buried.redrives} times already: it needs force"
    if holder is not None and not key_is_free(holder, for_job=buried.id, now=now):
        return f"the key of job {buried.id} was taken by job {holder.job_id}"
    expires_at = buried.expires_at
    return buried._replace(
        state=State.QUEUED,
        epoch=buried.epoch + 1,
        claimed=False,
        attempts=0,
        crashes=0,
        first_at=now.wall,
        expires_at=None if expires_at is not None and expires_at <= now.wall else expires_at,
        key=scoped_key(head),
        redrives=buried.redrives + 1,
        cancelling=False,
        due_at=None,
    )


def reserve(
    holder: KeyRecord | None,
    held_by: Record | None,
    head: Head,
    *,
    owner: str,
    lease: timedelta,
    now: Now,
    delay: timedelta = ZERO,
) -> tuple[ReserveAnswer, Record | None]:
    """Answer a publisher that wants the key in `head`; the record to be written, if any.

    `held_by` is the record of the holder's job, and without a holder the record that the head's own
    id has already, if any. A reservation whose lease lapsed is taken over
    under its own id: its publisher may have died after the broker took the message. Asking again
    under the same id undoes nothing.
    """
    until = now.lease + lease.total_seconds()
    own = held_by is not None and held_by.id == head.id
    free = holder is None or key_is_free(holder, for_job=head.id, now=now)
    if held_by is None or (free and not own):
        fresh = new_record(head, state=State.RESERVED, key=scoped_key(head))
        due_at = _due_at(head, delay, now)
        return Reserved(id=head.id), fresh._replace(owner=owner, lease_until=until, due_at=due_at)
    if holder is not None and is_conflict(holder, head.fingerprint):
        return Conflict(id=held_by.id), None
    if held_by.state != State.RESERVED:
        return Held(id=held_by.id), None
    if held_by.lease_until > now.lease and not (own and held_by.owner == owner):
        wait = timedelta(seconds=held_by.lease_until - now.lease)
        return Pending(id=held_by.id, wait=wait), None
    return Reserved(id=held_by.id), held_by._replace(owner=owner, lease_until=until)


def enqueue(
    record: Record | None, head: Head, *, now: Now, delay: timedelta = ZERO
) -> Record | None:
    """Return the record of a job that was published; None: a later state is recorded already."""
    if record is not None and record.state != State.RESERVED:
        return None
    due_at = _due_at(head, delay, now)
    state = State.QUEUED if due_at is None or due_at <= now.wall else State.SCHEDULED
    if record is None:
        record = new_record(head, state=state, key=scoped_key(head))
        return record if due_at == record.due_at else record._replace(due_at=due_at)
    return record._replace(state=state, owner=None, lease_until=0.0, due_at=due_at)


def _due_at(head: Head, delay: timedelta, now: Now) -> datetime | None:
    """Return when a job that is published now is due; see `NewJob.delay`."""
    return now.wall + delay if delay else head.not_before
