"""Cases of `StoreContract`: writing within a transaction that the program has begun itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pytest

from brokerq.duration import ZERO
from brokerq.errors import CapabilityError, PublishError
from brokerq.records import Conflict, Held, Pending, ReserveAnswer, Reserved, State
from brokerq.store import Finish, NewJob, Store, Transactional
from brokerq.testing.store_colocated import declared, delivered, outgoing
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, StoreCases, kept
from brokerq.testing.store_harness import ProgramConnection


class TransactionalStore(Store, Transactional, Protocol):
    """Both at once."""


class Program:
    """A program with a table and a transaction of its own."""

    def __init__(self, store: TransactionalStore, connection: ProgramConnection) -> None:
        self.connection = connection
        self._store = store

    def publish(self, *jobs: NewJob) -> Sequence[ReserveAnswer]:
        """Publish within the transaction, to the outbox."""
        return self._store.join_sync(self.connection, [kept(job) for job in jobs], outbox=True)

    def finish(self, verdict: Finish) -> State | None:
        """Record a verdict within the transaction."""
        return self._store.join_finish_sync(self.connection, verdict)

    def order(self) -> None:
        """Write something of the program's own."""
        self.connection.execute("INSERT INTO program_orders VALUES (1)")

    def orders(self) -> int:
        """Count what is there."""
        return len(list(self.connection.execute("SELECT * FROM program_orders")))


@contextmanager
def program(desk: Desk) -> Generator[Program | None]:
    """Begin a program; None where the store does not claim to join transactions."""
    opened = desk.harness.connection()
    if opened is None:
        assert not isinstance(desk.store, Transactional)
        yield None
        return
    assert isinstance(desk.store, Transactional)
    with opened as connection:
        connection.execute("CREATE TABLE program_orders (id INTEGER)")
        connection.commit()
        yield Program(desk.store, connection)


async def due(desk: Desk) -> list[str]:
    """Return the ids of the jobs in the outbox, as a relay gets them, and give them back."""
    taken = await desk.store.take(owner=ANN, lease=LONG, ahead=LONG, limit=100)
    await desk.store.put_back([each.id for each in taken], owner=ANN, delay=ZERO)
    return [each.outgoing.id for each in taken]


