"""Seam 2: where brokerq keeps its records.

An adapter inherits these protocols by name and is proven by `brokerq.testing.StoreContract`. What a
record becomes is decided by `brokerq.records`; a store reads, asks, and writes in one transaction.
What is made for every delivery is a tuple: these are a worker's most frequent objects.
All calls of one store come from one event loop, and every call may raise `StoreUnavailableError`
(nothing is known to have been written) or `StorageError`.

Every read and write is within one app: the store is opened with the app's name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from brokerq.broker import Broker, Outgoing
from brokerq.catalogue import (
    Catalogue,
    Letter,
    LetterFilter,
    LetterState,
    NotRedriven,
    Redrive,
)
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.outbox import Outbox
from brokerq.record import NewJob
from brokerq.records import CancelAnswer, ClaimAnswer, Hold, ReserveAnswer, State

__all__ = [
    "Catalogue",
    "Claim",
    "Colocated",
    "Failure",
    "Finish",
    "Holding",
    "JobFilter",
    "JobView",
    "Jobs",
    "Letter",
    "LetterFilter",
    "LetterState",
    "NewJob",
    "NotRedriven",
    "Outbox",
    "Pauses",
    "Redrive",
    "Retention",
    "Store",
    "Transactional",
    "Transition",
]


class Claim(NamedTuple):
    """A worker asks for a delivered job.

    Attributes:
        owner: The worker; unique over all processes and restarts.
        early: It begins some milliseconds later. Should the worker be lost before the job has
            ended, nobody knows whether it had begun: no crash is counted.
    """

    job: NewJob
    owner: str
    lease: timedelta
    early: bool = False


class Holding(NamedTuple):
    """A worker's proof that it holds a job."""

    id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong in an attempt; bounded, redacted text.

    Attributes:
        type: The exception's qualified name.
        message: At most 1 KB.
    """

    type: str
    message: str


class Finish(NamedTuple):
    """A worker's verdict on a job it holds; a release too.

    Attributes:
        state: What it becomes; see `brokerq.records.finish`.
        attempt: Whether an attempt is counted.
        copy: Whether a copy of the next epoch follows.
        delay: From the store's now on; not claimable earlier.
        window: How long a success holds its key, and any end its record, against redeliveries.
        result: JSON, only with `succeeded`; kept for `result_ttl`.
        note: Why it ended, or why there is no result, in one sentence.
        letter: The dead letter, where the state is `dead` or `expired`.
        log: Lines that the handler logged in this attempt.
    """

    holding: Holding
    state: State
    attempt: bool = False
    copy: bool = False
    delay: timedelta = ZERO
    window: timedelta = ZERO
    result: bytes | None = None
    result_ttl: timedelta = ZERO
    failure: Failure | None = None
    note: str | None = None
    letter: Message | None = None
    log: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step in a job's life.

    Attributes:
        attempt: How many attempts had ended by then.
        note: What went wrong, in at most 200 characters.
    """

    state: State
    at: datetime
    attempt: int
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job's record, for people and programs.

    Attributes:
        attempts: Attempts that ended.
        due_at: When it may be claimed; None: now, or it is not waiting.
        history: States in order; the middle of a very long one (over 50) is left out.
        message: As published; None once past its retention.
        result: JSON; None where there is none, or it is past its time to live.
        note: Why it ended, or why there is no result.
        log: What its handler logged; at most the newest 1,000 lines.
        worker: Who runs it, or ran it last.
    """

    id: str
    job: str
    queue: str
    level: str
    state: State
    epoch: int
    attempts: int
    crashes: int
    redrives: int
    first_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    key: str | None
    tags: tuple[str, ...]
    correlation: str | None
    cause: str | None
    worker: str | None
    cancelling: bool
    history: Sequence[Transition]
    message: Message | None
    result: bytes | None
    failure: Failure | None
    note: str | None
    log: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to find; None: whatever."""

    states: Collection[State] | None = None
    job: str | None = None
    queue: str | None = None
    key: str | None = None
    tag: str | None = None
    correlation: str | None = None
    before: datetime | None = None
    after: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept for how long.

    Attributes:
        finished: Age at which ended records are no longer shown (message, result, log go).
        finished_count: How many ended records are shown at most.
        dead: Age at which dead letters and their records go.
    """

    finished: timedelta
    finished_count: int
    dead: timedelta


class Jobs(Protocol):
    """One record per job id: idempotency and status."""

    @abstractmethod
    async def claim(self, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        """Answer each claim in order; one transaction. The same id twice: the second sees Busy.

        The first delivery of a job with a `NewJob.delay` is due whenever it comes; what waits after
        that, or until an instant that its message names, is `Busy` until the store's clock says so.
        """

    @abstractmethod
    async def renew(self, holdings: Sequence[Holding], *, lease: timedelta) -> Sequence[Hold]:
        """Begin the leases anew, from the store's now."""

    @abstractmethod
    async def finish(self, finishes: Sequence[Finish]) -> Sequence[State | None]:
        """Record the verdicts; one transaction.

        Returns the state recorded (`cancelled` where a job that was to wait had been asked to end),
        or None where the lease was lost: nothing of that verdict was written. The dead letter
        enters the catalogue in the same transaction, once per (id, epoch).
        """

    @abstractmethod
    async def reserve(
        self, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
    ) -> Sequence[ReserveAnswer]:
        """Take the keys of jobs about to be published; each has one. One transaction."""

    @abstractmethod
    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        """Record jobs as published: inserted where absent, `reserved` ones moved on.

        Their delays count from the store's now on.
        Where a later state is recorded nothing changes.
        """

    @abstractmethod
    async def free(self, ids: Sequence[str], *, owner: str) -> None:
        """Take back reservations of that owner whose publish definitely failed, keys included."""

    @abstractmethod
    async def cancel(self, job_id: str) -> CancelAnswer:
        """End the job, or ask it to end. Raises `NotFoundError`.

        The message of one that it ends leaves the outbox in the same transaction.
        """

    @abstractmethod
    async def get(self, job_ids: Sequence[str]) -> Sequence[JobView | None]:
        """Return the records, None where there is none."""

    @abstractmethod
    async def search(
        self, wanted: JobFilter, *, limit: int, after: str | None = None
    ) -> Sequence[JobView]:
        """Return records, newest id first, from below the id `after`; without message and log."""

    @abstractmethod
    async def counts(self) -> Mapping[tuple[str, State], int]:
        """Return how many jobs each queue has in each state."""

    @abstractmethod
    async def prune(self, retention: Retention, *, limit: int) -> int:
        """Remove up to `limit` things that are past their time; return how many.

        What the rules need is kept for the whole window of its job. Live jobs are never touched,
        but for reservations that nobody has followed up for `retention.dead`; dead ones whose
        letter is open are not touched before that either.
        """


