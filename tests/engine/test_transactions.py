"""Publishing within a transaction of the program's own database: with its commit, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from brokerq import BrokerQ, State
from brokerq.duration import ZERO
from brokerq.engine import relay
from brokerq.errors import (
    CapabilityError,
    ConfigurationError,
    KeyConflictError,
    NotFoundError,
    PublishError,
    RefusedError,
    UnknownQueueError,
)
from brokerq.options import PublishOptions
from brokerq.publishing import prepare
from brokerq.requests import request_for
from brokerq.store import NewJob
from tests.engine.conftest import eventually, working

# Where the messages go: to their queue in the same file, or to the outbox for another broker.
BROKERS = {
    "one file": "sqlite:///{folder}/records.db",
    "two files": "sqlite:///{folder}/jobs.db",
    "memory": "memory://",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture(params=BROKERS)
async def bq(
    request: pytest.FixtureRequest, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setattr(relay, "POLL", 0.02)
    name: str = request.param
    url = BROKERS[name].format(folder=tmp_path)
    async with BrokerQ("shop", url=url, store_url=f"sqlite:///{file}") as bq:
        yield bq


@pytest.fixture
def db(bq: BrokerQ, file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file)) as db:
        with db:
            db.execute("CREATE TABLE orders (id TEXT)")
        yield db


def declare(bq: BrokerQ) -> Any:
    @bq.job(idempotency_key="order")
    async def ship(order: str, boxes: int = 1) -> str:
        return f"{order}: {boxes}"

    return ship


async def waiting(bq: BrokerQ) -> int:
    [stats] = await bq.queues.stats(["default"])
    return stats.ready + stats.delayed


async def test_a_job_is_published_with_the_commit(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq)
    await bq.open()
    with db:
        db.execute("INSERT INTO orders VALUES ('o-1')")
        handle = await ship.options(connection=db).publish("o-1")
        with pytest.raises(NotFoundError):
            await handle.status()
        assert await waiting(bq) == 0
    assert (await handle.status()).state == State.QUEUED
    assert await waiting(bq) == 1
    await bq.run_worker(burst=True)
    assert await handle.result() == "o-1: 1"
    assert (await ship.publish("o-1")).duplicate


async def test_a_rollback_takes_it_back(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq)
    await bq.open()
    handle = await ship.options(connection=db).publish("o-1")
    db.rollback()
    with pytest.raises(NotFoundError):
        await handle.status()
    assert await waiting(bq) == 0
    assert not (await ship.publish("o-1", 2)).duplicate


async def test_a_savepoint_takes_it_back(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq).options(connection=db)
    await bq.open()
    with db:
        kept = await ship.publish("o-1")
        db.execute("SAVEPOINT half")
        await ship.publish("o-2")
        db.execute("ROLLBACK TO half")
    assert await waiting(bq) == 1
    assert (await kept.status()).state == State.QUEUED


async def test_it_works_from_code_that_is_not_async(bq: BrokerQ, file: Path) -> None:
    ship = declare(bq)

    def order() -> str:
        bq.open_sync()
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("CREATE TABLE orders (id TEXT)")
            first = ship.options(connection=db).publish_sync("o-1")
            many = ship.options(connection=db, delay="10ms")
            many.publish_many_sync([many.arguments(f"o-{n}") for n in (2, 3)])
            by_name = bq.publish_sync("ship", {"order": "o-1"}, connection=db)
            assert (by_name.id, by_name.duplicate) == (first.id, True)
        return by_name.id

    job_id = await asyncio.to_thread(order)
    assert await waiting(bq) == 3
    await bq.run_worker(burst=True)
    assert await bq.handle(job_id).result() == "o-1: 1"


async def test_keys_hold_within_the_transaction(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq)
    before = await ship.publish("o-1")
    inside = ship.options(connection=db)
    with db:
        again = await inside.publish("o-1")
        assert (again.id, again.duplicate) == (before.id, True)
        with pytest.raises(KeyConflictError):
            await inside.publish("o-1", 2)
        first, second = await inside.publish_many([inside.arguments("o-2")] * 2)
        assert (second.id, second.duplicate) == (first.id, True)
    assert await waiting(bq) == 2


async def test_a_delay_counts_from_the_publish(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq)
    await bq.open()
    with db:
        handle = await ship.options(connection=db, delay="1h").publish("o-1")
    assert (await handle.status()).state == State.SCHEDULED
    await handle.cancel()
    with db:
        soon = await ship.options(connection=db, delay="100ms").publish("o-2")
    async with working(bq):
        assert await soon.result("30s") == "o-2: 1"


async def test_a_worker_that_runs_learns_of_it(bq: BrokerQ, db: sqlite3.Connection) -> None:
    ship = declare(bq)
    async with working(bq):
        await bq.open()
        with db:
            handle = await ship.options(connection=db).publish("o-1")
        assert await handle.result("30s") == "o-1: 1"


async def lost(bq: BrokerQ) -> NewJob:
    """Return the job as a publisher has reserved it that has not gone on."""
    runtime = await bq.jobs.session.call(bq.jobs.session.runtime())
    definition = bq.registry.job("ship")
    payload = definition.signature.encode(("o-1",), {})
    request = request_for(definition, payload, PublishOptions())
    can, now = runtime.broker.capabilities, runtime.clock.now()
    [parcel] = prepare([request], bq.registry, can, new_id=lambda: "lost-1", now=now, outbox=True)
    return parcel.new


async def test_a_reservation_is_not_waited_for_unless_it_has_lapsed(
    bq: BrokerQ, db: sqlite3.Connection
) -> None:
    ship = declare(bq)
    reserved = await lost(bq)
    store: Any = (await bq.jobs.session.call(bq.jobs.session.runtime())).store
    await store.reserve([reserved], owner="lost-1", lease=relay.LEASE)
    inside = ship.options(connection=db)
    with pytest.raises(PublishError, match="roll back, and try again") as refused:
        await inside.publish_many([inside.arguments("o-2"), inside.arguments("o-1")])
    assert refused.value.failed == (1,)
    db.rollback()
    await store.reserve([reserved], owner="lost-1", lease=ZERO)
    with db:
        handle = await inside.publish("o-1")
    assert (handle.id, handle.duplicate) == ("lost-1", False)
    await bq.run_worker(burst=True)
    assert await handle.result() == "o-1: 1"


async def test_nobody_is_told_before_it_is_committed(bq: BrokerQ, db: sqlite3.Connection) -> None:
    told: list[str] = []
    ship = declare(bq)

    @bq.on("published")
    def note(event: Any) -> None:
        told.append(event.job_id)

    await bq.open()
    with db:
        await ship.options(connection=db).publish("o-1")
    assert told == []


async def test_a_sqlalchemy_session_or_connection_is_recognised(bq: BrokerQ, file: Path) -> None:
    ship = declare(bq)
    await bq.open()
    engine = create_engine(f"sqlite:///{file}")
    with Session(engine) as session, session.begin():
        session.execute(text("CREATE TABLE orders (id TEXT)"))
        handle = await ship.options(connection=session).publish("o-1")
    with engine.connect() as connection:
        ship.options(connection=connection).publish_sync("o-2")
        connection.rollback()
        with connection.begin():
            ship.options(connection=connection).publish_sync("o-3")
    engine.dispose()
    assert await waiting(bq) == 2
    assert (await handle.status()).state == State.QUEUED


async def test_an_asynchronous_session_needs_the_asynchronous_method(bq: BrokerQ) -> None:
    ship = declare(bq)
    await bq.open()
    with pytest.raises(ConfigurationError, match=r"use `await publish"):
        ship.options(connection=AsyncSession()).publish_sync("o-1")


async def test_the_app_must_be_open_before_the_transaction(
    bq: BrokerQ, db: sqlite3.Connection
) -> None:
    """Opening it, or declaring a queue, writes to what the transaction may have locked."""
    ship = declare(bq)  # a new queue
    with pytest.raises(ConfigurationError, match="the app is not open, or a queue was declared"):
        await ship.options(connection=db).publish("o-1")
    await bq.close()
    with pytest.raises(ConfigurationError, match="open_sync"):
        ship.options(connection=db).publish_sync("o-1")


async def test_a_queue_that_is_not_declared_is_refused_as_ever(
    bq: BrokerQ, db: sqlite3.Connection
) -> None:
    ship = declare(bq)
    await bq.open()
    with pytest.raises(UnknownQueueError):
        await ship.options(connection=db, queue="nowhere").publish("o-1")


def test_inline_mode_runs_the_job_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    ship = declare(BrokerQ("shop", url="memory://"))
    with closing(sqlite3.connect(":memory:")) as db:
        assert ship.options(connection=db).publish_sync("o-1").result_sync() == "o-1: 1"


@pytest.mark.parametrize("store", [None, "none://"])
async def test_a_store_that_cannot_join_is_refused(store: str | None) -> None:
    async with BrokerQ("shop", url="memory://", store_url=store) as bq:
        ship = declare(bq)
        await bq.open()
        with closing(sqlite3.connect(":memory:")) as db:
            with pytest.raises(CapabilityError, match="can join a transaction of yours"):
                await ship.options(connection=db).publish("o-1")
            with pytest.raises(CapabilityError, match="BROKERQ_STORE_URL"):
                ship.options(connection=db).publish_sync("o-1")


async def test_a_connection_elsewhere_is_refused(bq: BrokerQ, tmp_path: Path) -> None:
    ship = declare(bq)
    await bq.open()
    for place, named in ((":memory:", "in memory"), (tmp_path / "mine.db", "mine.db")):
        with (
            closing(sqlite3.connect(place)) as db,
            pytest.raises(CapabilityError, match=f"{named}.*records.db"),
        ):
            await ship.options(connection=db).publish("o-1")
    with pytest.raises(CapabilityError, match="not of a builtins"):
        await ship.options(connection="a text").publish("o-1")


async def test_a_connection_that_commits_each_statement_needs_a_transaction(
    bq: BrokerQ, file: Path
) -> None:
    ship = declare(bq)
    await bq.open()
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        with pytest.raises(RefusedError, match="begin one first"):
            await ship.options(connection=db).publish("o-1")
        assert await waiting(bq) == 0
        db.execute("BEGIN")
        await ship.options(connection=db).publish("o-1")
        db.execute("COMMIT")
    assert await waiting(bq) == 1


async def test_what_the_connection_makes_of_rows_does_not_matter(
    bq: BrokerQ, db: sqlite3.Connection
) -> None:
    def as_dict(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> dict[str, object]:
        return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}

    ship = declare(bq)
    await bq.open()
    db.row_factory, db.text_factory = as_dict, bytes
    with db:
        await ship.options(connection=db).publish("o-1")
        assert (await ship.options(connection=db).publish("o-1")).duplicate
    assert db.row_factory is as_dict
    assert db.execute("SELECT 'text' AS a").fetchall() == [{"a": b"text"}]


async def test_a_connection_of_another_thread_is_refused(
    bq: BrokerQ, db: sqlite3.Connection
) -> None:
    ship = declare(bq)
    await bq.open()
    inside = ship.options(connection=db)
    with pytest.raises(PublishError, match="can only be used in that same thread"):
        await asyncio.to_thread(inside.publish_sync, "o-1")


async def test_a_locked_file_fails_the_publish_and_nothing_else(
    bq: BrokerQ, db: sqlite3.Connection, file: Path
) -> None:
    ship = declare(bq)
    await bq.open()
    with closing(sqlite3.connect(file, timeout=0.05)) as late:
        db.execute("INSERT INTO orders VALUES ('o-1')")
        with pytest.raises(PublishError, match="locked") as refused:
            await ship.options(connection=late).publish("o-2")
        assert refused.value.failed == (0,)
        db.commit()
        with late:
            handle = await ship.options(connection=late).publish("o-2")
    await eventually(lambda: _is_queued(bq, handle.id))


async def _is_queued(bq: BrokerQ, job_id: str) -> bool:
    return (await bq.jobs.status(job_id)).state == State.QUEUED
