"""Delays that are longer than the broker can keep: the store keeps the message until it is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from brokerq_memory import MemoryBroker
from brokerq_sqlite import SqliteBroker

from brokerq import BrokerQ, JobHandle, State
from brokerq.broker import Broker, Capabilities, Outgoing
from brokerq.duration import ZERO
from brokerq.engine import relay
from brokerq.errors import (
    ConnectionLostError,
    KeyConflictError,
    PublishError,
    StoreUnavailableError,
)
from brokerq.options import PublishOptions
from brokerq.publishing import prepare
from brokerq.requests import request_for
from brokerq.store import Store
from tests.engine.conftest import Place, eventually, in_ms, working

LONGEST = in_ms(20)
DELAY = "150ms"


@pytest.fixture(autouse=True)
def impatient_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the brokers keep short delays only."""
    for kind in (MemoryBroker, SqliteBroker):
        able: Callable[[Broker], Capabilities] = vars(kind)["capabilities"].fget

        def capabilities(
            broker: Broker, able: Callable[[Broker], Capabilities] = able
        ) -> Capabilities:
            return replace(able(broker), max_delay=LONGEST)

        monkeypatch.setattr(kind, "capabilities", property(capabilities))
    monkeypatch.setattr(relay, "POLL", 0.02)
    monkeypatch.setattr(relay, "FIRST_BACKOFF", 0.02)