class Pauses(Protocol):
    """Which queues are paused, for every worker."""

    @abstractmethod
    async def pause(self, queue: str, *, by: str) -> None:
        """Stop all workers from taking from the queue; twice is harmless."""

    @abstractmethod
    async def resume(self, queue: str) -> None:
        """Undo `pause`; harmless where the queue is not paused."""

    @abstractmethod
    async def paused(self) -> Collection[str]:
        """Return the paused queues."""


class Store(Jobs, Catalogue, Pauses, Outbox, Protocol):
    """A store with the roles that every app needs."""

    @abstractmethod
    async def open(self) -> None:
        """Connect and bring the schema to its version; twice is harmless."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Twice, or at the same time, is harmless."""


@runtime_checkable
class Colocated(Protocol):
    """A store that is in one database with a broker."""

    @abstractmethod
    def shares(self, broker: Broker) -> bool:
        """Tell whether that broker's messages are in this store's database."""

    @abstractmethod
    async def publish_recorded(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> Sequence[ReserveAnswer]:
        """Take the keys, publish the messages and record the jobs, in one transaction.

        A job without a key is always `Reserved`. Only `Reserved` ones were published; `Pending`
        also stands for a lapsed reservation, with no wait: reserve that one by itself. Raises what
        `Broker.publish` raises, and what `jobs` does: the later ones may only be made ready when
        they are asked for. Then nothing was published.
        """


@runtime_checkable
class Transactional(Protocol):
    """A store that can write within a transaction that the program has begun itself.

    It is handed the driver's own connection, and called in the program's thread, or on its event
    loop. Nothing is ever committed or rolled back by it but what it wrote itself, where it fails.
    """

    @abstractmethod
    def join_sync(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        """Take the keys, put the messages in and record the jobs, within the transaction.

        Answers as `Outbox.schedule` does. With `outbox` the messages go there; else to their
        queues, which only a store can do that shares its database with the broker. A reservation is
        not waited for. Raises `CapabilityError` for a connection that is not of this database,
        `RefusedError` where no transaction is open, `PublishError` where nothing was written; the
        transaction is as it was then, if its database still has it.
        """

    @abstractmethod
    async def join(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        """As `join_sync`, also for a connection of a driver that is asynchronous."""

    @abstractmethod
    def join_finish_sync(self, connection: object, finish: Finish) -> State | None:
        """Record a verdict within the transaction, as `Jobs.finish` does; raises as `join_sync`."""

    @abstractmethod
    async def join_finish(self, connection: object, finish: Finish) -> State | None:
        """As `join_finish_sync`, also for a connection of a driver that is asynchronous."""
