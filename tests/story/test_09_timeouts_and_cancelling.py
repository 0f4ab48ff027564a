"""A job that takes too long, or is not wanted any more, is made to end."""

from __future__ import annotations

import asyncio

from brokerq import BrokerQ, CancelAnswer, RetryPolicy, State


async def test_a_timeout_is_a_failed_attempt(bq: BrokerQ) -> None:
    """Every job has one: five minutes, unless it says otherwise."""

    @bq.job(timeout="20ms", retry=RetryPolicy(max_attempts=1))
    async def slow() -> None:
        await asyncio.sleep(60)

    handle = await slow.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == State.DEAD
    assert view.failure is not None
    assert view.failure.message == "ran longer than its timeout of 20ms"


async def test_a_job_that_waits_is_cancelled_at_once(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None:
        raise AssertionError

    handle = await work.publish()
    assert await handle.cancel() == CancelAnswer.CANCELLED
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.CANCELLED


async def test_a_job_that_runs_is_asked_to_end(bq: BrokerQ) -> None:
    """Its worker learns of it with the next heartbeat, a third of the queue's lease."""
    bq.queue("default", lease="150ms")
    begun = asyncio.Event()

    @bq.job()
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    handle = await work.publish()
    worker = asyncio.create_task(bq.run_worker(burst=True))
    await begun.wait()
    assert await handle.cancel() == CancelAnswer.REQUESTED
    await worker
    assert (await handle.status()).state == State.CANCELLED
