"""A job's record and its key's, and what a store answers about them: data without rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.wire import Head


class State(StrEnum):
    """Where a job stands."""

    RESERVED = "reserved"
    """Its key is taken; it is being published."""
    SCHEDULED = "scheduled"
    """Published or given back with a delay."""
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """Between two durable steps."""
    RETRYING = "retrying"
    """An attempt failed; the next is due later."""
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    EXPIRED = "expired"
    """Too old, or past its deadline, before it succeeded; its message is a dead letter."""
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Dropped by its handler, or the duplicate of another job."""


ENDED = frozenset({State.SUCCEEDED, State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED})
RUNNING, SUCCEEDED = State.RUNNING, State.SUCCEEDED
"""What every run looks at: until Python 3.12 a class needs 0.1 us to find a member by its name."""
BURIED = frozenset({State.DEAD, State.EXPIRED})
"""The ends that leave a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The store's time.

    Attributes:
        wall: For due times and deadlines.
        lease: Seconds on the clock that the store judges leases by.
    """

    wall: datetime
    lease: float


class NewJob(NamedTuple):
    """A job as its publisher, or its first delivery, knows it.

    Attributes:
        head: What `message.headers` say.
        level: The priority level it is published at.
        delay: From its publish on, kept by the broker or the outbox, where the head has no
            `not_before`; so nobody needs to know another's clock. Only its publisher knows it.
    """

    head: Head
    message: Message
    queue: str
    level: str
    delay: timedelta = ZERO


class Record(NamedTuple):
    """What the rules need to know of a job; a tuple, since every delivery makes three of them.

    Attributes:
        epoch: The newest epoch.
        claimed: Whether a delivery of that epoch was ever claimed.
        attempts: Attempts recorded; reset by a redrive, as crashes and first_at are.
        crashes: Leases that lapsed while the job surely ran.
        fence: Of the last claim.
        owner: Who holds the job, while it is reserved or running.
        lease_until: On the store's lease clock; zero where nobody holds it.
        due_at: When the job is due: by the store's clock, or as its message says. Not claimable
            earlier, unless a first delivery is kept back by the broker alone. Of a running job:
            when it was claimed, if that was before it began.
        expires_at: Its deadline.
        key: Its idempotency key, scoped to the job's name; None: it holds none.
        redrives: How often it came back from the dead letters.
        cancelling: Cancelling was asked for while it ran.
    """

    id: str
    state: State
    first_at: datetime
    epoch: int = 0
    claimed: bool = False
    attempts: int = 0
    crashes: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: float = 0.0
    due_at: datetime | None = None
    expires_at: datetime | None = None
    key: str | None = None
    redrives: int = 0
    cancelling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """Who holds an idempotency key.

    Attributes:
        fingerprint: Digest of the holder's payload; None: not compared.
        expires_at: Free from then on; None: held until the job ends.
    """

    key: str
    job_id: str
    fingerprint: str | None = None
    expires_at: datetime | None = None


class Claimed(NamedTuple):
    """The job is yours until the lease ends.

    Attributes:
        fence: Proves it.
        conflict: The job that holds the key with another payload: end as `key_conflict`, don't run.
        at: When it was claimed, by the store's clock; None: nothing is recorded.
    """

    fence: int
    epoch: int
    attempts: int
    crashes: int
    first_at: datetime
    expires_at: datetime | None
    redrives: int
    conflict: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Somebody else holds the job, or it is not due: come back after `wait`."""

    wait: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A verdict was recorded already: carry it out again.

    Attributes:
        state: An ended state, or `retrying`: then a copy of epoch `epoch` is due after `wait`.
        letter: Headers of the dead letter, where the state is `dead` or `expired`; filled in by
            the store.
    """

    state: State
    epoch: int
    attempts: int
    crashes: int
    redrives: int
    first_at: datetime
    wait: timedelta = ZERO
    letter: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """The key belongs to another job; this one has been recorded as skipped: acknowledge it."""

    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A newer message of the job is safe in the broker or the job has moved on: acknowledge."""


ClaimAnswer = Claimed | Busy | Recorded | Duplicate | Stale


class Hold(StrEnum):
    """What a renewal says."""

    HELD = "held"
    CANCEL_REQUESTED = "cancel requested"
    LOST = "lost"


class CancelAnswer(StrEnum):
    """What cancelling came to."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    """It runs; its worker learns of it with the next heartbeat."""
    TOO_LATE = "too_late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The key is yours: publish under this id, which may be one that an earlier publisher left."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The key belongs to a job that was published with the same payload: a duplicate."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Another publisher is about to publish under the key: ask again after `wait`."""

    id: str
    wait: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The key belongs to a job with another payload."""

    id: str


ReserveAnswer = Reserved | Held | Pending | Conflict


def unrecorded(head: Head) -> Claimed:
    """Return the claim of a job of which nothing is recorded: its message's word is taken."""
    return Claimed(
        fence=0,
        epoch=head.epoch,
        attempts=head.attempts,
        crashes=head.crashes,
        first_at=head.first_at,
        expires_at=head.expires_at,
        redrives=head.redrives,
    )


def new_record(head: Head, *, state: State, key: str | None = None) -> Record:
    """Return the record of a job that has none yet, as its message says."""
    return Record(
        id=head.id,
        state=state,
        first_at=head.first_at,
        epoch=head.epoch,
        attempts=head.attempts,
        crashes=head.crashes,
        due_at=head.not_before,
        expires_at=head.expires_at,
        key=key,
        redrives=head.redrives,
    )
