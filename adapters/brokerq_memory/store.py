"""A store in memory: real rules, for tests and for programs that need no durability.

| brokerq | here |
| --- | --- |
| app | a `Ledger` in a `MemoryState`, found by the app's prefix |
| transaction | the lock of the state, which its brokers share |
| fence | a counter of the ledger |
| retention | heaps by when something may go |
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from brokerq import records as rules
from brokerq.broker import Broker, Outgoing
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq.errors import PublishError, StoreUnavailableError
from brokerq.records import (
    CancelAnswer,
    ClaimAnswer,
    Hold,
    KeyRecord,
    Now,
    Pending,
    Record,
    ReserveAnswer,
    Reserved,
    State,
)
from brokerq.store import (
    Claim,
    Colocated,
    Finish,
    Holding,
    JobFilter,
    JobView,
    NewJob,
    Retention,
    Store,
)
from brokerq_memory import jobs as jobs_
from brokerq_memory import letters as letters_
from brokerq_memory import retention as retention_
from brokerq_memory.broker import MemoryBroker
from brokerq_memory.ledger import Ledger
from brokerq_memory.state import MemoryState, refusal


class MemoryStore(Store, Colocated):
    """One app's records in a `MemoryState`; several may share one, on any thread."""

    def __init__(self, *, prefix: str, clock: Clock, state: MemoryState) -> None:
        self._prefix = prefix
        self._clock = clock
        self._state = state
        with state.lock:
            self._ledger = state.ledgers.setdefault(prefix, Ledger())
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    @contextmanager
    def _use(self) -> Generator[tuple[Ledger, Now]]:
        if not self._is_open:
            raise StoreUnavailableError("the memory store is not open: it was closed, or never was")
        with self._state.lock:
            yield self._ledger, Now(wall=self._clock.now(), lease=self._clock.monotonic())

    async def claim(self, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        with self._use() as (ledger, now):
            return jobs_.claim(ledger, claims, now)

    async def renew(self, holdings: Sequence[Holding], *, lease: timedelta) -> Sequence[Hold]:
        with self._use() as (ledger, now):
            return jobs_.renew(ledger, holdings, lease, now)

    async def finish(self, finishes: Sequence[Finish]) -> Sequence[State | None]:
        with self._use() as (ledger, now):
            return jobs_.finish(ledger, finishes, now)

    async def reserve(
        self, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
    ) -> Sequence[ReserveAnswer]:
        with self._use() as (ledger, now):
            return jobs_.reserve(ledger, jobs, owner=owner, lease=lease, now=now)

    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        with self._use() as (ledger, now):
            jobs_.enqueue(ledger, jobs, now)

    async def free(self, ids: Sequence[str], *, owner: str) -> None:
        with self._use() as (ledger, _):
            jobs_.free(ledger, ids, owner)

    async def cancel(self, job_id: str) -> CancelAnswer:
        with self._use() as (ledger, now):
            return jobs_.cancel(ledger, job_id, now)

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobView | None]:
        with self._use() as (ledger, now):
            return jobs_.get(ledger, job_ids, now)

    async def search(
        self, wanted: JobFilter, *, limit: int, after: str | None = None
    ) -> Sequence[JobView]:
        with self._use() as (ledger, now):
            return jobs_.search(ledger, wanted, limit=limit, after=after, now=now)

    async def counts(self) -> Mapping[tuple[str, State], int]:
        with self._use() as (ledger, _):
            return jobs_.counts(ledger)

    async def prune(self, retention: Retention, *, limit: int) -> int:
        with self._use() as (ledger, now):
            return retention_.prune(ledger, retention, limit=limit, now=now)

    async def letters(
        self, wanted: LetterFilter, *, limit: int, after: str | None = None
    ) -> Sequence[Letter]:
        with self._use() as (ledger, now):
            return letters_.letters(ledger, wanted, limit=limit, after=after, now=now)

    async def begin_redrive(
        self, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
    ) -> Sequence[Redrive | NotRedriven]:
        with self._use() as (ledger, now):
            return [
                letters_.begin_redrive(ledger, job_id, by=by, force=force, lease=lease, now=now)
                for job_id in job_ids
            ]

    async def end_redrive(self, redrives: Sequence[Redrive]) -> None:
        with self._use() as (ledger, _):
            letters_.end_redrive(ledger, redrives)

    async def lapsed_redrives(self, *, limit: int) -> Sequence[str]:
        with self._use() as (ledger, now):
            return letters_.lapsed_redrives(ledger, limit=limit, now=now)

    async def close_letters(
        self, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
    ) -> Sequence[bool]:
        with self._use() as (ledger, _):
            return letters_.close_letters(ledger, job_ids, state=state, by=by, note=note)

    async def pause(self, queue: str, *, by: str) -> None:
        with self._use() as (ledger, _):
            ledger.paused.setdefault(queue, by)

    async def resume(self, queue: str) -> None:
        with self._use() as (ledger, _):
            ledger.paused.pop(queue, None)

    async def paused(self) -> Collection[str]:
        with self._use() as (ledger, _):
            return frozenset(ledger.paused)

    def shares(self, broker: Broker) -> bool:
        return isinstance(broker, MemoryBroker) and broker.state is self._state

    async def publish_recorded(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> Sequence[ReserveAnswer]:
        with self._use() as (ledger, now):
            answers = _take_keys(ledger, [job for job, _ in jobs], now)
            taken = [pair for pair, answer in zip(jobs, answers, strict=True) if _is_taken(answer)]
            self._publish([outgoing for _, outgoing in taken])
            jobs_.enqueue(ledger, [job for job, _ in taken], now)
            return answers

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        undeclared = self._state.check(self._prefix, messages)
        if undeclared:
            raise PublishError(refusal(messages, undeclared), failed=range(len(messages)))
        self._state.publish(self._prefix, messages)


def _is_taken(answer: ReserveAnswer) -> bool:
    return isinstance(answer, Reserved)


def _take_keys(ledger: Ledger, jobs: Sequence[NewJob], now: Now) -> list[ReserveAnswer]:
    """Answer each job as if those before it were published; nothing is written yet."""
    answers: list[ReserveAnswer] = []
    taken: dict[str, tuple[KeyRecord, Record]] = {}
    for job in jobs:
        head = job.head
        key = rules.scoped_key(head)
        if key is None:
            answers.append(Reserved(id=head.id))
            continue
        holder, held_by = taken.get(key) or jobs_.key_holder(ledger, job)
        answer, record = rules.reserve(holder, held_by, head, owner="", lease=ZERO, now=now)
        if isinstance(answer, Reserved) and answer.id != head.id:
            answer = Pending(id=answer.id, wait=ZERO)
        elif record is not None:
            held_by = rules.enqueue(record, head, now=now)
            if held_by is not None:
                own = KeyRecord(key=key, job_id=head.id, fingerprint=head.fingerprint)
                taken[key] = own, held_by
        answers.append(answer)
    return answers
