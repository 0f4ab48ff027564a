"""A worker runs until it is stopped, and hands back what it has not done."""

from __future__ import annotations

import asyncio

from brokerq import BrokerQ, State


async def test_a_worker_stops_when_it_is_asked_to(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> str:
        return "done"

    stop = asyncio.Event()
    worker = asyncio.create_task(bq.run_worker(stop=stop))
    handle = await work.publish()
    assert await handle.result(timeout="5s") == "done"
    stop.set()
    assert (await worker).outcomes == {"succeeded": 1}


async def test_a_job_that_the_stop_interrupts_has_used_up_no_attempt(bq: BrokerQ) -> None:
    begun, stop = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def slow() -> None:
        begun.set()
        await asyncio.sleep(60)

    handle = await slow.publish()
    worker = asyncio.create_task(bq.run_worker(stop=stop, grace="0s"))
    await begun.wait()
    stop.set()
    await worker
    view = await handle.status()
    assert (view.state, view.attempts) == (State.QUEUED, 0)


async def test_a_host_that_is_woken_by_a_timer_works_for_a_while(bq: BrokerQ) -> None:
    @bq.job()
    async def work(number: int) -> int:
        return number

    await work.publish_many(work.arguments(number) for number in range(10))
    report = await bq.process(max_jobs=4, max_runtime="10s")
    assert report.outcomes == {"succeeded": 4}
    assert [queue.ready for queue in await bq.queues.stats()] == [6]
