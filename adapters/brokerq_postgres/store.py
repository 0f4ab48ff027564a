"""A store in a PostgreSQL database, in one with the broker of the same URL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from brokerq.broker import Broker, Outgoing
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.errors import ConnectionLostError, PublishError, StorageError
from brokerq.outbox import OutboxStats, Taken
from brokerq.records import CancelAnswer, ClaimAnswer, Hold, ReserveAnswer, Reserved, State
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
    Transactional,
)
from brokerq_postgres import jobs as jobs_
from brokerq_postgres import joining, outgoing, publishing, views
from brokerq_postgres import letters as letters_
from brokerq_postgres import outbox as outbox_
from brokerq_postgres import retention as retention_
from brokerq_postgres.broker import PostgresBroker
from brokerq_postgres.database import Database
from brokerq_postgres.program import Program, at_once, either, plain
from brokerq_postgres.shortcuts import Shortcuts
from brokerq_postgres.topology import Topology
from brokerq_postgres.transaction import Rows, Transaction, Values
from brokerq_postgres.wire import bounded, escape, escape_or_null, scalars, texts, unescape

T = TypeVar("T")


class PostgresStore(Store, Colocated, Transactional):
    """One app's records in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._topology = Topology(database)
        self._shortcuts = Shortcuts(database)
        self._is_open = False
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        async with self._turn:
            if self._is_open and not self._database.forked:
                return
            self._topology.forget()
            await self._database.open()
            self._is_open = True

    async def close(self) -> None:
        async with self._turn:
            if self._is_open:
                self._is_open = False
                await self._database.close()

    def _require_open(self) -> Database:
        self._database.require_open(self._is_open)
        return self._database

    async def _change(self, run: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self._require_open().change(run)

    async def _fetch(self, name: str, values: Values) -> Rows:
        database = self._require_open()
        return await database.fetch(name, {"app": database.app, **values})

    async def claim(self, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        self._require_open()
        answers: dict[int, ClaimAnswer] = {**await self._shortcuts.claim(claims)}
        left = [position for position in range(len(claims)) if position not in answers]
        if left:
            others = [claims[position] for position in left]
            found = await self._change(lambda transaction: jobs_.claim(transaction, others))
            answers.update(zip(left, found, strict=True))
        return [answers[position] for position in range(len(claims))]

    async def renew(self, holdings: Sequence[Holding], *, lease: timedelta) -> Sequence[Hold]:
        return await self._change(lambda transaction: jobs_.renew(transaction, holdings, lease))

    async def finish(self, finishes: Sequence[Finish]) -> Sequence[State | None]:
        self._require_open()
        done = await self._shortcuts.finish(finishes)
        left = [position for position in range(len(finishes)) if position not in done]
        states: list[State | None] = [State.SUCCEEDED] * len(finishes)
        if left:
            others = [finishes[position] for position in left]
            found = await self._change(lambda transaction: jobs_.finish(transaction, others))
            for position, state in zip(left, found, strict=True):
                states[position] = state
        return states

    async def reserve(
        self, jobs: Sequence[NewJob], *, owner: str, lease: timedelta
    ) -> Sequence[ReserveAnswer]:
        return await self._change(
            lambda transaction: jobs_.reserve(transaction, jobs, owner=owner, lease=lease)
        )

    async def enqueue(self, jobs: Sequence[NewJob]) -> None:
        await self._change(lambda transaction: jobs_.enqueue(transaction, jobs))

    async def free(self, ids: Sequence[str], *, owner: str) -> None:
        await self._change(lambda transaction: jobs_.free(transaction, ids, owner))

    async def cancel(self, job_id: str) -> CancelAnswer:
        return await self._change(lambda transaction: outbox_.cancel(transaction, job_id))

    async def get(self, job_ids: Sequence[str]) -> Sequence[JobView | None]:
        return await views.get(self._require_open(), job_ids)

    async def search(
        self, wanted: JobFilter, *, limit: int, after: str | None = None
    ) -> Sequence[JobView]:
        return await views.search(self._require_open(), wanted, limit=limit, after=after)

    async def counts(self) -> Mapping[tuple[str, State], int]:
        return await views.counts(self._require_open())

    async def prune(self, retention: Retention, *, limit: int) -> int:
        return await self._change(
            lambda transaction: retention_.prune(transaction, retention, limit=limit)
        )

    async def letters(
        self, wanted: LetterFilter, *, limit: int, after: str | None = None
    ) -> Sequence[Letter]:
        return await letters_.find(self._require_open(), wanted, limit=limit, after=after)

    async def begin_redrive(
        self, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
    ) -> Sequence[Redrive | NotRedriven]:
        return await self._change(
            lambda transaction: letters_.begin_redrives(
                transaction, job_ids, by=by, force=force, lease=lease
            )
        )

    async def end_redrive(self, redrives: Sequence[Redrive]) -> None:
        values = {
            "ids": texts([one.letter.job_id for one in redrives]),
            "epochs": scalars(one.letter.epoch for one in redrives),
        }
        await self._fetch("end_redrives", values)

    async def lapsed_redrives(self, *, limit: int) -> Sequence[str]:
        rows = await self._fetch("find_lapsed_redrives", {"limit": limit})
        return [unescape(job_id) for (job_id,) in rows]

    async def close_letters(
        self, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
    ) -> Sequence[bool]:
        ids = [bounded(job_id) for job_id in job_ids]
        values = {
            "ids": texts(ids),
            "state": state.value,
            "by": escape(by),
            "note": escape_or_null(note),
        }
        closed = {unescape(job_id) for (job_id,) in await self._fetch("close_letters", values)}
        return [job_id in closed for job_id in ids]

    async def pause(self, queue: str, *, by: str) -> None:
        await self._fetch("pause_queue", {"queue": escape(queue), "by": escape(by)})

    async def resume(self, queue: str) -> None:
        await self._fetch("resume_queue", {"queue": escape(queue)})

    async def paused(self) -> Collection[str]:
        return frozenset(unescape(queue) for (queue,) in await self._fetch("find_pauses", {}))

    async def schedule(self, jobs: Sequence[tuple[NewJob, Outgoing]]) -> Sequence[ReserveAnswer]:
        return await self._change(lambda transaction: outbox_.schedule(transaction, jobs))

    async def take(
        self, *, owner: str, lease: timedelta, ahead: timedelta, limit: int
    ) -> Sequence[Taken]:
        database = self._require_open()
        return await outbox_.take(database, owner=owner, lease=lease, ahead=ahead, limit=limit)

    async def sent(self, ids: Sequence[int], *, owner: str) -> None:
        await self._change(lambda transaction: outbox_.sent(transaction, ids, owner))

    async def put_back(self, ids: Sequence[int], *, owner: str, delay: timedelta) -> None:
        await outbox_.put_back(self._require_open(), ids, owner=owner, delay=delay)

    async def next_due(self, *, ahead: timedelta) -> timedelta | None:
        return await outbox_.next_due(self._require_open(), ahead=ahead)

    async def outbox(self) -> OutboxStats:
        return await outbox_.stats(self._require_open())

    def shares(self, broker: Broker) -> bool:
        return isinstance(broker, PostgresBroker) and broker.database is self._database

    async def publish_recorded(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> Sequence[ReserveAnswer]:
        self._require_open()
        try:
            lanes = self._topology.known or await self._topology.look()
            if await self._shortcuts.publish(jobs, lanes):
                return [Reserved(id=new.head.id) for new, _ in jobs]
            return await self._publish_by_the_rules(jobs)
        except (ConnectionLostError, StorageError) as exc:
            raise outgoing.failed(jobs, exc) from exc

    async def _publish_by_the_rules(
        self, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> list[ReserveAnswer]:
        messages = [message for _, message in jobs]
        batch = outgoing.prepare(messages, self._topology.known)
        if batch.undeclared:
            batch = outgoing.prepare(messages, await self._topology.look())
        if batch.undeclared:
            refusal = outgoing.refusal(messages, batch.undeclared)
            raise PublishError(refusal, failed=range(len(messages)))
        new = [job for job, _ in jobs]
        return await self._change(
            lambda transaction: publishing.publish(transaction, new, batch.rows)
        )

    def join_sync(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        return at_once(self._join(plain(connection), jobs, outbox=outbox))

    async def join(
        self, connection: object, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        return await self._join(either(connection), jobs, outbox=outbox)

    async def _join(
        self, program: Program, jobs: Sequence[tuple[NewJob, Outgoing]], *, outbox: bool
    ) -> Sequence[ReserveAnswer]:
        def run(transaction: Transaction) -> Awaitable[list[ReserveAnswer]]:
            if outbox:
                return outbox_.schedule(transaction, jobs)
            return self._publish_joined(transaction, jobs)

        try:
            return await joining.join(program, self._require_open(), run, wrote=_any_reserved)
        except (ConnectionLostError, StorageError) as exc:
            raise outgoing.failed(jobs, exc) from exc

    async def _publish_joined(
        self, transaction: Transaction, jobs: Sequence[tuple[NewJob, Outgoing]]
    ) -> list[ReserveAnswer]:
        messages = [message for _, message in jobs]
        batch = outgoing.prepare(messages, self._topology.known)
        if batch.undeclared:
            rows = await transaction.fetch("find_lanes", {"app": transaction.app})
            batch = outgoing.prepare(messages, self._topology.learn(rows))
        if batch.undeclared:
            refusal = outgoing.refusal(messages, batch.undeclared)
            raise PublishError(refusal, failed=range(len(messages)))
        return await publishing.publish(transaction, [job for job, _ in jobs], batch.rows)

    def join_finish_sync(self, connection: object, finish: Finish) -> State | None:
        return at_once(self._join_finish(plain(connection), finish))

    async def join_finish(self, connection: object, finish: Finish) -> State | None:
        return await self._join_finish(either(connection), finish)

    async def _join_finish(self, program: Program, finish: Finish) -> State | None:
        database = self._require_open()
        states = await joining.join(
            program, database, lambda t: jobs_.finish(t, [finish]), wrote=lambda s: s != [None]
        )
        return states[0]


def _any_reserved(answers: Sequence[ReserveAnswer]) -> bool:
    return any(isinstance(answer, Reserved) for answer in answers)
