"""Handlers in a PostgreSQL transaction of the program's: effect and record are one commit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres.options import read_options
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from brokerq import BrokerQ, Context, Reject, RetryPolicy, State
from brokerq.url import Url
from tests.engine.conftest import letters_of
from tests.live.postgres_programs import KINDS, schema, sqlalchemy_url
from tests.services.postgres import standing_url

__all__ = ["schema"]

AT_ONCE = RetryPolicy(max_attempts=2, initial="1ms", jitter="none")
LEASE = timedelta(milliseconds=600)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The program's own table in the store's database."""

    schema: str

    def statement(self, template: LiteralString) -> str:
        """Return a statement about the table."""
        return sql.SQL(template).format(sql.Identifier(self.schema, "effects")).as_string()

    @property
    def insert(self) -> str:
        return self.statement("INSERT INTO {} VALUES (1)")

    def run(self, template: LiteralString) -> list[Any]:
        with psycopg.connect(standing_url()) as db:
            cursor = db.execute(self.statement(template).encode())
            return cursor.fetchall() if cursor.description else []

    def effects(self) -> int:
        return len(self.run("SELECT n FROM {}"))


@pytest.fixture
def ledger(schema: str, bq: BrokerQ) -> Iterator[Ledger]:
    ledger = Ledger(read_options(Url.parse(schema)).schema)
    ledger.run("CREATE TABLE {} (n integer)")
    yield ledger
    ledger.run("DROP TABLE {}")


@pytest.fixture(params=["postgresql", "memory"])
async def bq(request: pytest.FixtureRequest, schema: str) -> AsyncIterator[BrokerQ]:
    url = schema if request.param == "postgresql" else f"memory://{uuid4()}"
    prefix = f"once-{uuid4().hex[:12]}"
    async with BrokerQ("shop", url=url, store_url=schema, prefix=prefix) as bq:
        bq.queue("default", lease=LEASE)
        await bq.open()
        yield bq


@contextmanager
def plain() -> Generator[psycopg.Connection]:
    with psycopg.connect(standing_url()) as db:
        yield db


@asynccontextmanager
async def with_async() -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(standing_url()) as db:
        yield db


@pytest.mark.parametrize("kind", KINDS)
async def test_the_commit_has_the_effect_the_result_and_the_record(
    bq: BrokerQ, ledger: Ledger, kind: str
) -> None:
    engine = create_engine(sqlalchemy_url(standing_url()))
    async_engine = create_async_engine(sqlalchemy_url(standing_url()))
    opened: dict[str, Callable[[], Any]] = {
        "psycopg": plain,
        "psycopg async": with_async,
        "sqlalchemy": sessionmaker(engine).begin,
        "sqlalchemy async": async_sessionmaker(async_engine).begin,
    }
    statement: Any = text(ledger.insert) if "sqlalchemy" in kind else ledger.insert
    if "async" in kind:

        @bq.job(name="pay", transaction=opened[kind])
        async def pay_async(ctx: Context, n: int) -> str:
            ctx.log.info("paying")
            await ctx.session.execute(statement)
            return f"paid {n}"

    else:

        @bq.job(name="pay", transaction=opened[kind])
        def pay(ctx: Context, n: int) -> str:
            ctx.session.execute(statement)
            return f"paid {n}"

    handles = [await bq.publish("pay", {"n": n}) for n in range(5)]
    await asyncio.wait_for(bq.run_worker(burst=True), 20)
    engine.dispose()
    await async_engine.dispose()
    assert {(await handle.status()).state for handle in handles} == {State.SUCCEEDED}
    assert ledger.effects() == 5
    assert [await handle.result() for handle in handles] == [f"paid {n}" for n in range(5)]
    view = await handles[0].status()
    assert [step.state for step in view.history][-2:] == [State.RUNNING, State.SUCCEEDED]
    assert view.attempts == 1


async def test_a_failure_takes_its_effect_back_and_is_retried(bq: BrokerQ, ledger: Ledger) -> None:
    attempts: list[int] = []

    @bq.job(retry=AT_ONCE, transaction=plain)
    def pay(ctx: Context) -> None:
        ctx.session.execute(ledger.insert)
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once")

    await pay.publish()
    await bq.run_worker(burst=True)
    assert (attempts, ledger.effects()) == ([1, 2], 1)


async def test_a_verdict_takes_the_effect_back_too(bq: BrokerQ, ledger: Ledger) -> None:
    @bq.job(transaction=with_async)
    async def pay(ctx: Context) -> None:
        await ctx.session.execute(ledger.insert)
        raise Reject("no")

    await pay.publish()
    await bq.run_worker(burst=True)
    assert ledger.effects() == 0
    assert [letter.reason for letter in await letters_of(bq)] == ["rejected"]