class TransactionCases(StoreCases):
    """Nothing is published without the program's commit, and everything with it."""

    async def test_jobs_are_published_with_the_commit(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            jobs = [desk.job(), desk.job(key="order-1"), desk.job(delay=LONG)]
            ids = [job.head.id for job in jobs]
            mine.order()
            assert list(mine.publish(*jobs)) == [Reserved(id=id_) for id_ in ids]
            assert list(await desk.store.get(ids)) == [None, None, None]
            assert await desk.store.next_due(ahead=LONG) is None
            mine.connection.commit()
            states = [await desk.state(job) for job in jobs]
            assert states == [State.QUEUED, State.QUEUED, State.SCHEDULED]
            assert sorted(await due(desk)) == ids
            assert await desk.reserve(desk.job(key="order-1")) == Held(id=ids[1])
            assert mine.orders() == 1

    async def test_jobs_are_gone_with_a_rollback(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            job = desk.job(key="order-1")
            mine.publish(job)
            mine.connection.rollback()
            assert list(await desk.store.get([job.head.id])) == [None]
            assert await due(desk) == []
            other = desk.job(key="order-1", fingerprint="b")
            assert await desk.reserve(other) == Reserved(id=other.head.id)

    async def test_jobs_are_gone_with_a_savepoint(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            kept_job, lost = desk.job(), desk.job(key="order-1")
            mine.publish(kept_job)
            mine.connection.execute("SAVEPOINT mine")
            mine.publish(lost)
            mine.connection.execute("ROLLBACK TO SAVEPOINT mine")
            mine.connection.commit()
            assert list(await desk.store.get([lost.head.id])) == [None]
            assert await due(desk) == [kept_job.head.id]

    async def test_jobs_are_gone_with_a_connection_that_is_closed(self, desk: Desk) -> None:
        job = desk.job()
        with program(desk) as mine:
            if mine is None:
                return
            mine.publish(job)
        assert list(await desk.store.get([job.head.id])) == [None]
        assert await due(desk) == []

    async def test_keys_are_held_within_the_transaction_and_after_it(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            first, second = desk.job(key="k", fingerprint="a"), desk.job(key="k", fingerprint="a")
            other = desk.job(key="k", fingerprint="b")
            assert list(mine.publish(first, second)) == [
                Reserved(id=first.head.id),
                Held(id=first.head.id),
            ]
            assert list(mine.publish(other)) == [Conflict(id=first.head.id)]
            mine.connection.commit()
            assert list(mine.publish(second)) == [Held(id=first.head.id)]
            mine.connection.rollback()
            assert await due(desk) == [first.head.id]

    async def test_a_reservation_is_not_waited_for(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            reserved = desk.job(key="order-1")
            await desk.reserve(reserved)
            (answer,) = mine.publish(desk.job(key="order-1"))
            assert isinstance(answer, Pending)
            assert (answer.id, answer.wait > ZERO) == (reserved.head.id, True)
            mine.connection.commit()
            assert await due(desk) == []

    async def test_a_lapsed_reservation_is_taken_over_in_the_transaction(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            lost = desk.job(key="order-1")
            await desk.reserve(lost, lease=desk.lease)
            await desk.lapse()
            (answer,) = mine.publish(desk.job(key="order-1"))
            assert answer == Pending(id=lost.head.id, wait=ZERO)
            same = desk.job(id=lost.head.id, key="order-1")
            assert list(mine.publish(same)) == [Reserved(id=lost.head.id)]
            mine.connection.commit()
            assert await due(desk) == [lost.head.id]

    async def test_the_queues_of_the_same_database_get_their_messages_themselves(
        self, desk: Desk
    ) -> None:
        with program(desk) as mine:
            if mine is None or (pair := await declared(desk)) is None:
                return
            store, broker = pair
            assert isinstance(store, Transactional)
            assert broker.capabilities.publish_in_transaction
            jobs = [desk.job(), desk.job(key="order-1")]
            batch = [outgoing(job) for job in jobs]
            store.join_sync(mine.connection, batch, outbox=False)
            mine.connection.rollback()
            assert await delivered(broker) == []
            await store.join(mine.connection, batch, outbox=False)
            mine.connection.commit()
            assert await delivered(broker) == [job.head.id for job in jobs]
            assert await due(desk) == []

    async def test_what_is_refused_leaves_the_transaction_as_it_was(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None or (pair := await declared(desk)) is None:
                return
            store, broker = pair
            assert isinstance(store, Transactional)
            jobs = [desk.job(key="order-1"), desk.job()]
            mine.order()
            batch = [outgoing(jobs[0]), outgoing(jobs[1], queue="nowhere")]
            with pytest.raises(PublishError) as refused:
                store.join_sync(mine.connection, batch, outbox=False)
            assert 1 in refused.value.failed
            mine.connection.commit()
            assert mine.orders() == 1
            assert list(await store.get([job.head.id for job in jobs])) == [None, None]
            assert await delivered(broker) == []

    async def test_a_success_is_recorded_with_the_commit(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            run = await desk.start(desk.job(key="order-1"), ANN)
            mine.order()
            verdict = run.verdict(State.SUCCEEDED, attempt=True, result=b'"paid"', log=["paying"])
            assert mine.finish(verdict) == State.SUCCEEDED
            assert await desk.state(run.job) == State.RUNNING
            mine.connection.commit()
            view = await desk.view(run.job)
            assert (view.state, view.attempts) == (State.SUCCEEDED, 1)
            assert (view.result, list(view.log), mine.orders()) == (b'"paid"', ["paying"], 1)
            assert await desk.finish(verdict) is None

    async def test_a_success_is_gone_with_a_rollback_and_the_job_still_held(
        self, desk: Desk
    ) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            run = await desk.start(desk.job(), ANN)
            mine.order()
            mine.finish(run.verdict(State.SUCCEEDED, result=b'"paid"'))
            mine.connection.rollback()
            assert (await desk.state(run.job), mine.orders()) == (State.RUNNING, 0)
            assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_lost_lease_records_nothing_in_the_transaction(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            zombie = await desk.start(desk.job(), ANN, lease=desk.lease)
            await desk.lapse()
            winner = await desk.start(zombie.job, BOB)
            before = await desk.view(zombie.job)
            assert mine.finish(zombie.verdict(State.SUCCEEDED, result=b'"late"')) is None
            mine.connection.commit()
            assert await desk.view(zombie.job) == before
            assert await desk.finish(winner.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_success_may_be_recorded_from_a_coroutine(self, desk: Desk) -> None:
        with program(desk) as mine:
            if mine is None:
                return
            assert isinstance(desk.store, Transactional)
            run = await desk.start(desk.job(), ANN)
            verdict = run.verdict(State.SUCCEEDED)
            assert await desk.store.join_finish(mine.connection, verdict) == State.SUCCEEDED
            mine.connection.commit()
            assert await desk.state(run.job) == State.SUCCEEDED

    async def test_a_connection_of_anything_else_is_refused(self, desk: Desk) -> None:
        if isinstance(desk.store, Transactional):
            for wrong in (object(), "a text", None):
                with pytest.raises(CapabilityError):
                    desk.store.join_sync(wrong, [kept(desk.job())], outbox=True)
                with pytest.raises(CapabilityError):
                    await desk.store.join(wrong, [kept(desk.job())], outbox=True)
                verdict = (await desk.start(desk.job(), ANN)).verdict(State.SUCCEEDED)
                with pytest.raises(CapabilityError):
                    desk.store.join_finish_sync(wrong, verdict)
                with pytest.raises(CapabilityError):
                    await desk.store.join_finish(wrong, verdict)
