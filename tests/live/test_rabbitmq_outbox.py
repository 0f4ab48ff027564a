"""The outbox of a SQLite file in front of a real RabbitMQ."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from brokerq_rabbitmq import ladder

from brokerq import BrokerQ, State
from brokerq.broker import QueueSpec
from brokerq.engine import relay
from tests.contract import rabbitmq_place
from tests.services.rabbitmq import standing_url


@pytest.fixture
async def bq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[BrokerQ]:
    monkeypatch.setattr(relay, "POLL", 0.05)
    prefix = f"outbox-{uuid4().hex[:12]}"
    store = f"sqlite:///{tmp_path}/records.db"
    async with (
        rabbitmq_place.rabbit_place() as place,
        BrokerQ("shop", url=standing_url(), store_url=store, prefix=prefix) as bq,
    ):
        place.declared.append((prefix, QueueSpec(name="default")))
        yield bq


async def test_what_a_transaction_commits_reaches_the_broker(bq: BrokerQ, tmp_path: Path) -> None:
    @bq.job(idempotency_key="order")
    async def ship(order: str) -> str:
        return order

    await bq.open()
    with closing(sqlite3.connect(tmp_path / "records.db")) as db:
        with db:
            db.execute("CREATE TABLE orders (id TEXT)")
            db.execute("INSERT INTO orders VALUES ('o-1')")
            inside = ship.options(connection=db)
            handles = await inside.publish_many([inside.arguments(f"o-{n}") for n in range(30)])
        await inside.publish("o-99")
        db.rollback()
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.delayed) == (0, 30)
    assert await bq.run_relay(burst=True) == 30
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.delayed) == (30, 0)
    await bq.run_worker(burst=True)
    assert [await handle.result() for handle in handles] == [f"o-{n}" for n in range(30)]


async def test_a_delay_beyond_the_broker_s_waits_in_the_file(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    late = await work.options(delay=ladder.LONGEST * 2).publish()
    early = await work.options(delay="30m").publish()
    stats = await bq.queues.outbox()
    assert stats is not None
    assert stats.waiting == 1
    assert (await late.status()).state == (await early.status()).state == State.SCHEDULED
    await late.cancel()
    await early.cancel()


async def test_a_queue_that_the_broker_does_not_have_holds_nobody_up(
    bq: BrokerQ, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @bq.job()
    async def work() -> str:
        return "done"

    far = ladder.LONGEST * 2
    await bq.publish("elsewhere", {}, queue="nowhere", delay=far)
    with closing(sqlite3.connect(tmp_path / "records.db")) as db, db:
        db.execute("UPDATE outbox SET due_at = 0, ready_at = 0")  # as if the time had come
        handle = await work.options(connection=db).publish()
    stop = asyncio.Event()
    worker = asyncio.create_task(bq.run_worker(stop=stop))
    assert await handle.result("10s") == "done"
    stop.set()
    await worker
    assert "'nowhere', level 'normal', are refused" in caplog.text
