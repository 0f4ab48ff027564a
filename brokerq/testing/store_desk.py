"""What the cases of `StoreContract` do over and over: make jobs, claim, finish, look, wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest

from brokerq.broker import Lane, Outgoing
from brokerq.catalogue import Letter, LetterFilter, NotRedriven, Redrive
from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.records import ClaimAnswer, Claimed, ReserveAnswer, State
from brokerq.store import (
    Claim,
    Failure,
    Finish,
    Holding,
    JobView,
    NewJob,
    Retention,
    Store,
)
from brokerq.testing.store_harness import StoreHarness
from brokerq.wire import Head, write_headers

LONG = timedelta(hours=1)
"""A lease, delay or time to live that does not end within a case."""
KEEP = Retention(finished=LONG, finished_count=1_000, dead=LONG)
"""A retention under which nothing is past its time."""
ANN = "ann"
BOB = "bob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A job that a worker holds."""

    job: NewJob
    answer: Claimed
    owner: str

    @property
    def id(self) -> str:
        return self.job.head.id

    @property
    def holding(self) -> Holding:
        return Holding(id=self.id, owner=self.owner, fence=self.answer.fence)

    def verdict(
        self,
        state: State,
        *,
        attempt: bool = False,
        copy: bool = False,
        delay: timedelta = ZERO,
        window: timedelta = LONG,
        result: bytes | None = None,
        result_ttl: timedelta = LONG,
        failure: Failure | None = None,
        note: str | None = None,
        letter: Message | None = None,
        log: Sequence[str] = (),
    ) -> Finish:
        return Finish(
            holding=self.holding,
            state=state,
            attempt=attempt,
            copy=copy,
            delay=delay,
            window=window,
            result=result,
            result_ttl=result_ttl,
            failure=failure,
            note=note,
            letter=letter,
            log=log,
        )


def again(
    job: NewJob, *, epoch: int = 0, attempts: int | None = None, crashes: int | None = None
) -> NewJob:
    """Return the job as its message of that epoch says; counts as they were unless given."""
    head = job.head._replace(
        epoch=epoch,
        attempts=job.head.attempts if attempts is None else attempts,
        crashes=job.head.crashes if crashes is None else crashes,
    )
    message = Message(headers=write_headers(head), body=job.message.body)
    return job._replace(head=head, message=message)


def kept(
    job: NewJob, *, delay: timedelta | None = None, order: str | None = None
) -> tuple[NewJob, Outgoing]:
    """Return the job with the message that goes to the outbox; the delay is the job's own."""
    head = job.head
    delay = job.delay if delay is None else delay
    lane = Lane(queue=job.queue, level=job.level)
    outgoing = Outgoing(
        lane=lane, message=job.message, id=head.id, delay=delay, order=order, tenant=head.tenant
    )
    return job, outgoing


def letter_of(
    job: NewJob,
    *,
    epoch: int = 0,
    reason: str = "exhausted",
    error_type: str = "ValueError",
    group: str = "a1",
) -> Message:
    """Return the job's dead letter."""
    dead = {
        "bq-dead-reason": reason,
        "bq-dead-error-type": error_type,
        "bq-dead-error-message": "it broke: Grüße 🦀",
        "bq-dead-group": group,
    }
    return Message(
        headers={**again(job, epoch=epoch).message.headers, **dead}, body=job.message.body
    )


