"""Handlers that work in a transaction of the program's: effect and record are one commit."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from brokerq import BrokerQ, Context, Limits, Reject, RetryPolicy, State
from brokerq.errors import CapabilityError, ConfigurationError
from tests.engine.conftest import letters_of

AT_ONCE = RetryPolicy(max_attempts=2, initial="1ms", jitter="none")
LEASE = timedelta(milliseconds=600)


class Ledger:
    """The program's own table in the store's database."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS effects (n INTEGER)")

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file)) as db, db:
            yield db

    @asynccontextmanager
    async def async_transaction(self) -> AsyncGenerator[sqlite3.Connection]:
        with self.transaction() as db:
            yield db

    def effects(self) -> list[int]:
        with closing(sqlite3.connect(self.file)) as db:
            return [n for (n,) in db.execute("SELECT n FROM effects ORDER BY n")]


@pytest.fixture(params=["sqlite:///{folder}/records.db", "sqlite:///{folder}/jobs.db", "memory://"])
async def bq(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BrokerQ]:
    url = request.param.format(folder=tmp_path)
    async with BrokerQ("shop", url=url, store_url=f"sqlite:///{tmp_path}/records.db") as bq:
        bq.queue("default", lease=LEASE)
        yield bq


@pytest.fixture
def ledger(bq: BrokerQ, tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "records.db")


def write(db: sqlite3.Connection, n: int) -> None:
    db.execute("INSERT INTO effects VALUES (?)", (n,))


@pytest.mark.parametrize("kind", ["thread", "coroutine", "coroutine, async transaction"])
async def test_the_commit_has_the_effect_the_result_and_the_record(
    bq: BrokerQ, ledger: Ledger, kind: str
) -> None:
    if kind == "thread":

        @bq.job(name="pay", transaction=ledger.transaction)
        def pay(ctx: Context, n: int) -> str:
            write(ctx.session, n)
            return f"paid {n}"

    else:
        opened: Callable[[], Any] = ledger.transaction
        if "async" in kind:
            opened = ledger.async_transaction

        @bq.job(name="pay", transaction=opened)
        async def pay_async(ctx: Context, n: int) -> str:
            ctx.log.info("paying")
            write(ctx.session, n)
            return f"paid {n}"

    handles = [await bq.publish("pay", {"n": n}) for n in range(5)]
    report = await asyncio.wait_for(bq.run_worker(burst=True), 20)
    assert report.outcomes == {"succeeded": 5}
    assert ledger.effects() == [0, 1, 2, 3, 4]
    assert [await handle.result() for handle in handles] == [f"paid {n}" for n in range(5)]
    view = await handles[0].status()
    assert [step.state for step in view.history][-2:] == [State.RUNNING, State.SUCCEEDED]
    assert view.attempts == 1


async def test_a_failure_takes_its_effect_back_and_is_retried(bq: BrokerQ, ledger: Ledger) -> None:
    attempts: list[int] = []

    @bq.job(retry=AT_ONCE, transaction=ledger.transaction)
    def pay(ctx: Context, n: int) -> None:
        write(ctx.session, n)
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once")

    await pay.publish(1)
    await bq.run_worker(burst=True)
    assert (attempts, ledger.effects()) == ([1, 2], [1])


async def test_a_verdict_takes_the_effect_back_too(bq: BrokerQ, ledger: Ledger) -> None:
    @bq.job(transaction=ledger.transaction)
    async def pay(ctx: Context) -> None:
        write(ctx.session, 1)
        raise Reject("no")

    await pay.publish()
    await bq.run_worker(burst=True)
    assert ledger.effects() == []
    assert [letter.reason for letter in await letters_of(bq)] == ["rejected"]


async def test_a_session_that_is_not_committed_is_a_failure_and_no_lost_job(
    bq: BrokerQ, ledger: Ledger
) -> None:
    @contextmanager
    def forgetful() -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(ledger.file)) as db:
            yield db

    @bq.job(retry=RetryPolicy(max_attempts=1), transaction=forgetful)
    def pay(ctx: Context) -> None:
        write(ctx.session, 1)

    handle = await pay.publish()
    await bq.run_worker(burst=True)
    assert ledger.effects() == []
    view = await handle.status()
    assert view.state is State.DEAD
    assert view.failure is not None
    assert "give one that commits" in view.failure.message


