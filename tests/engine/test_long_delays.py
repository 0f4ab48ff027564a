"""Delays longer than the broker can keep: waited for in steps, never shortened, never lost."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from brokerq import BrokerQ, Context, RetryPolicy, Snooze, State
from brokerq.broker import Dead
from brokerq.duration import ZERO
from brokerq.errors import CapabilityError
from tests.engine.conftest import NarrowPlace, Outage, eventually, in_ms, working
from tests.narrow import Narrowness

STEP = in_ms(20)
DELAY = in_ms(90)
STEPS = 5
SLACK = 0.005
"""Seconds by which the clock of due times and the one of the tests may differ."""

stores = pytest.mark.parametrize("store_url", [None, "none://"], ids=["store", "no store"])
brokers = pytest.mark.parametrize(
    "in_place",
    [ZERO, in_ms(8), in_ms(40), timedelta.max],
    ids=["only copies", "in place for less", "in place for longer", "in place"],
)


@pytest.fixture
def place(narrow: NarrowPlace) -> NarrowPlace:
    return narrow


class Times:
    """When a handler began and what it may have to wait for."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = [time.monotonic()]
        self.attempts: list[int] = []

    def begin(self, ctx: Context) -> int:
        """Note a run; return which it is."""
        self.began.append(time.monotonic())
        self.attempts.append(ctx.attempt)
        return len(self.began)

    def end(self) -> None:
        """Note that the run is about to say when the next may begin."""
        self.ended.append(time.monotonic())

    @property
    def waits(self) -> list[timedelta]:
        """How long after the end of the one before each run began."""
        return [
            timedelta(seconds=began - ended + SLACK)
            for began, ended in zip(self.began, self.ended, strict=False)
        ]


def narrowed(place: NarrowPlace, in_place: timedelta) -> None:
    place.how = Narrowness(max_delay=STEP, in_place=in_place)


async def nothing_is_left(bq: BrokerQ) -> bool:
    [stats] = await bq.queues.stats()
    return not (stats.ready or stats.in_flight or stats.delayed or stats.dead)


@stores
@brokers
async def test_retries_wait_their_whole_delay(
    place: NarrowPlace, store_url: str | None, in_place: timedelta
) -> None:
    narrowed(place, in_place)
    policy = RetryPolicy(max_attempts=3, backoff="fixed", initial=DELAY, jitter="none")
    bq = place.app(store_url=store_url, retry=policy)
    times = Times()

    @bq.job()
    async def work(ctx: Context) -> None:
        run = times.begin(ctx)
        times.end()
        if run < 3:
            raise ValueError

    await work.publish()
    report = await bq.run_worker(burst=True)

    assert times.attempts == [1, 2, 3]
    assert min(times.waits[1:]) >= DELAY
    assert report.outcomes == {"retrying": 2, "succeeded": 1}
    assert await nothing_is_left(bq)
    assert len(place.how.settled) <= 2 * STEPS + 3


@stores
@brokers
async def test_a_snooze_waits_its_whole_delay_and_is_no_attempt(
    place: NarrowPlace, store_url: str | None, in_place: timedelta
) -> None:
    narrowed(place, in_place)
    bq = place.app(store_url=store_url)
    times = Times()

    @bq.job()
    async def work(ctx: Context) -> None:
        run = times.begin(ctx)
        times.end()
        if run < 3:
            raise Snooze(DELAY)

    handle = await work.publish()
    report = await bq.run_worker(burst=True)

    assert times.attempts == [1, 1, 1]
    assert min(times.waits[1:]) >= DELAY
    assert report.outcomes == {"scheduled": 2, "succeeded": 1}
    assert await nothing_is_left(bq)
    assert len(place.how.settled) <= 2 * STEPS + 3
    if store_url is None:
        assert (await handle.status()).epoch == 0


