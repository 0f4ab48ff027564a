"""Publishing within a transaction of the program's own PostgreSQL: with its commit, or not."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres.options import read_options
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from brokerq import BrokerQ, State
from brokerq.errors import (
    CapabilityError,
    ConfigurationError,
    KeyConflictError,
    NotFoundError,
    PublishError,
    RefusedError,
)
from brokerq.url import Url
from tests.engine.conftest import eventually, working
from tests.live.postgres_programs import (
    Place,
    Program,
    bq,
    db,
    declare,
    mine,
    place,
    program,
    schema,
    ship,
    sqlalchemy_url,
    waiting,
)
from tests.services.postgres import standing_url, with_parameters

__all__ = ["bq", "db", "mine", "place", "schema"]


async def test_a_job_is_published_with_the_commit(bq: BrokerQ, place: Place, mine: Program) -> None:
    await bq.open()
    await mine.execute(place.insert)
    handle = await ship(bq, mine.given).publish("o-1")
    with pytest.raises(NotFoundError):
        await handle.status()
    assert await waiting(bq) == 0
    await mine.commit()
    assert (await handle.status()).state == State.QUEUED
    assert (await waiting(bq), place.count()) == (1, 1)
    await bq.run_worker(burst=True)
    assert await handle.result() == "o-1: 1"
    assert (await ship(bq).publish("o-1")).duplicate


async def test_a_rollback_takes_it_back(bq: BrokerQ, mine: Program) -> None:
    await bq.open()
    handle = await ship(bq, mine.given).publish("o-1")  # begins the transaction
    await mine.rollback()
    with pytest.raises(NotFoundError):
        await handle.status()
    assert await waiting(bq) == 0
    assert not (await ship(bq).publish("o-1", 2)).duplicate


async def test_a_savepoint_takes_it_back(bq: BrokerQ, mine: Program) -> None:
    await bq.open()
    kept = await ship(bq, mine.given).publish("o-1")
    await mine.execute("SAVEPOINT half")
    await ship(bq, mine.given).publish("o-2")
    await mine.execute("ROLLBACK TO SAVEPOINT half")
    await mine.commit()
    assert await waiting(bq) == 1
    assert (await kept.status()).state == State.QUEUED


async def test_what_is_refused_leaves_the_transaction_as_it_was(
    bq: BrokerQ, place: Place, mine: Program
) -> None:
    await bq.open()
    await mine.execute(place.insert)
    first = await ship(bq, mine.given).publish("o-1")
    again = await ship(bq, mine.given).publish("o-1")
    assert (again.id, again.duplicate) == (first.id, True)
    with pytest.raises(KeyConflictError):
        await ship(bq, mine.given).publish("o-1", 2)
    await ship(bq, mine.given).publish("o-2")
    await mine.commit()
    assert (await waiting(bq), place.count()) == (2, 1)


async def test_nested_transactions_of_sqlalchemy_are_savepoints(bq: BrokerQ) -> None:
    await bq.open()
    engine = create_async_engine(sqlalchemy_url(standing_url()))
    async with AsyncSession(engine) as session, session.begin():
        await ship(bq, session).publish("o-1")
        nested = await session.begin_nested()
        await ship(bq, session).publish("o-2")
        await nested.rollback()
        await ship(bq, await session.connection()).publish("o-3")
    await engine.dispose()
    assert await waiting(bq) == 2


async def test_code_that_is_not_async_publishes_in_its_own_thread(bq: BrokerQ) -> None:
    await bq.open()

    def order() -> str:
        with ConnectionPool(standing_url(), min_size=1, open=True) as pool:
            with pool.connection() as connection, connection.transaction():
                ship(bq, connection).publish_sync("o-1")
            engine = create_engine(sqlalchemy_url(standing_url()))
            with engine.begin() as other:
                handle = ship(bq, other).publish_sync("o-2")
            engine.dispose()
        return str(handle.id)

    job_id = await asyncio.to_thread(order)
    assert await waiting(bq) == 2
    await bq.run_worker(burst=True)
    assert await bq.handle(job_id).result() == "o-2: 1"


async def test_an_asynchronous_connection_needs_the_asynchronous_method(bq: BrokerQ) -> None:
    await bq.open()
    async with program("psycopg async", standing_url()) as mine:
        with pytest.raises(CapabilityError, match="use `await publish"):
            ship(bq, mine.given).publish_sync("o-1")
    async with program("sqlalchemy async", standing_url()) as mine:
        with pytest.raises(ConfigurationError, match="use `await publish"):
            ship(bq, mine.given).publish_sync("o-1")


async def test_a_worker_is_woken_by_the_commit(mine: Program, schema: str) -> None:
    rarely = with_parameters(schema, poll="60s")
    async with BrokerQ("shop", url=rarely, prefix=f"tx-{uuid4().hex[:12]}") as bq:
        declare(bq)
        async with working(bq):
            await eventually(lambda: _listens(schema))
            handle = await ship(bq, mine.given).publish("o-1")
            await mine.commit()
            assert await handle.result("20s") == "o-1: 1"


def _listens(schema: str) -> bool:
    """Tell whether somebody listens to the channel of that schema."""
    channel = read_options(Url.parse(schema)).channel
    with psycopg.connect(standing_url()) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query = %s"
        row = connection.execute(query, (f'LISTEN "{channel}"',)).fetchone()
    return row is not None and row[0] > 0


async def test_a_delay_counts_from_the_publish_not_from_the_transaction(
    bq: BrokerQ, place: Place, db: psycopg.Connection
) -> None:
    await bq.open()
    db.execute("SELECT pg_sleep(0.6)")
    handle = await ship(bq, db, delay="500ms").publish("o-1")
    db.commit()
    assert (await handle.status()).state == State.SCHEDULED
    [stats] = await bq.queues.stats(["default"])
    assert (stats.ready, stats.delayed) == (0, 1)
    await bq.run_worker(burst=True)
    assert await handle.result() == "o-1: 1"


async def test_a_connection_that_commits_each_statement_needs_a_transaction(bq: BrokerQ) -> None:
    await bq.open()
    with psycopg.connect(standing_url(), autocommit=True) as db:
        with pytest.raises(RefusedError, match="begin one first"):
            await ship(bq, db).publish("o-1")
        with db.transaction():
            await ship(bq, db).publish("o-1")
        with db.transaction():
            assert (await ship(bq, db).publish("o-1")).duplicate
    assert await waiting(bq) == 1


async def test_a_transaction_that_has_failed_is_refused(
    bq: BrokerQ, db: psycopg.Connection
) -> None:
    await bq.open()
    with pytest.raises(psycopg.errors.UndefinedTable):
        db.execute("SELECT * FROM nowhere_at_all")
    with pytest.raises(RefusedError, match="roll it back first"):
        await ship(bq, db).publish("o-1")
    db.rollback()
    await ship(bq, db).publish("o-1")
    db.commit()
    assert await waiting(bq) == 1


async def test_a_connection_that_is_closed_is_refused(bq: BrokerQ, db: psycopg.Connection) -> None:
    await bq.open()
    db.close()
    with pytest.raises(PublishError, match="closed") as refused:
        await ship(bq, db).publish("o-1")
    assert refused.value.failed == (0,)


async def test_what_the_program_has_set_does_not_matter(bq: BrokerQ, place: Place) -> None:
    class Shout(Loader):
        def load(self, data: Buffer) -> str:
            return bytes(data).decode().upper()

    await bq.open()
    connection: psycopg.Connection[Any] = psycopg.Connection.connect(
        standing_url(), row_factory=cast("Any", dict_row), cursor_factory=psycopg.ClientCursor
    )
    with connection as db:
        db.adapters.register_loader("text", Shout)
        db.execute("SET search_path TO pg_temp")
        db.execute("SET timezone TO 'Asia/Kathmandu'")
        db.execute("SET datestyle TO 'German, DMY'")
        db.execute("SET intervalstyle TO 'sql_standard'")
        await ship(bq, db).publish("o-1")
        assert (await ship(bq, db).publish("o-1")).duplicate
        assert db.execute("SELECT 'text'::text AS a").fetchone() == {"a": "TEXT"}
    assert await waiting(bq) == 1


async def test_a_program_may_send_without_waiting(
    bq: BrokerQ, place: Place, db: psycopg.Connection
) -> None:
    await bq.open()
    insert = place.insert.encode()
    with db.pipeline():
        db.execute(insert)
        await ship(bq, db).publish("o-1")
        with pytest.raises(KeyConflictError):
            await ship(bq, db).publish("o-1", 2)
        db.execute(insert)
        await ship(bq, db).publish("o-2")
    db.commit()
    assert (await waiting(bq), place.count()) == (2, 2)


async def test_another_encoding_is_refused(bq: BrokerQ) -> None:
    await bq.open()
    with (
        psycopg.connect(standing_url(), client_encoding="latin1") as db,
        pytest.raises(CapabilityError, match="client_encoding=utf8"),
    ):
        await ship(bq, db).publish("o-1")


async def test_another_database_is_refused(bq: BrokerQ) -> None:
    await bq.open()
    with (
        psycopg.connect(standing_url(), dbname="template1") as db,
        pytest.raises(CapabilityError, match="to database 'template1'"),
    ):
        await ship(bq, db).publish("o-1")
    with pytest.raises(CapabilityError, match=r"psycopg 3 connection.*not of a builtins\.str"):
        await ship(bq, "a text").publish("o-1")


async def test_a_user_without_rights_is_told_and_may_go_on(
    bq: BrokerQ, place: Place, db: psycopg.Connection
) -> None:
    await bq.open()
    db.execute("SET LOCAL ROLE pg_monitor")
    with pytest.raises(PublishError, match="rights that are needed") as refused:
        await ship(bq, db).publish("o-1")
    assert refused.value.failed == (0,)
    db.execute("RESET ROLE")
    await ship(bq, db).publish("o-1")
    db.commit()
    assert await waiting(bq) == 1


async def test_a_transaction_that_only_reads_is_refused(
    bq: BrokerQ, db: psycopg.Connection
) -> None:
    await bq.open()
    db.read_only = True
    with pytest.raises(PublishError, match="can only be read"):
        await ship(bq, db).publish("o-1")
