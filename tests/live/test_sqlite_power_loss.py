"""What a host may forget when it fails: who held what since the last commit that was synced."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from brokerq_sqlite import SqliteBroker, SqliteStore, connect
from brokerq_sqlite.session import Options, Session

from brokerq.broker import Ack, Delivery, Lane, Outgoing, QueueSpec, Release
from brokerq.clock import SystemClock
from brokerq.errors import StoreUnavailableError
from brokerq.message import Message
from brokerq.record import Busy, Claimed, Duplicate, Recorded
from brokerq.records import ClaimAnswer, State
from brokerq.store import Claim, Finish, Holding, NewJob
from brokerq.wire import Head, read_head, write_headers

LANE = Lane(queue="jobs")
LEASE = timedelta(minutes=1)
WINDOW = timedelta(days=1)


class File(NamedTuple):
    broker: SqliteBroker
    store: SqliteStore


@asynccontextmanager
async def opened(path: Path, *, boot: str) -> AsyncGenerator[File]:
    options = Options(path=path, lock_timeout=5.0, boot=partial(str, boot))
    backend = connect(options, prefix="shop", clock=SystemClock())
    broker, store = backend.broker, backend.store
    assert isinstance(broker, SqliteBroker)
    assert isinstance(store, SqliteStore)
    await broker.open()
    await store.open()
    try:
        await broker.declare([QueueSpec(name=LANE.queue)])
        yield File(broker, store)
    finally:
        await store.close()
        await broker.close()


def job(number: int, *, key: str | None = None) -> tuple[NewJob, Outgoing]:
    head = Head(id=f"job-{number}", job="charge", first_at=datetime.now(UTC), key=key)
    message = Message(headers=write_headers(head), body=b"{}")
    new = NewJob(head=head, message=message, queue=LANE.queue, level=LANE.level)
    return new, Outgoing(lane=LANE, message=message, id=head.id)


def wanted(delivery: Delivery) -> Claim:
    message = delivery.message
    return Claim(NewJob(read_head(message), message, LANE.queue, LANE.level), "worker", LEASE)


async def claim(store: SqliteStore, delivery: Delivery) -> ClaimAnswer:
    (answer,) = await store.claim([wanted(delivery)])
    return answer


def synced(path: Path) -> Callable[[Path], None]:
    """Remember what the disk has for certain; call the answer to get a file with just that."""
    size = path.with_name(f"{path.name}-wal").stat().st_size

    def leave_only_that(target: Path) -> None:
        shutil.copy(path, target)
        log = path.with_name(f"{path.name}-wal").read_bytes()[:size]
        target.with_name(f"{target.name}-wal").write_bytes(log)

    return leave_only_that


async def test_a_claim_that_was_lost_with_the_host_is_made_again_with_a_larger_fence(
    tmp_path: Path,
) -> None:
    path, after = tmp_path / "jobs.db", tmp_path / "after.db"
    async with opened(path, boot="one") as file:
        await file.store.publish_recorded([job(1), job(2)])
        async with file.broker.consume(LANE, prefetch=2) as consumer:
            first, second = await consumer.receive(2)
            done = await claim(file.store, first)
            assert isinstance(done, Claimed)
            holding = Holding(first.id or "", "worker", done.fence)
            await file.store.finish([Finish(holding, State.SUCCEEDED, window=WINDOW)])
            remember = synced(path)
            assert await consumer.settle([(first, Ack())]) == [True]
            lost = await claim(file.store, second)
            assert isinstance(lost, Claimed)
            remember(after)
    async with (
        opened(after, boot="two") as file,
        file.broker.consume(LANE, prefetch=2) as consumer,
    ):
        first, second = await consumer.receive(2)
        again = await claim(file.store, second)
        assert isinstance(again, Claimed)
        assert again.fence > lost.fence
        assert again.crashes == 0
        assert isinstance(await claim(file.store, first), Recorded)


async def test_what_must_not_be_lost_waits_for_the_disk_and_leases_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    commit = Session.commit

    def spy(session: Session) -> None:
        """Note whether the commit syncs: in FULL, and with something written to the log."""
        (level,) = session.db.execute("PRAGMA synchronous").fetchone()
        log = session.path.with_name(f"{session.path.name}-wal")
        before = log.read_bytes()
        commit(session)
        synced.append(level == 2 and log.read_bytes() != before)

    monkeypatch.setattr(Session, "commit", spy)

    def waited() -> list[bool]:
        found = list(synced)
        synced.clear()
        return found

    async with opened(tmp_path / "jobs.db", boot="one") as file:
        waited()
        await file.store.publish_recorded([job(1, key="k"), job(2)])
        await file.broker.publish([job(3, key="k")[1]])
        assert waited() == [True, True], "publishing"
        async with file.broker.consume(LANE, prefetch=3) as consumer:
            first, second, duplicate = await consumer.receive(3)
            answer = await claim(file.store, first)
            assert isinstance(answer, Claimed)
            await consumer.extend([first])
            assert waited() == [False] * 3, "leases"
            holding = Holding("job-1", "worker", answer.fence)
            await file.store.renew([holding], lease=LEASE)
            assert waited() == [True], "the first sign of life of a run"
            assert isinstance(await claim(file.store, duplicate), Duplicate)
            assert waited() == [False, True], "a claim that ends a job"
            await file.store.finish([Finish(holding, State.SUCCEEDED, window=WINDOW)])
            assert waited() == [True], "the record of an end"
            await consumer.settle([(first, Ack())])
            assert waited() == [False], "what is recorded as done is only removed"
            await consumer.settle([(duplicate, Ack()), (second, Release(delay=LEASE))])
            assert waited() == [True], "a message that waits for its time"


async def test_a_claim_is_told_though_what_it_ended_could_not_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was never told of a claim would never run its job, and be blamed for a crash."""
    async with opened(tmp_path / "jobs.db", boot="one") as file:
        await file.store.publish_recorded([job(1, key="k"), job(2)])
        await file.broker.publish([job(3, key="k")[1]])
        begin = Session.begin

        def refuse(session: Session, *, durable: bool = True) -> None:
            if durable:
                raise StoreUnavailableError("the file is locked")
            begin(session, durable=durable)

        async with file.broker.consume(LANE, prefetch=3) as consumer:
            deliveries = await consumer.receive(3)
            monkeypatch.setattr(Session, "begin", refuse)
            answers = await file.store.claim([wanted(delivery) for delivery in deliveries])
            assert [type(answer) for answer in answers] == [Claimed, Claimed, Busy]
            monkeypatch.undo()
            assert isinstance(await claim(file.store, deliveries[2]), Recorded)