@stores
@brokers
async def test_a_first_delay_is_whole_and_a_retry_after_it_too(
    place: NarrowPlace, store_url: str | None, in_place: timedelta
) -> None:
    narrowed(place, in_place)
    policy = RetryPolicy(max_attempts=2, backoff="fixed", initial=DELAY, jitter="none")
    bq = place.app(store_url=store_url, retry=policy)
    times = Times()

    @bq.job()
    async def work(ctx: Context) -> None:
        times.begin(ctx)
        times.end()
        raise ValueError

    times.ended[0] = time.monotonic()
    await work.options(delay=DELAY).publish()
    report = await bq.run_worker(burst=True)

    assert times.attempts == [1, 2]
    assert min(times.waits) >= DELAY
    assert report.outcomes == {"retrying": 1, "dead": 1}
    [letter] = [verdict for _, verdict in place.how.settled if isinstance(verdict, Dead)]
    assert letter.message.headers["bq-dead-attempts"] == "2"


async def test_a_worker_that_is_lost_between_two_steps_shortens_nothing(
    place: NarrowPlace,
) -> None:
    narrowed(place, ZERO)
    policy = RetryPolicy(max_attempts=2, backoff="fixed", initial=DELAY, jitter="none")
    bq = place.app(retry=policy)
    times = Times()

    @bq.job()
    async def work(ctx: Context) -> None:
        run = times.begin(ctx)
        times.end()
        if run == 1:
            raise ValueError

    handle = await work.publish()
    for _ in range(4):  # each stops at another point of the wait
        async with working(bq):
            await asyncio.sleep(0.7 * STEP.total_seconds())
    async with working(bq):
        view = await handle.wait("30s")

    assert (view.state, view.attempts) == (State.SUCCEEDED, 2)
    assert min(times.waits[1:]) >= DELAY


@pytest.mark.parametrize("in_place", [in_ms(40), timedelta.max], ids=["for less", "for all"])
async def test_where_a_copy_would_lose_its_place_a_retry_waits_as_it_is(
    place: NarrowPlace, in_place: timedelta
) -> None:
    place.how = Narrowness(max_delay=STEP, in_place=in_place, delayed_ordering=False)
    policy = RetryPolicy(max_attempts=3, backoff="fixed", initial=DELAY, jitter="none")
    bq = place.app(retry=policy)
    bq.queue("ordered", ordered=True)
    times = Times()
    order: list[str] = []

    @bq.job(queue="ordered")
    async def work(ctx: Context, name: str) -> None:
        order.append(name)
        if name == "first":
            run = times.begin(ctx)
            times.end()
            if run < 3:
                raise ValueError

    first = await work.options(order="k").publish("first")
    await work.options(order="k").publish("second")
    await bq.run_worker(burst=True)

    assert order == ["first", "first", "first", "second"]
    assert times.attempts == [1, 2, 3]
    assert min(times.waits[1:]) >= DELAY
    view = await first.status()
    assert (view.state, view.attempts, view.epoch) == (State.SUCCEEDED, 3, 0)


async def test_an_order_that_needs_a_store_is_refused_without_one(place: NarrowPlace) -> None:
    place.how = Narrowness(delayed_ordering=False)
    bq = place.app(store_url="none://")
    bq.queue("ordered", ordered=True)

    with pytest.raises(CapabilityError, match="'ordered' needs order: without a store"):
        await bq.open()


@brokers
@pytest.mark.parametrize("verdict", [ValueError(), Snooze(DELAY)], ids=["retry", "snooze"])
async def test_what_may_run_without_its_record_waits_its_whole_delay_without_it(
    place: NarrowPlace, outage: Outage, in_place: timedelta, verdict: Exception
) -> None:
    """The store is away when the message comes for its next step, and knows when it is due."""
    narrowed(place, in_place)
    policy = RetryPolicy(max_attempts=2, backoff="fixed", initial=DELAY, jitter="none")
    bq = place.app(retry=policy)
    times = Times()

    @bq.job(on_store_error="run")
    async def work(ctx: Context) -> None:
        run = times.begin(ctx)
        times.end()
        if run == 1:
            raise verdict

    def settled() -> bool:
        return bool(times.began) and bool(place.how.settled)

    await work.publish()
    async with working(bq):
        await eventually(settled)
        outage.on = True
        await eventually(lambda: len(times.began) == 2)
        outage.on = False
    assert times.waits[1] >= DELAY
