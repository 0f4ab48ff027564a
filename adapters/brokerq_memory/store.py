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

from brokerq.broker import Broker, Outgoing
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.clock import Clock
from brokerq.errors import PublishError, StoreUnavailableError
from brokerq.outbox import OutboxStats, Taken
from brokerq.records import (
    CancelAnswer,
    ClaimAnswer,
    Hold,
    Now,
    ReserveAnswer,
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
from brokerq_memory.keys import take_keys
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

    async def schedule(self, jobs: Sequence[tuple[NewJob, Outgoing]]) -> Sequence[ReserveAnswer]:
        with self._use() as (ledger, now):
            answers, taken = take_keys(ledger, jobs, now)
            for job, outgoing in taken:
                ledger.outbox.add(outgoing, job.head.not_before, now)
            jobs_.enqueue(ledger, [job for job, _ in taken], now)
            return answers

    async def take(
        self, *, owner: str, lease: timedelta, ahead: timedelta, limit: int
    ) -> Sequence[Taken]:
        with self._use() as (ledger, now):
            return ledger.outbox.take(owner=owner, lease=lease, ahead=ahead, limit=limit, now=now)

    async def sent(self, ids: Sequence[int], *, owner: str) -> None:
        with self._use() as (ledger, _):
            ledger.outbox.sent(ids, owner)

    async def put_back(self, ids: Sequence[int], *, owner: str, delay: timedelta) -> None:
        with self._use() as (ledger, now):
            ledger.outbox.put_back(ids, owner, delay, now)

    async def next_due(self, *, ahead: timedelta) -> timedelta | None:
        with self._use() as (ledger, now):
            return ledger.outbox.next_due(ahead, now)

    async def outbox(self) -> OutboxStats:
        with self._use() as (ledger, now):
            return ledger.outbox.stats(now)

    def shares(self, broker: Broker) -> bool:
        return isinstance(broker, MemoryBroker) and broker.state is self._state

    async def publish_recorded(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> Sequence[ReserveAnswer]:
        with self._use() as (ledger, now):
            answers, taken = take_keys(ledger, jobs, now)
            self._publish([outgoing for _, outgoing in taken])
            jobs_.enqueue(ledger, [job for job, _ in taken], now)
            return answers

    def _publish(self, messages: Sequence[Outgoing]) -> None:
        undeclared = self._state.check(self._prefix, messages)
        if undeclared:
            raise PublishError(refusal(messages, undeclared), failed=range(len(messages)))
        self._state.publish(self._prefix, messages)
