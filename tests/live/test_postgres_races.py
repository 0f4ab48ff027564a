"""Programs whose transactions meet: who waits for whom, and who is told to try again."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from brokerq import BrokerQ
from brokerq.errors import KeyConflictError, PublishError
from tests.engine.conftest import eventually
from tests.live.postgres_programs import (
    Program,
    bq,
    db,
    declare,
    mine,
    place,
    program,
    schema,
    ship,
    somebody_waits,
    waiting,
)
from tests.services.postgres import standing_url, with_parameters

__all__ = ["bq", "db", "mine", "place", "schema"]


async def test_a_commit_under_way_with_the_same_key_is_waited_for(
    bq: BrokerQ, mine: Program, schema: str
) -> None:
    await bq.open()
    first = await ship(bq, mine.given).publish("o-1")
    second = asyncio.create_task(ship(bq).publish("o-1"))  # beside the transaction
    await eventually(lambda: somebody_waits(schema))
    await mine.commit()
    assert (await second).id == first.id
    assert (await second).duplicate
    assert await waiting(bq) == 1


async def test_a_rollback_under_way_lets_the_next_one_have_the_key(
    bq: BrokerQ, schema: str
) -> None:
    await bq.open()
    async with (
        program("psycopg async", standing_url()) as mine,
        program("psycopg async", standing_url()) as other,
    ):
        await ship(bq, mine.given).publish("o-1")
        second = asyncio.create_task(ship(bq, other.given).publish("o-1", 2))
        await eventually(lambda: somebody_waits(schema))
        await mine.rollback()
        assert not (await second).duplicate
        await other.commit()
    await bq.run_worker(burst=True)
    assert await (await second).result() == "o-1: 2"


async def test_who_waits_for_itself_is_told_in_time(schema: str) -> None:
    """No deadlock that the database could see: one of both waits in the program."""
    url = with_parameters(schema, lock_timeout="200ms")
    async with BrokerQ("shop", url=url, prefix=f"tx-{uuid4().hex[:12]}") as bq:
        declare(bq)
        await bq.open()
        with psycopg.connect(standing_url()) as one, psycopg.connect(standing_url()) as two:
            await ship(bq, one).publish("o-1")
            with pytest.raises(PublishError, match="locked by somebody else") as refused:
                await ship(bq, two).publish("o-1")
            assert refused.value.failed == (0,)
            assert two.info.transaction_status == TransactionStatus.INTRANS
            assert two.execute("SHOW lock_timeout").fetchone() == ("0",)
            await ship(bq, two).publish("o-2")
            assert two.execute("SHOW lock_timeout").fetchone() == ("0",)
            two.execute("SET lock_timeout = '50ms'")
            with pytest.raises(PublishError, match="locked by somebody else"):
                await ship(bq, two).publish("o-1")
            assert two.execute("SHOW lock_timeout").fetchone() == ("50ms",)
        assert await waiting(bq) == 2


async def test_the_program_s_own_statement_timeout_ends_a_wait_for_a_key(
    bq: BrokerQ, mine: Program, db: psycopg.Connection
) -> None:
    """What it has done before is kept, and it may go on."""
    await bq.open()
    await ship(bq, db).publish("o-1")
    await ship(bq, mine.given).publish("o-2")
    await mine.execute("SET LOCAL statement_timeout = '200ms'")
    with pytest.raises(PublishError, match="took too long for a statement") as refused:
        await ship(bq, mine.given).publish("o-1", 2)
    assert refused.value.failed == (0,)
    await ship(bq, mine.given).publish("o-3")
    await mine.commit()
    db.rollback()
    assert await waiting(bq) == 2


async def test_of_two_that_wait_for_each_other_one_gives_way(bq: BrokerQ, schema: str) -> None:
    await bq.open()
    async with (
        program("psycopg async", standing_url()) as one,
        program("psycopg async", standing_url()) as two,
    ):
        await two.execute("SET deadlock_timeout = '100ms'")
        await ship(bq, one.given).publish("o-1")
        await ship(bq, two.given).publish("o-2")
        crossing = asyncio.create_task(ship(bq, one.given).publish("o-2"))
        await eventually(lambda: somebody_waits(schema))
        with pytest.raises(PublishError, match="roll back, and try again"):
            await ship(bq, two.given).publish("o-1")
        await two.rollback()
        assert not (await crossing).duplicate
        await one.commit()
    assert await waiting(bq) == 2


async def test_a_duplicate_in_a_transaction_holds_up_nobody(schema: str) -> None:
    """What was locked to look at the job with the same key is not kept locked."""
    url = with_parameters(schema, lock_timeout="500ms")
    async with BrokerQ("shop", url=url, prefix=f"tx-{uuid4().hex[:12]}") as bq:
        declare(bq)
        first = await ship(bq).publish("o-1")
        with psycopg.connect(standing_url()) as db:
            assert (await ship(bq, db).publish("o-1")).duplicate
            with pytest.raises(KeyConflictError):
                await ship(bq, db).publish("o-1", 2)
            report = await bq.run_worker(burst=True)
            assert report.outcomes == {"succeeded": 1}
            assert await first.result() == "o-1: 1"


async def test_in_a_stricter_isolation_the_program_has_to_try_again(bq: BrokerQ) -> None:
    await bq.open()
    with psycopg.connect(standing_url()) as db:
        db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        db.execute("SELECT 1")
        first = await ship(bq).publish("o-1")
        with pytest.raises(PublishError, match="roll back, and try again"):
            await ship(bq, db).publish("o-1")
        db.rollback()
        assert (await ship(bq, db).publish("o-1")).id == first.id
        assert not (await ship(bq, db).publish("o-2")).duplicate
    assert await waiting(bq) == 2


async def test_a_hundred_publishers_of_a_few_keys_publish_each_once(bq: BrokerQ) -> None:
    await bq.open()

    async def publish(n: int) -> None:
        async with program("psycopg async", standing_url()) as mine:
            for order in (f"o-{n % 3}", f"p-{n % 3}"):
                await ship(bq, mine.given).publish(order)
            await (mine.commit if n % 2 else mine.rollback)()

    for turn in range(5):
        await asyncio.gather(*(publish(turn * 20 + n) for n in range(20)))
    assert await waiting(bq) == 6
    report = await bq.run_worker(burst=True)
    assert report.outcomes == {"succeeded": 6}
