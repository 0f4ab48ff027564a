"""When a worker stops by itself: nothing left, nothing ready, enough jobs, enough time."""

from __future__ import annotations

import asyncio
import time

import pytest

from brokerq import BrokerQ, Context, State
from brokerq.engine.lanes import LaneReader
from brokerq.errors import ConfigurationError, UnknownQueueError
from tests.engine.conftest import Place, eventually, working


async def test_a_burst_waits_for_delayed_jobs_and_retries(bq: BrokerQ) -> None:
    ran: list[str] = []

    @bq.job()
    async def work(name: str) -> None:
        ran.append(name)
        if name == "flaky" and ran.count(name) < 3:
            raise ValueError

    await work.options(delay="80ms").publish("later")
    await work.publish("flaky")
    report = await bq.run_worker(burst=True)
    assert sorted(ran) == ["flaky", "flaky", "flaky", "later"]
    assert report.outcomes == {"succeeded": 2, "retrying": 2}


async def test_a_burst_waits_for_other_workers_jobs(place: Place) -> None:
    one, two = place.app(), place.app()
    begun, gate = asyncio.Event(), asyncio.Event()

    @one.job(name="work")
    async def work() -> None:
        begun.set()
        await gate.wait()

    @two.job(name="work")
    async def other() -> None:
        raise AssertionError

    await work.publish()
    async with working(one):
        await begun.wait()
        burst = asyncio.create_task(two.run_worker(burst=True))
        done, _ = await asyncio.wait([burst], timeout=0.2)
        assert not done
        gate.set()
        assert (await burst).outcomes == {}


async def test_a_burst_with_nothing_to_do_returns(bq: BrokerQ) -> None:
    bq.queue("empty")
    assert (await asyncio.wait_for(bq.run_worker(burst=True), 30)).outcomes == {}


async def test_processing_leaves_what_is_due_later(bq: BrokerQ) -> None:
    ran: list[str] = []

    @bq.job()
    async def work(name: str) -> None:
        ran.append(name)

    await work.publish("now")
    later = await work.options(delay="1h").publish("later")
    await asyncio.wait_for(bq.process(), 30)
    assert ran == ["now"]
    assert (await later.status()).state == State.SCHEDULED


async def test_processing_stops_after_so_many_jobs(bq: BrokerQ) -> None:
    ran: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        ran.append(number)

    await work.publish_many(work.arguments(number) for number in range(20))
    report = await bq.process(max_jobs=7)
    assert report.outcomes == {"succeeded": 7}
    assert len(ran) == 7
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.in_flight) == (13, 0)
    assert (await bq.run_worker(max_jobs=13)).outcomes == {"succeeded": 13}


async def test_processing_stops_after_so_much_time(bq: BrokerQ) -> None:
    @bq.job()
    async def work(ctx: Context) -> None:
        await work.publish()  # there is always something ready
        await asyncio.sleep(0.005)

    await work.publish()
    began = time.monotonic()
    await bq.process(max_runtime="150ms", grace="1s")
    assert 0.14 < time.monotonic() - began < 20
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)


async def test_a_worker_without_work_to_choose_from_says_what_to_declare(bq: BrokerQ) -> None:
    with pytest.raises(ConfigurationError, match="declares no queue"):
        await bq.run_worker(burst=True)

    @bq.job()
    async def work() -> None: ...

    with pytest.raises(UnknownQueueError, match=r"'defualt' is not declared \(did you mean"):
        await bq.run_worker({"defualt": 1})
    with pytest.raises(ConfigurationError, match="weight must be at least 1"):
        await bq.run_worker({"default": 0})
    with pytest.raises(ConfigurationError, match="concurrency must be at least 1"):
        await bq.run_worker(concurrency=0)
    with pytest.raises(ConfigurationError, match="max_jobs must be at least 1"):
        await bq.process(max_jobs=0)


async def test_a_worker_can_be_run_again_and_again(bq: BrokerQ) -> None:
    ran: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        ran.append(number)

    for number in range(3):
        await work.publish(number)
        await bq.run_worker(burst=True)
        await eventually(lambda: len(ran) == number + 1)  # noqa: B023 - awaited at once
    assert ran == [0, 1, 2]


async def test_a_bug_in_reading_ends_the_worker_with_it(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not only when somebody looks."""

    async def broken(self: LaneReader) -> None:
        raise ZeroDivisionError

    bq.queue("jobs")
    monkeypatch.setattr(LaneReader, "_receive_for_ever", broken)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(bq.run_worker(), 30)
