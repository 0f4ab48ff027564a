"""`none://`: nothing is remembered, the counts travel in the messages."""

from __future__ import annotations

from uuid import uuid4

import pytest

from brokerq import BrokerQ, Context, RetryAfter, RetryPolicy, Snooze
from brokerq.errors import CapabilityError
from tests.engine.conftest import AT_ONCE, ONCE, Place, letters_of


@pytest.fixture
async def bq(place: Place) -> BrokerQ:
    return place.app(store_url="none://", retry=AT_ONCE)


async def test_attempts_are_counted_in_the_message(place: Place, bq: BrokerQ) -> None:
    attempts: list[int] = []

    @bq.job()
    async def work(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    await work.publish()
    report = await bq.run_worker(burst=True)
    assert attempts == [1, 2, 3]
    assert report.outcomes == {"retrying": 2, "dead": 1}
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.delayed, stats.dead) == (0, 0, 1)


async def test_a_verdict_of_the_handler_is_kept_too(bq: BrokerQ) -> None:
    seen: list[tuple[str, int]] = []

    @bq.job(retry=RetryPolicy(max_attempts=3))
    async def work(ctx: Context, what: str) -> None:
        seen.append((what, ctx.attempt))
        if len(seen) == 1:
            raise Snooze("10ms")
        if len(seen) == 2:
            raise RetryAfter("10ms")

    await work.publish("job")
    await bq.run_worker(burst=True)
    assert seen == [("job", 1), ("job", 1), ("job", 2)]


async def test_what_needs_a_memory_is_refused_with_the_remedy(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    for question in (
        handle.status,
        handle.result,
        handle.wait,
        handle.cancel,
        lambda: bq.queues.pause("default", by="the test"),
    ):
        with pytest.raises(CapabilityError, match="name a store with BROKERQ_STORE_URL"):
            await question()
    assert await bq.queues.paused() == ()


async def test_dead_letters_are_read_from_the_broker_and_redriven(bq: BrokerQ) -> None:
    broken = [True]
    seen: list[tuple[int, int]] = []

    @bq.job(retry=ONCE)
    async def work(ctx: Context) -> None:
        seen.append((ctx.attempt, ctx.redrives))
        if broken:
            raise ValueError("no luck")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    letter = await bq.dead_letters.get(handle.id)
    assert (letter.reason, letter.error_message) == ("exhausted", "no luck")
    broken.clear()
    await bq.dead_letters.redrive([handle.id], by="the test")
    assert await letters_of(bq) == []
    assert (await bq.run_worker(burst=True)).outcomes == {"succeeded": 1}
    assert seen == [(1, 0), (1, 1)]


async def test_broker_and_store_may_be_two_places(place: Place) -> None:
    """Then publishing takes two steps, and the rules hold all the same."""
    bq = place.app(store_url=f"memory://{uuid4()}", retry=AT_ONCE)
    attempts: list[int] = []

    @bq.job(idempotency_key="order")
    async def pay(ctx: Context, order: str) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError
        return order

    first = await pay.publish("o-1")
    assert (await pay.publish("o-1")).id == first.id
    later = await pay.options(delay="20ms").publish_many(pay.arguments(o) for o in ("o-2", "o-3"))
    await bq.run_worker(burst=True)
    assert await first.result() == "o-1"
    assert [await handle.result() for handle in later] == ["o-2", "o-3"]
    assert sorted(attempts) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