async def test_what_a_handler_publishes_is_in_the_same_commit(bq: BrokerQ, ledger: Ledger) -> None:
    @bq.job(retry=AT_ONCE, transaction=plain)
    def pay(ctx: Context) -> None:
        ctx.session.execute(ledger.insert)
        thank.options(connection=ctx.session).publish_sync(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once")

    @bq.job()
    async def thank(attempt: int) -> None:
        thanked.append(attempt)

    thanked: list[int] = []
    await pay.publish()
    await asyncio.wait_for(bq.run_worker(burst=True), 20)
    assert (thanked, ledger.effects()) == ([2], 1)


async def test_a_session_that_is_not_committed_is_a_failure(bq: BrokerQ, ledger: Ledger) -> None:
    @contextmanager
    def forgetful() -> Generator[psycopg.Connection]:
        db = psycopg.connect(standing_url())
        try:
            yield db
        finally:
            db.close()

    @bq.job(retry=RetryPolicy(max_attempts=1), transaction=forgetful)
    def pay(ctx: Context) -> None:
        ctx.session.execute(ledger.insert)

    handle = await pay.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, ledger.effects()) == (State.DEAD, 0)
    assert view.failure is not None
    assert "give one that commits" in view.failure.message


async def test_who_has_lost_the_lease_takes_its_effect_back(bq: BrokerQ, ledger: Ledger) -> None:
    stolen: list[str] = []

    @bq.job(retry=AT_ONCE, transaction=plain)
    def pay(ctx: Context) -> None:
        if not stolen:
            stolen.append(ctx.id)
            table = sql.Identifier(ledger.schema, "jobs")
            steal = sql.SQL("UPDATE {} SET fence = fence + 1, lease_until = 0 WHERE id = {}")
            with psycopg.connect(standing_url()) as thief:
                thief.execute(steal.format(table, ctx.id))
        ctx.session.execute(ledger.insert)

    handle = await pay.publish()
    await asyncio.wait_for(bq.run_worker(burst=True), 30)
    assert (await handle.status()).state is State.SUCCEEDED
    assert ledger.effects() == 1


async def test_in_a_stricter_isolation_a_renewed_lease_is_in_the_way(
    bq: BrokerQ, ledger: Ledger
) -> None:
    """The record has changed since the snapshot: nothing is done, and the attempt has failed."""

    @contextmanager
    def strict() -> Generator[psycopg.Connection]:
        with psycopg.connect(standing_url()) as db:
            db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield db

    bq.queue("strict", lease="3s")

    @bq.job(queue="strict", transaction=strict, retry=RetryPolicy(max_attempts=1))
    def pay(ctx: Context) -> None:
        ctx.session.execute(ledger.insert)
        ctx.session.execute("SELECT pg_sleep(2)")  # the renewal comes after one second

    handle = await pay.publish()
    await asyncio.wait_for(bq.run_worker(burst=True), 30)
    view = await handle.status()
    assert view.state is State.DEAD
    assert view.failure is not None
    assert "another transaction was in the way" in view.failure.message
    assert ledger.effects() == 0


KILLED = """
import asyncio, os, signal, sys
from contextlib import contextmanager
import psycopg
from brokerq import BrokerQ, Context

url, prefix, server, insert, point = sys.argv[1:]
bq = BrokerQ("shop", url=url, prefix=prefix)
bq.queue("default", lease="600ms")

def die(at):
    if at == point:
        os.kill(os.getpid(), signal.SIGKILL)

@contextmanager
def transaction():
    with psycopg.connect(server) as db:
        yield db
        die("recorded, not committed")
    die("committed")

@bq.job(transaction=transaction)
def pay(ctx: Context) -> None:
    ctx.session.execute(insert)
    die("done, not recorded")

asyncio.run(bq.run_worker(burst=True))
"""


@pytest.mark.parametrize("bq", ["postgresql"], indirect=True)
@pytest.mark.parametrize("point", ["done, not recorded", "recorded, not committed", "committed"])
async def test_killed_anywhere_the_ledger_has_one_effect(
    bq: BrokerQ, schema: str, ledger: Ledger, point: str
) -> None:
    prefix = f"killed-{uuid4().hex[:12]}"
    async with BrokerQ("shop", url=schema, prefix=prefix) as mine:
        mine.queue("default", lease=LEASE)

        @mine.job(transaction=plain)
        def pay(ctx: Context) -> None:
            ctx.session.execute(ledger.insert)

        handle = await pay.publish()
        told = [schema, prefix, standing_url(), ledger.insert, point]
        command = [sys.executable, "-c", KILLED, *told]
        killed = await asyncio.to_thread(subprocess.run, command, check=False, env=dict(os.environ))
        assert killed.returncode == -signal.SIGKILL
        assert ledger.effects() == (1 if point == "committed" else 0)
        await asyncio.wait_for(mine.run_worker(burst=True), 30)
        assert (await handle.status()).state is State.SUCCEEDED
        assert ledger.effects() == 1
