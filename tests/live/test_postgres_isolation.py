"""Transactions in a stricter isolation than READ COMMITTED: the program's, and by default all."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from brokerq import BrokerQ, JobHandle
from brokerq.engine import relay
from brokerq.errors import NotFoundError, RefusedError
from tests.engine.conftest import eventually
from tests.live.postgres_programs import (
    Place,
    Program,
    bq,
    db,
    mine,
    place,
    schema,
    ship,
    somebody_waits,
    waiting,
)
from tests.services.postgres import standing_url, with_parameters

__all__ = ["bq", "db", "mine", "place", "schema"]

STRICTER = psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE
BY_DEFAULT = r"-c default_transaction_isolation=repeatable\ read"


async def test_a_commit_that_cannot_be_serialized_publishes_nothing(
    bq: BrokerQ, place: Place, mine: Program, db: psycopg.Connection
) -> None:
    """Each of two has read what the other writes; PostgreSQL tells the second at its commit."""
    await bq.open()

    async def order(n: int) -> JobHandle[str]:
        await mine.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        await mine.execute(place.select)
        await mine.execute(place.insert)
        handle: JobHandle[str] = await ship(bq, mine.given).publish(f"o-{n}")
        return handle

    db.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    db.execute(place.select.encode())
    lost = await order(1)
    db.execute(place.insert.encode())
    await ship(bq, db).publish("o-2")
    db.commit()
    with pytest.raises((psycopg.OperationalError, OperationalError), match="not serialize"):
        await mine.commit()
    await mine.rollback()
    assert (await waiting(bq), place.count()) == (1, 1)
    with pytest.raises(NotFoundError):
        await lost.status()
    again = await order(1)
    await mine.commit()
    assert not again.duplicate
    assert (await waiting(bq), place.count()) == (2, 2)


@pytest.fixture
async def in_order(bq: BrokerQ) -> BrokerQ:
    bq.queue("in-order", ordered=True)

    @bq.job(queue="in-order")
    async def step(n: int) -> int:
        return n

    await bq.open()
    return bq


async def publish_step(bq: BrokerQ, n: int, connection: psycopg.Connection | None = None) -> None:
    await bq.publish("step", {"n": n}, order="a", connection=connection)


@pytest.mark.parametrize("level", STRICTER, ids=lambda level: level.name.lower())
async def test_an_ordering_key_needs_a_transaction_that_sees_the_last_of_it(
    in_order: BrokerQ, level: psycopg.IsolationLevel
) -> None:
    """It would be behind a job that has gone, for ever, or beside one that it does not see."""
    with psycopg.connect(standing_url()) as mine:
        mine.isolation_level = level
        await ship(in_order, mine).publish("o-1")
        with pytest.raises(RefusedError, match="READ COMMITTED"):
            await publish_step(in_order, 1, mine)
        mine.commit()
    await publish_step(in_order, 2)
    report = await in_order.run_worker(burst=True)
    assert report.outcomes == {"succeeded": 2}


@pytest.mark.parametrize("pooler", ["none", "transaction"])
async def test_ordering_keys_hold_whatever_the_default_isolation_is(
    schema: str, pooler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has waited for another publisher of the key sees what that one has put in."""
    monkeypatch.setattr(relay, "POLL", 0.05)
    url = with_parameters(schema, options=BY_DEFAULT, pooler=pooler)
    begun: list[int] = []
    async with BrokerQ("shop", url=url, prefix=f"iso-{uuid4().hex[:12]}") as bq:
        bq.queue("in-order", ordered=True)

        @bq.job(queue="in-order")
        async def step(n: int) -> None:
            begun.append(n)
            await asyncio.sleep(0.02)

        await bq.open()
        with psycopg.connect(standing_url()) as mine:
            await publish_step(bq, 1, mine)
            second = asyncio.create_task(publish_step(bq, 2))
            await eventually(lambda: somebody_waits(schema))
            await publish_step(bq, 3, mine)
            mine.commit()
        await second
        [stats] = await bq.queues.stats(["in-order"])
        assert stats.ready + stats.delayed == 3
        await bq.run_worker(burst=True)
        assert begun == [1, 3, 2]
