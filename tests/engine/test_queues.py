"""Weights, priorities, strict order, pauses, and order by key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta

import pytest

from brokerq import BrokerQ, Context, State
from brokerq.engine import slots, upkeep
from brokerq.errors import CapabilityError
from tests.engine.conftest import AT_ONCE, NarrowPlace, eventually, working
from tests.narrow import Narrowness

EACH = 450
WARM = 220
"""Jobs until the worker knows its pace and reads ahead by it."""


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look for pauses more often than every second."""
    monkeypatch.setattr(upkeep, "PAUSE_INTERVAL", 0.02)


async def fill(bq: BrokerQ, *queues: str, each: int = EACH, seconds: float = 0) -> list[str]:
    """Put as many jobs on each queue; return the list in which they note their queue."""
    ran: list[str] = []

    @bq.job(queue=queues[0])
    async def work(ctx: Context) -> None:
        ran.append(ctx.queue)
        await asyncio.sleep(seconds)

    for queue in queues:
        many = [work.arguments() for _ in range(each)]
        await work.options(queue=queue).publish_many(many)
    return ran


async def test_queues_get_their_shares(bq: BrokerQ) -> None:
    bq.queue("often")
    bq.queue("seldom")
    ran = await fill(bq, "often", "seldom")
    await bq.run_worker({"often": 3, "seldom": 1}, concurrency=1, max_jobs=WARM + 200)
    assert 135 <= ran[WARM:].count("often") <= 165


async def test_an_unused_share_falls_to_the_others(bq: BrokerQ) -> None:
    bq.queue("empty")
    bq.queue("full")
    ran = await fill(bq, "full")
    await bq.run_worker({"empty": 9, "full": 1}, concurrency=2, burst=True)
    assert ran == ["full"] * EACH


async def test_strict_empties_one_queue_after_the_other(bq: BrokerQ) -> None:
    bq.queue("first")
    bq.queue("second")
    ran = await fill(bq, "second", "first")
    await bq.run_worker({"first": 1, "second": 9}, concurrency=1, strict=True, burst=True)
    assert len(ran) == 2 * EACH
    # The other lane stands in where a read takes its time.
    assert ran[WARM:EACH].count("second") <= EACH // 10


@pytest.mark.parametrize(("strict", "wanted"), [(True, 16), (False, 12)])
async def test_queues_get_their_shares_of_slow_jobs_too(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch, *, strict: bool, wanted: int
) -> None:
    """None is read ahead, as a slot is free once in a third of a lease at most."""
    monkeypatch.setattr(slots, "MOMENT", 2.0)  # a busy machine needs more time to read
    for queue in ("first", "second"):
        bq.queue(queue, lease="600ms")
    ran = await fill(bq, "first", "second", each=20, seconds=0.24)
    weights = {"first": 3, "second": 1}
    await bq.run_worker(weights, concurrency=2, strict=strict, max_jobs=16)
    assert abs(ran.count("first") - wanted) <= (1 if strict else 3)  # what is read late has no part


async def test_urgent_levels_get_twice_the_share_and_starve_nobody(bq: BrokerQ) -> None:
    bq.queue("mixed", priorities=("high", "normal", "low"))
    ran: list[str] = []

    @bq.job(queue="mixed")
    async def work(level: str) -> None:
        ran.append(level)
        await asyncio.sleep(0)

    for level in ("low", "normal", "high"):
        many = [work.arguments(level) for _ in range(EACH)]
        await work.options(priority=level).publish_many(many)
    await bq.run_worker(concurrency=1, max_jobs=WARM + 140)
    shares = {level: ran[WARM:].count(level) for level in ("high", "normal", "low")}
    assert 68 <= shares["high"] <= 92  # 80, 40 and 20 of 140
    assert 30 <= shares["normal"] <= 50
    assert 12 <= shares["low"] <= 28


async def test_a_paused_queue_is_left_alone_until_it_is_resumed(
    bq: BrokerQ, quick_pauses: None
) -> None:
    bq.queue("paused")
    ran: list[str] = []

    @bq.job()
    async def work(ctx: Context) -> None:
        ran.append(ctx.queue)

    await bq.queues.pause("paused", by="the test")
    async with working(bq):
        await work.options(queue="paused").publish()
        await work.publish()
        await eventually(lambda: ran == ["default"])
        assert await bq.queues.paused() == {"paused"}
        await bq.queues.resume("paused")
        await eventually(lambda: ran == ["default", "paused"])


async def test_a_pause_reaches_a_running_worker(bq: BrokerQ, quick_pauses: None) -> None:
    ran: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        ran.append(number)

    async def pile_up() -> bool:
        await work.publish(0)
        [stats] = await bq.queues.stats()
        return stats.ready >= 5

    async with working(bq):
        await work.publish(0)
        await eventually(lambda: ran == [0])
        await bq.queues.pause("default", by="the test")
        await eventually(pile_up)
        before = len(ran)
        await bq.queues.resume("default")
        await eventually(lambda: len(ran) >= before + 5)


async def test_a_burst_does_not_wait_for_a_paused_queue(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await bq.queues.pause("default", by="the test")
    await asyncio.wait_for(bq.run_worker(burst=True), 30)
    assert (await handle.status()).state == State.QUEUED


async def test_purging_a_queue_cancels_its_jobs(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handles = [await work.publish(), await work.options(delay="1h").publish()]
    assert await bq.queues.purge("default") == 2
    assert [(await handle.status()).state for handle in handles] == [State.CANCELLED] * 2
    assert (await bq.run_worker(burst=True)).outcomes == {}


async def test_jobs_with_one_ordering_key_run_one_at_a_time_in_order(bq: BrokerQ) -> None:
    bq.queue("ordered", ordered=True)
    ran: defaultdict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    overlaps: list[str] = []

    @bq.job(queue="ordered", retry=AT_ONCE)
    async def work(ctx: Context, account: str, number: int) -> None:
        if account in running:
            overlaps.append(account)
        running.add(account)
        await asyncio.sleep(0.002)
        running.discard(account)
        ran[account].append(number)
        if number == 2 and ctx.attempt == 1:
            raise ValueError("again, before the later ones")

    for number in range(6):
        for account in "abc":
            await work.options(order=account).publish(account, number)
    await bq.run_worker(burst=True, concurrency=6)
    assert overlaps == []
    assert dict(ran) == {account: [0, 1, 2, 2, 3, 4, 5] for account in "abc"}


async def test_a_death_lets_the_next_of_its_key_run(bq: BrokerQ) -> None:
    bq.queue("ordered", ordered=True)
    ran: list[int] = []

    @bq.job(queue="ordered", retry=AT_ONCE)
    async def work(number: int) -> None:
        ran.append(number)
        if number == 0:
            raise ValueError

    for number in range(2):
        await work.options(order="one").publish(number)
    await bq.run_worker(burst=True)
    assert ran == [0, 0, 0, 1]


async def test_a_job_that_may_run_for_longer_than_the_broker_waits_is_refused_at_the_start(
    narrow: NarrowPlace,
) -> None:
    narrow.how = Narrowness(max_hold=timedelta(minutes=30))
    bq = narrow.app()

    @bq.job(timeout="1h")
    async def report() -> None: ...

    await report.publish()
    with pytest.raises(CapabilityError, match=r"'report' has timeout=1h.*30m"):
        await bq.run_worker(burst=True)
    [stats] = await bq.queues.stats()
    assert stats.ready == 1