@dataclass(slots=True, kw_only=True)
class Desk:
    """Where a case works: the store of a fresh place, and jobs that are unlike each other.

    Every method takes another store where it is not this one that is meant.
    """

    harness: StoreHarness
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def store(self) -> Store:
        return self.harness.store

    @property
    def lease(self) -> timedelta:
        return self.harness.lease

    def job(
        self,
        *,
        id: str | None = None,  # noqa: A002 - the word of the wire
        name: str = "charge",
        queue: str = "payments",
        level: str = "normal",
        key: str | None = None,
        fingerprint: str | None = None,
        delay: timedelta = ZERO,
        at: timedelta | None = None,
        deadline: timedelta | None = None,
        tags: tuple[str, ...] = (),
        correlation: str | None = None,
        attempts: int = 0,
        crashes: int = 0,
    ) -> NewJob:
        """Return a job that nobody has published yet; ids are in the order of the calls.

        `at` is an instant that its message names, as far from now.
        """
        now = self.harness.now()
        head = Head(
            id=id or f"job-{next(self._numbers):04}",
            job=name,
            first_at=now,
            key=key,
            fingerprint=fingerprint,
            not_before=None if at is None else now + at,
            expires_at=None if deadline is None else now + deadline,
            tags=tags,
            correlation=correlation,
            attempts=attempts,
            crashes=crashes,
            user={"mine": "Grüße 🦀"},
        )
        body = b'{"order_id": "o-1", "note": "\xc3\xbc"}'
        message = Message(headers=write_headers(head), body=body)
        return NewJob(head=head, message=message, queue=queue, level=level, delay=delay)

    async def claim(
        self,
        job: NewJob,
        owner: str = ANN,
        *,
        lease: timedelta = LONG,
        store: Store | None = None,
        early: bool = False,
    ) -> ClaimAnswer:
        wanted = Claim(job=job, owner=owner, lease=lease, early=early)
        (answer,) = await (store or self.store).claim([wanted])
        return answer

    async def start(
        self,
        job: NewJob,
        owner: str = ANN,
        *,
        lease: timedelta = LONG,
        store: Store | None = None,
        early: bool = False,
    ) -> Run:
        """Claim the job, which must be possible."""
        answer = await self.claim(job, owner, lease=lease, store=store, early=early)
        assert isinstance(answer, Claimed), answer
        return Run(job=job, answer=answer, owner=owner)

    async def finish(self, verdict: Finish, *, store: Store | None = None) -> State | None:
        (state,) = await (store or self.store).finish([verdict])
        return state

    async def succeed(self, job: NewJob, *, window: timedelta = LONG) -> None:
        """Run the job."""
        run = await self.start(job)
        verdict = run.verdict(State.SUCCEEDED, attempt=True, window=window)
        assert await self.finish(verdict) == State.SUCCEEDED

    async def bury(
        self,
        job: NewJob,
        *,
        reason: str = "exhausted",
        error_type: str = "ValueError",
        group: str = "a1",
        window: timedelta = LONG,
    ) -> Message:
        """Run the job so that it dies, and return its dead letter."""
        run = await self.start(job)
        letter = letter_of(
            job, epoch=run.answer.epoch, reason=reason, error_type=error_type, group=group
        )
        verdict = run.verdict(State.DEAD, attempt=True, letter=letter, window=window)
        assert await self.finish(verdict) == State.DEAD
        return letter

    async def reserve(
        self,
        job: NewJob,
        owner: str = ANN,
        *,
        lease: timedelta = LONG,
        store: Store | None = None,
    ) -> ReserveAnswer:
        (answer,) = await (store or self.store).reserve([job], owner=owner, lease=lease)
        return answer

    async def view(self, job: NewJob, *, store: Store | None = None) -> JobView:
        """Return the job as it is shown; it must be there."""
        (view,) = await (store or self.store).get([job.head.id])
        assert view is not None, f"{job.head.id} is not there"
        return view

    async def state(self, job: NewJob) -> State:
        return (await self.view(job)).state

    async def letter(self, job: NewJob) -> Letter:
        """Return the job's newest dead letter, whatever its state; it must be there."""
        wanted = LetterFilter(ids=[job.head.id], states=None)
        (letter,) = await self.store.letters(wanted, limit=10)
        return letter

    async def begin_redrive(
        self,
        job: NewJob,
        *,
        force: bool = False,
        lease: timedelta = LONG,
        store: Store | None = None,
    ) -> Redrive | NotRedriven:
        (answer,) = await (store or self.store).begin_redrive(
            [job.head.id], by="eve", force=force, lease=lease
        )
        return answer

    async def redrive(self, job: NewJob, *, force: bool = False) -> NewJob:
        """Put the dead job back, and return it as its copy says."""
        begun = await self.begin_redrive(job, force=force)
        assert isinstance(begun, Redrive), begun
        await self.store.end_redrive([begun])
        return again(job, epoch=begun.epoch)

    async def prune(self, retention: Retention) -> int:
        """Remove all that is past its time; return how much that was."""
        removed = 0
        while step := await self.store.prune(retention, limit=100):
            removed += step
        return removed

    async def lapse(self) -> None:
        """Let what was to last for one lease end."""
        await self.harness.pass_time(self.lease * 1.2)


class StoreCases:
    """What every part of the contract stands on."""

    @pytest.fixture
    def desk(self, harness: StoreHarness) -> Desk:
        return Desk(harness=harness)
