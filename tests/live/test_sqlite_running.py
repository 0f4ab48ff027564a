"""What a SQLite writer remembers of the jobs it claimed saves reads and is never out of date."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from brokerq_sqlite import SqliteBroker, connect
from brokerq_sqlite import jobs as jobs_
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.running import Running
from brokerq_sqlite.session import Options
from brokerq_sqlite.writer import Transaction

from brokerq.clock import SystemClock
from brokerq.duration import ZERO
from brokerq.errors import NotFoundError
from brokerq.message import Message
from brokerq.records import Claimed, Hold, Now, State, new_record
from brokerq.store import Claim, NewJob
from brokerq.testing.store_desk import ANN, BOB, LONG, Run
from brokerq.wire import Head

CLOCK = SystemClock()


class Process:
    """What counts as a process to the file: a store with a writing connection of its own."""

    def __init__(self, path: Path) -> None:
        options = Options(path=path, lock_timeout=10.0, boot=boot_id)
        backend = connect(options, prefix="shop", clock=CLOCK)
        assert isinstance(backend.broker, SqliteBroker)
        assert backend.store is not None
        self.store, self.database = backend.store, backend.broker.database

    async def claim(self, job: NewJob, owner: str = ANN, *, lease: timedelta = LONG) -> Run:
        (answer,) = await self.store.claim([Claim(job=job, owner=owner, lease=lease)])
        assert isinstance(answer, Claimed)
        return Run(job=job, answer=answer, owner=owner)

    async def finish(self, run: Run, state: State = State.SUCCEEDED) -> State | None:
        return (await self.store.finish([run.verdict(state)]))[0]

    async def spy(self) -> list[str]:
        """Return a list to which each statement is added that the writing connection runs."""
        statements: list[str] = []
        await self.database.write(lambda t: t.db.set_trace_callback(statements.append))
        statements.clear()
        return statements

    async def together(self, *calls: Awaitable[object]) -> list[object]:
        """Run the calls in one group; return what they return or raise."""
        began, let_go = threading.Event(), threading.Event()

        def wait(_: Transaction) -> bool:
            began.set()
            return let_go.wait(20)

        waiting = self.database.write(wait)
        assert await asyncio.to_thread(began.wait, 20)
        answers = asyncio.gather(*calls, return_exceptions=True)
        asyncio.get_running_loop().call_soon(let_go.set)  # after all have called
        assert await waiting
        return list[object](await answers)


def job(number: int) -> NewJob:
    head = Head(id=f"job-{number}", job="charge", first_at=CLOCK.now())
    message = Message(headers={"bq-id": head.id}, body=b"{}")
    return NewJob(head=head, message=message, queue="payments", level="normal")


FIRST, SECOND = job(1), job(2)


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[Process]:
    process = Process(path)
    await process.store.open()
    try:
        yield process
    finally:
        await process.store.close()


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[Process]:
    async with opened(tmp_path / "jobs.db") as process:
        await process.store.enqueue([FIRST, SECOND])
        yield process


@pytest.fixture
async def other(ours: Process) -> AsyncIterator[Process]:
    async with opened(ours.database.path) as process:
        yield process


async def test_who_finishes_what_it_claimed_reads_nothing_from_the_file(ours: Process) -> None:
    run = await ours.claim(FIRST)
    statements = await ours.spy()
    assert await ours.finish(run) == State.SUCCEEDED
    assert statements[-1] == "COMMIT"
    assert not any(statement.startswith("SELECT") for statement in statements)


async def test_who_finishes_after_another_process_has_written_reads_the_record(
    ours: Process, other: Process
) -> None:
    run = await ours.claim(FIRST)
    await other.claim(SECOND, BOB)
    statements = await ours.spy()
    assert await ours.finish(run) == State.SUCCEEDED
    assert any(statement.startswith("SELECT") for statement in statements)


async def test_a_claim_is_finished_once(ours: Process) -> None:
    run = await ours.claim(FIRST)
    assert await ours.finish(run) == State.SUCCEEDED
    assert await ours.finish(run) is None


async def test_a_claim_that_another_process_took_over_cannot_be_finished(
    ours: Process, other: Process
) -> None:
    late = await ours.claim(FIRST, lease=ZERO)
    run = await other.claim(FIRST, BOB)
    assert await ours.finish(late) is None
    assert await other.finish(run) == State.SUCCEEDED


@pytest.mark.parametrize("by_us", [True, False])
async def test_who_renews_sees_that_the_job_was_asked_to_end(
    ours: Process, other: Process, *, by_us: bool
) -> None:
    run = await ours.claim(FIRST)
    await (ours if by_us else other).store.cancel(run.id)
    (hold,) = await ours.store.renew([run.holding], lease=LONG)
    assert hold == Hold.CANCEL_REQUESTED


@pytest.mark.parametrize("by_us", [True, False])
async def test_a_job_that_was_asked_to_end_is_not_retried(
    ours: Process, other: Process, *, by_us: bool
) -> None:
    run = await ours.claim(FIRST)
    await (ours if by_us else other).store.cancel(run.id)
    assert await ours.finish(run, State.RETRYING) == State.CANCELLED


async def test_a_claim_that_was_rolled_back_with_its_group_is_made_again(ours: Process) -> None:
    statements = await ours.spy()
    run, refused = await ours.together(ours.claim(FIRST), ours.store.cancel("job-of-nobody"))
    assert isinstance(refused, NotFoundError)
    assert "ROLLBACK" in statements
    assert isinstance(run, Run)
    (view,) = await ours.store.get([run.id])
    assert view is not None
    assert (view.state, view.worker, view.crashes) == (State.RUNNING, ANN, 0)
    assert await ours.finish(run) == State.SUCCEEDED


async def test_the_claim_of_a_call_that_failed_holds_nothing(ours: Process) -> None:
    undone: list[Run] = []

    def claim_and_fail(transaction: Transaction) -> None:
        now = Now(wall=CLOCK.now(), lease=CLOCK.monotonic())
        ledger = Ledger(transaction, ours.database.app, now)
        (answer,) = jobs_.claim(ledger, [Claim(job=FIRST, owner=BOB, lease=LONG)])
        assert isinstance(answer, Claimed)
        undone.append(Run(job=FIRST, answer=answer, owner=BOB))
        jobs_.cancel(ledger, "job-of-nobody")

    async def fail() -> None:
        await ours.database.write(claim_and_fail)

    refused, _ = await ours.together(fail(), ours.claim(SECOND))
    assert isinstance(refused, NotFoundError)
    assert await ours.finish(undone[-1]) is None
    await ours.claim(FIRST)


def test_no_more_than_a_few_thousand_records_are_remembered() -> None:
    records = [new_record(job(number).head, state=State.RUNNING) for number in range(10_000)]
    with closing(sqlite3.connect(":memory:")) as db:
        running = Running(db)
        for record in records:
            running.keep({record.id: record})
        assert running.take(records[-1].id) == records[-1]
        assert sum(running.take(record.id) is not None for record in records) < 4_096