@pytest.fixture
def published(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that the broker was given, each time it was."""
    ids: list[str] = []
    kind: Any = MemoryBroker if place.url.startswith("memory") else SqliteBroker
    publish = kind.publish

    async def noted(broker: Broker, messages: Sequence[Outgoing]) -> None:
        await publish(broker, messages)
        ids.extend(each.id for each in messages)

    monkeypatch.setattr(kind, "publish", noted)
    return ids


async def store_of(bq: BrokerQ) -> Store:
    runtime = await bq.jobs.session.call(bq.jobs.session.runtime())
    assert runtime.store is not None
    return runtime.store


async def waiting(bq: BrokerQ) -> int:
    stats = await bq.queues.outbox()
    assert stats is not None
    return stats.waiting


async def state_of(handle: JobHandle[Any]) -> State:
    return (await handle.status()).state


async def test_a_long_delay_is_kept_by_the_store(bq: BrokerQ, published: list[str]) -> None:
    ran: list[datetime] = []

    @bq.job()
    async def work() -> None:
        ran.append(datetime.now(UTC))

    not_before = datetime.now(UTC) + in_ms(150)
    handle = await work.options(delay=DELAY).publish()
    assert (await state_of(handle), published) == (State.SCHEDULED, [])
    [stats] = await bq.queues.stats()
    assert (stats.delayed, stats.ready) == (1, 0)

    await bq.run_worker(burst=True)

    assert ran[0] >= not_before
    assert published == [handle.id]
    steps = [step.state for step in (await handle.status()).history]
    assert steps == [State.SCHEDULED, State.RUNNING, State.SUCCEEDED]
    assert await waiting(bq) == 0


async def test_a_short_delay_is_the_broker_s(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    await work.options(delay=LONGEST).publish()
    assert await waiting(bq) == 0
    assert [stats.ready + stats.delayed for stats in await bq.queues.stats()] == [1]


async def test_a_delay_with_an_ordering_key_keeps_its_place_in_the_broker(bq: BrokerQ) -> None:
    bq.queue("ordered", ordered=True)
    ran: list[int] = []

    @bq.job(queue="ordered")
    async def work(number: int) -> None:
        ran.append(number)

    await work.options(order="a", delay=DELAY).publish(1)
    await work.options(order="a").publish(2)
    assert await waiting(bq) == 0
    await bq.run_worker(burst=True)
    assert ran == [1, 2]


async def test_one_batch_may_have_both(bq: BrokerQ) -> None:
    @bq.job(idempotency_key="number")
    async def work(number: int) -> int:
        return number

    async with working(bq):
        many = work.options(delay=DELAY)
        handles = await many.publish_many([work.arguments(n % 3) for n in range(4)])
        now = await work.publish(7)
        assert [handle.duplicate for handle in handles] == [False, False, False, True]
        assert handles[3].id == handles[0].id
        assert await now.result("30s") == 7
        assert [await handle.result("30s") for handle in handles] == [0, 1, 2, 0]


async def test_keys_are_held_while_a_job_waits_in_the_outbox(bq: BrokerQ) -> None:
    @bq.job(idempotency_key="order")
    async def pay(order: str, cents: int) -> None: ...

    first = await pay.options(delay="1h").publish("o-1", 5)
    for delay in ("2h", None):
        again = await pay.options(delay=delay).publish("o-1", 5)
        assert (again.id, again.duplicate) == (first.id, True)
        with pytest.raises(KeyConflictError):
            await pay.options(delay=delay).publish("o-1", 6)
    assert await waiting(bq) == 1
    await first.cancel()
    assert await waiting(bq) == 0
    assert not (await pay.publish("o-1", 6)).duplicate


async def test_a_reservation_that_was_left_is_taken_over(bq: BrokerQ) -> None:
    """Its publisher was killed before it published, or before it could record that it had."""

    @bq.job(idempotency_key="order")
    async def pay(order: str) -> str:
        return order

    runtime = await bq.jobs.session.call(bq.jobs.session.runtime())
    definition = bq.registry.job("pay")
    payload = definition.signature.encode(("o-1",), {})
    request = request_for(definition, payload, PublishOptions())
    can, now = runtime.broker.capabilities, runtime.clock.now()
    [parcel] = prepare([request], bq.registry, can, new_id=lambda: "lost-1", now=now, outbox=True)
    lost = parcel.new
    await (await store_of(bq)).reserve([lost], owner="lost-1", lease=ZERO)

    handle = await pay.options(delay=DELAY).publish("o-1")

    assert (handle.id, handle.duplicate) == ("lost-1", False)
    await bq.run_worker(burst=True)
    assert await handle.result() == "o-1"


async def test_purging_a_queue_empties_its_outbox(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    @bq.job(queue="other")
    async def other() -> None: ...

    handle = await work.options(delay="1h").publish()
    kept = await other.options(delay="1h").publish()
    await work.publish()
    assert await bq.queues.purge("default") == 2
    assert (await state_of(handle), await state_of(kept)) == (State.CANCELLED, State.SCHEDULED)
    assert await waiting(bq) == 1


async def test_a_worker_relays_for_queues_that_it_does_not_work_on(bq: BrokerQ) -> None:
    @bq.job(queue="other")
    async def work() -> None: ...

    @bq.job()
    async def here() -> None: ...

    handle = await work.options(delay=DELAY).publish()
    async with working(bq, {"default": 1}):
        await eventually(lambda: _is_ready(bq, "other"))
    assert await state_of(handle) == State.SCHEDULED


async def _is_ready(bq: BrokerQ, queue: str) -> bool:
    [stats] = await bq.queues.stats([queue])
    return bool(stats.ready)


async def test_a_process_that_a_timer_wakes_publishes_what_is_due(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> str:
        return "done"

    handle = await work.options(delay=DELAY).publish()
    later = await work.options(delay="1h").publish()
    await bq.process()
    assert await state_of(handle) == State.SCHEDULED
    await asyncio.sleep(0.15)
    await bq.process()
    assert await handle.result() == "done"
    assert await state_of(later) == State.SCHEDULED


async def test_a_queue_that_nobody_declared_holds_nobody_up(
    bq: BrokerQ, caplog: pytest.LogCaptureFixture
) -> None:
    @bq.job()
    async def work(number: int) -> int:
        return number

    lost = await bq.publish("elsewhere", {}, queue="nowhere", delay=DELAY)
    handles = [await work.options(delay=DELAY).publish(n) for n in range(3)]
    async with working(bq):
        assert [await handle.result("30s") for handle in handles] == [0, 1, 2]
        await eventually(lambda: "'nowhere', level 'normal', are refused" in caplog.text)
        assert await waiting(bq) == 1
        bq.queue("nowhere")
        await bq.queues.stats()  # which declares it
        await eventually(lambda: _is_ready(bq, "nowhere"))
    assert await state_of(lost) == State.SCHEDULED


@pytest.mark.parametrize("unknown", [False, True], ids=["failed", "unknown"])
async def test_while_the_broker_is_away_messages_wait_and_an_alarm_is_raised(
    bq: BrokerQ,
    place: Place,
    published: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    unknown: bool,
) -> None:
    monkeypatch.setattr(relay, "ALARM", 0.05)
    monkeypatch.setattr(relay, "LEASE", in_ms(50))
    kind: Any = MemoryBroker if place.url.startswith("memory") else SqliteBroker
    publish = kind.publish
    away = True

    async def refuse(broker: Broker, messages: Sequence[Outgoing]) -> None:
        if not away:
            await publish(broker, messages)
            return
        every = range(len(messages))
        error = PublishError("away", unknown=every) if unknown else PublishError("", failed=every)
        raise error from ConnectionLostError("the broker is away")

    monkeypatch.setattr(kind, "publish", refuse)

    @bq.job()
    async def work() -> str:
        return "done"

    handles = [await work.options(delay=in_ms(25)).publish() for _ in range(3)]
    async with working(bq):
        await eventually(lambda: "3 messages should be in the broker by now" in caplog.text)
        assert caplog.text.count("cannot be published now") == 1
        assert [await state_of(handle) for handle in handles] == [State.SCHEDULED] * 3
        away = False
        assert [await handle.result("30s") for handle in handles] == ["done"] * 3
    assert sorted(published) == sorted(handle.id for handle in handles)
    assert await waiting(bq) == 0


async def test_a_message_that_is_published_twice_runs_once(
    bq: BrokerQ, published: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a relay is killed before it can say that the broker has it."""
    ran: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        ran.append(number)

    store: Any = type(await store_of(bq))
    sent, failed = store.sent, 0

    async def fail_once(*args: object, **kwargs: object) -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise StoreUnavailableError("away")
        await sent(*args, **kwargs)

    monkeypatch.setattr(store, "sent", fail_once)
    monkeypatch.setattr(relay, "LEASE", in_ms(50))
    handle = await work.options(delay=DELAY).publish(1)
    async with working(bq):
        await handle.wait("30s")
        await eventually(lambda: failed == 2)
        await eventually(lambda: _nothing_left(bq))
    assert (ran, published) == ([1], [handle.id, handle.id])


async def _nothing_left(bq: BrokerQ) -> bool:
    [stats] = await bq.queues.stats(["default"])
    return not (stats.ready or stats.in_flight or stats.delayed)


async def test_without_a_store_a_long_delay_is_kept_in_hops(place: Place) -> None:
    bq = place.app(store_url="none://")
    ran: list[datetime] = []

    @bq.job()
    async def work() -> None:
        ran.append(datetime.now(UTC))

    not_before = datetime.now(UTC) + in_ms(150)
    await work.options(delay=DELAY).publish()
    await bq.run_worker(burst=True)
    assert ran[0] >= not_before


async def test_a_store_that_is_away_is_told_of_as_a_publish_that_nobody_knows_of(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    @bq.job()
    async def work(number: int) -> None: ...

    await bq.open()

    async def away(*_: object) -> None:
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(type(await store_of(bq)), "schedule", away)
    later = work.options(delay="1h")
    with pytest.raises(PublishError, match="the store is away") as refused:
        await later.publish_many([work.arguments(n) for n in range(3)])
    assert (refused.value.failed, refused.value.unknown) == ((), (0, 1, 2))
