"""The outbox of a SQLite file, or of a PostgreSQL database, before a real RabbitMQ."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from brokerq_rabbitmq import ladder

from brokerq import BrokerQ, State
from brokerq.broker import Broker, Outgoing, QueueSpec
from brokerq.engine import relay
from brokerq.errors import CapabilityError, NotFoundError
from brokerq.sending import send
from tests.contract import rabbitmq_place
from tests.live.outbox_stores import KINDS, OutboxStore, outbox_store
from tests.services.rabbitmq import standing_url

Make = Callable[[], BrokerQ]
ONE_OF_EACH = pytest.mark.parametrize("store", ["sqlite3", "psycopg"], indirect=True)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutboxStore]:
    with outbox_store(request.param, tmp_path) as store:
        yield store


@pytest.fixture
async def make(store: OutboxStore, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Make]:
    """Yield what makes the app as another of its processes would have it."""
    monkeypatch.setattr(relay, "POLL", 0.05)
    prefix = f"outbox-{uuid4().hex[:12]}"
    async with rabbitmq_place.rabbit_place() as place:
        place.declared.append((prefix, QueueSpec(name="default")))
        yield lambda: BrokerQ("shop", url=standing_url(), store_url=store.url, prefix=prefix)


@pytest.fixture
async def bq(make: Make) -> AsyncGenerator[BrokerQ]:
    async with make() as bq:
        yield bq


async def in_rabbitmq(bq: BrokerQ) -> int:
    """Return how many messages the broker itself has."""
    backlog = await bq.queues.outbox()
    assert backlog is not None
    [stats] = await bq.queues.stats(["default"])
    return stats.ready + stats.delayed - backlog.waiting


async def test_what_a_transaction_commits_reaches_the_broker(
    bq: BrokerQ, store: OutboxStore
) -> None:
    @bq.job(idempotency_key="order")
    async def ship(order: str) -> str:
        return order

    await bq.open()
    store.make_orders()
    async with store.program() as mine:
        await mine.execute(store.order("o-1"))
        inside = ship.options(connection=mine.given)
        handles = await inside.publish_many([inside.arguments(f"o-{n}") for n in range(30)])
        await mine.commit()
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.delayed) == (0, 30)
    assert await bq.run_relay(burst=True) == 30
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.delayed) == (30, 0)
    await bq.run_worker(burst=True)
    assert [await handle.result() for handle in handles] == [f"o-{n}" for n in range(30)]
    assert await store.orders() == ["o-1"]


async def test_what_is_rolled_back_never_reaches_it(bq: BrokerQ, store: OutboxStore) -> None:
    @bq.job(idempotency_key="order")
    async def ship(order: str) -> str:
        return order

    await bq.open()
    store.make_orders()
    async with store.program() as mine:
        inside = ship.options(connection=mine.given)
        await mine.execute(store.order("o-1"))
        kept = await inside.publish("o-1")
        await mine.execute("SAVEPOINT half")
        await mine.execute(store.order("o-2"))
        undone = await inside.publish("o-2")
        await mine.execute("ROLLBACK TO SAVEPOINT half")
        await mine.commit()
        await mine.execute(store.order("o-3"))
        gone = await inside.publish("o-3")
        await mine.rollback()
    assert await bq.run_relay(burst=True) == await in_rabbitmq(bq) == 1
    await bq.run_worker(burst=True)
    assert await kept.result() == "o-1"
    for handle in (undone, gone):
        with pytest.raises(NotFoundError):
            await handle.status()
    assert await store.orders() == ["o-1"]


async def test_an_ordering_key_is_refused_before_anything_is_written(
    bq: BrokerQ, store: OutboxStore
) -> None:
    """RabbitMQ keeps no order, so nothing that is ordered may wait for it."""

    @bq.job()
    async def work() -> None: ...

    await bq.open()
    store.make_orders()
    async with store.program() as mine:
        await mine.execute(store.order("o-1"))
        with pytest.raises(CapabilityError, match="is not ordered"):
            await work.options(connection=mine.given, order="a").publish()
        await mine.commit()
    assert await bq.run_relay(burst=True) == await in_rabbitmq(bq) == 0
    assert await store.orders() == ["o-1"]


@ONE_OF_EACH
async def test_relays_at_the_same_time_publish_each_message_once(
    make: Make, store: OutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither begins to publish before the other holds some, too."""
    monkeypatch.setattr(relay, "BATCH", 10)
    both, begun = threading.Barrier(2), set[int]()

    async def send_together(broker: Broker, messages: Sequence[Outgoing]) -> Any:
        if id(broker) not in begun:
            begun.add(id(broker))
            await asyncio.to_thread(both.wait, 10)
        return await send(broker, messages)

    monkeypatch.setattr("brokerq.engine.relay.send", send_together)
    async with make() as one, make() as two:
        work = one.job()(noop)
        await one.open()
        await two.open()
        async with store.program() as mine:
            inside = work.options(connection=mine.given)
            await inside.publish_many([inside.arguments() for _ in range(200)])
            await mine.commit()
        shares = await asyncio.gather(one.run_relay(burst=True), two.run_relay(burst=True))
        assert min(shares) >= 10
        assert sum(shares) == await in_rabbitmq(one) == 200


async def noop() -> None: ...


@ONE_OF_EACH
async def test_a_delay_beyond_the_broker_s_waits_in_the_store(bq: BrokerQ) -> None:
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


@ONE_OF_EACH
async def test_a_queue_that_the_broker_does_not_have_holds_nobody_up(
    bq: BrokerQ, store: OutboxStore, caplog: pytest.LogCaptureFixture
) -> None:
    @bq.job()
    async def work() -> str:
        return "done"

    far = ladder.LONGEST * 2
    await bq.publish("elsewhere", {}, queue="nowhere", delay=far)
    store.run(store.all_due)
    async with store.program() as mine:
        handle = await work.options(connection=mine.given).publish()
        await mine.commit()
    stop = asyncio.Event()
    worker = asyncio.create_task(bq.run_worker(stop=stop))
    assert await handle.result("10s") == "done"
    stop.set()
    await worker
    assert "'nowhere', level 'normal', are refused" in caplog.text