async def test_a_session_of_sqlalchemy_carries_effect_and_record(
    bq: BrokerQ, ledger: Ledger
) -> None:
    engine = create_engine(f"sqlite:///{ledger.file}")

    @bq.job(transaction=sessionmaker(engine).begin)
    def pay(ctx: Context, n: int) -> int:
        ctx.session.execute(text("INSERT INTO effects VALUES (:n)"), {"n": n})
        return n

    handle = await pay.publish(7)
    await bq.run_worker(burst=True)
    engine.dispose()
    assert (ledger.effects(), await handle.result()) == ([7], 7)


async def test_who_has_lost_the_lease_takes_its_effect_back(
    tmp_path: Path, ledger: Ledger, bq: BrokerQ
) -> None:
    """The store's lease is lost while the handler runs: here by a record that another one takes."""

    @bq.job(retry=AT_ONCE, transaction=ledger.transaction)
    def pay(ctx: Context, n: int) -> None:
        if not (tmp_path / "stolen").exists():
            (tmp_path / "stolen").touch()
            with closing(sqlite3.connect(ledger.file)) as thief, thief:
                thief.execute("UPDATE brokerq_jobs SET fence = fence + 1, lease_until = 0")
        write(ctx.session, n)

    handle = await pay.publish(1)
    await asyncio.wait_for(bq.run_worker(burst=True), 30)
    assert (await handle.status()).state is State.SUCCEEDED
    assert ledger.effects() == [1]


def test_what_cannot_work_is_refused_where_it_is_declared(tmp_path: Path) -> None:
    bq = BrokerQ("shop", url="memory://")
    transaction = Ledger(tmp_path / "x.db").transaction

    async def plain(n: int) -> None: ...
    def asks(ctx: Context) -> None: ...

    with pytest.raises(ConfigurationError, match="ctx: Context"):
        bq.job(transaction=transaction)(plain)
    with pytest.raises(ConfigurationError, match="child process"):
        bq.job(transaction=transaction, run_in="process")(letterless)
    with pytest.raises(ConfigurationError, match="cannot run while the store is away"):
        bq.job(transaction=transaction, on_store_error="run")(asks)


def letterless(ctx: Context) -> None: ...


@pytest.mark.parametrize("store_url", ["none://", "memory://"])
async def test_a_store_that_cannot_join_refuses_the_worker(tmp_path: Path, store_url: str) -> None:
    async with BrokerQ("shop", url="memory://", store_url=store_url) as bq:

        @bq.job(transaction=Ledger(tmp_path / "x.db").transaction)
        def pay(ctx: Context) -> None: ...

        with pytest.raises(CapabilityError, match="job 'pay' records its success in a database"):
            await bq.run_worker(burst=True)


KILLED = """
import os, signal, sqlite3, sys
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from brokerq import BrokerQ, Context

file, point = sys.argv[1:]
bq = BrokerQ("shop", url="sqlite:///" + str(Path(file).with_name("jobs.db")),
             store_url="sqlite:///" + file)
bq.queue("default", lease="600ms")

def die(at):
    if at == point:
        os.kill(os.getpid(), signal.SIGKILL)

@contextmanager
def transaction():
    with closing(sqlite3.connect(file)) as db:
        with db:
            yield db
            die("recorded, not committed")
        die("committed")

@bq.job(transaction=transaction)
def pay(ctx: Context, n: int) -> None:
    ctx.session.execute("INSERT INTO effects VALUES (?)", (n,))
    die("done, not recorded")

import asyncio
asyncio.run(bq.run_worker(burst=True))
"""


@pytest.mark.parametrize("point", ["done, not recorded", "recorded, not committed", "committed"])
async def test_killed_anywhere_the_ledger_has_one_effect(tmp_path: Path, point: str) -> None:
    file = tmp_path / "records.db"
    url = f"sqlite:///{tmp_path}/jobs.db"
    limits = Limits()
    async with BrokerQ("shop", url=url, store_url=f"sqlite:///{file}", limits=limits) as bq:
        bq.queue("default", lease=LEASE)
        ledger = Ledger(file)

        @bq.job(transaction=ledger.transaction)
        def pay(ctx: Context, n: int) -> None:
            write(ctx.session, n)

        handle = await pay.publish(1)
        command = [sys.executable, "-c", KILLED, str(file), point]
        killed = await asyncio.to_thread(subprocess.run, command, check=False, env=dict(os.environ))
        assert killed.returncode == -signal.SIGKILL
        assert ledger.effects() == ([1] if point == "committed" else [])
        await asyncio.wait_for(bq.run_worker(burst=True), 30)
        assert (await handle.status()).state is State.SUCCEEDED
        assert ledger.effects() == [1]
