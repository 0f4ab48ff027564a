"""A worker that stops gives back what it did not begin, waits, interrupts, and loses nothing."""

from __future__ import annotations

import asyncio
import threading

import pytest

from brokerq import BrokerQ, Context, State
from brokerq.engine import worker as worker_module
from tests.engine.conftest import ONCE, eventually, in_ms, working


async def test_what_was_not_begun_is_given_back_uncounted(bq: BrokerQ) -> None:
    gate, begun = asyncio.Event(), list[int]()

    @bq.job(retry=ONCE)
    async def work(number: int) -> None:
        begun.append(number)
        await gate.wait()

    await work.publish_many(work.arguments(number) for number in range(20))
    stop = asyncio.Event()
    worker = asyncio.create_task(bq.run_worker(concurrency=2, stop=stop))
    await eventually(lambda: len(begun) == 2)
    stop.set()
    await eventually(lambda: _ready(bq, 18))
    gate.set()
    report = await worker
    assert report.outcomes == {"succeeded": 2}
    assert len(begun) == 2
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.in_flight) == (18, 0)
    await bq.run_worker(burst=True)
    assert sorted(begun) == list(range(20))


async def _ready(bq: BrokerQ, count: int) -> bool:
    [stats] = await bq.queues.stats()
    return stats.ready == count


async def test_running_jobs_get_their_grace(bq: BrokerQ) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def work() -> str:
        begun.set()
        await gate.wait()
        return "done"

    handle = await work.publish()
    worker = asyncio.create_task(bq.run_worker())
    await begun.wait()
    worker.cancel()
    done, _ = await asyncio.wait([worker], timeout=0.1)
    assert not done
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await handle.result() == "done"


async def test_a_job_interrupted_by_the_stop_counts_no_attempt(bq: BrokerQ) -> None:
    attempts: list[int] = []
    cleaned: list[str] = []

    @bq.job(retry=ONCE)
    async def work(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) > 1:
            return
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("yes" if ctx.cancelled else "no")

    handle = await work.publish()
    async with working(bq, grace="0s") as worker:
        await eventually(lambda: attempts == [1])
    assert (await worker).outcomes == {"queued": 1}
    view = await handle.status()
    assert (view.state, view.attempts, view.crashes) == (State.QUEUED, 0, 0)
    assert cleaned == ["yes"]
    await bq.run_worker(burst=True)
    assert attempts == [1, 1]
    assert (await handle.status()).attempts == 1


async def test_a_second_stop_ends_the_grace(bq: BrokerQ) -> None:
    begun = asyncio.Event()

    @bq.job()
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    handle = await work.publish()
    worker = asyncio.create_task(bq.run_worker(grace="1m"))
    await begun.wait()
    worker.cancel()
    await asyncio.sleep(0)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(worker, 30)
    assert (await handle.status()).state == State.QUEUED


async def test_a_job_that_began_in_the_instant_of_the_stop_is_given_back(bq: BrokerQ) -> None:
    """The interruption may come before the handler's first step."""
    stop = asyncio.Event()

    @bq.job()
    async def work(number: int) -> None:
        stop.set()
        await asyncio.sleep(60)

    await work.publish_many(work.arguments(number) for number in range(5))
    report = await asyncio.wait_for(bq.run_worker(grace="0s", stop=stop), 30)
    assert report.abandoned == 0
    assert set(report.outcomes) == {"queued"}


async def test_a_thread_that_does_not_return_is_abandoned_and_said_so(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "GIVE_WAY", in_ms(50))
    begun, release = threading.Event(), threading.Event()

    @bq.job()
    def stuck() -> None:
        begun.set()
        release.wait()

    handle = await stuck.publish()
    async with working(bq, grace="0s") as worker:
        await eventually(begun.is_set)
    release.set()
    report = await worker
    assert report.abandoned == 1
    assert (await handle.status()).state == State.RUNNING  # until its lease ends


async def test_a_thread_is_told_to_end(bq: BrokerQ) -> None:
    begun = threading.Event()

    @bq.job()
    def patient(ctx: Context) -> str:
        begun.set()
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        return "gave way"

    handle = await patient.publish()
    async with working(bq, grace="0s"):
        await eventually(begun.is_set)
    assert await handle.result() == "gave way"  # it returned: it has succeeded
