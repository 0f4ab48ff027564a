"""Cancelling: a waiting job ends when it comes up, a running one is told by its heartbeat."""

from __future__ import annotations

import asyncio
import threading

import pytest

from brokerq import BrokerQ, CancelAnswer, Context, State
from brokerq.errors import JobFailedError, NotFoundError
from tests.engine.conftest import SHORT_LEASE, eventually, working


@pytest.fixture
async def bq(bq: BrokerQ) -> BrokerQ:
    """With heartbeats every 100 ms."""
    bq.queue("default", lease=SHORT_LEASE)
    return bq


async def test_a_waiting_job_does_not_run(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None:
        raise AssertionError

    handles = [await work.publish(), await work.options(delay="20ms").publish()]
    assert [await handle.cancel() for handle in handles] == [CancelAnswer.CANCELLED] * 2
    assert (await bq.run_worker(burst=True)).outcomes == {}
    assert [(await handle.status()).state for handle in handles] == [State.CANCELLED] * 2
    with pytest.raises(JobFailedError, match="ended as cancelled"):
        await handles[0].result()


async def test_a_job_that_waits_for_its_next_attempt_ends(bq: BrokerQ) -> None:
    runs: list[int] = []

    @bq.job()
    async def work(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise ValueError

    handle = await work.publish()
    await bq.process(max_jobs=1)
    assert await handle.cancel() == CancelAnswer.CANCELLED
    await bq.run_worker(burst=True)
    assert runs == [1]


async def test_a_running_coroutine_is_cancelled(bq: BrokerQ) -> None:
    begun, ended = asyncio.Event(), list[bool]()

    @bq.job()
    async def work(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(ctx.cancelled)
            raise

    handle = await work.publish()
    async with working(bq):
        await begun.wait()
        assert await handle.cancel() == CancelAnswer.REQUESTED
        assert (await handle.wait("30s")).state == State.CANCELLED
    assert ended == [True]
    assert await handle.cancel() == CancelAnswer.CANCELLED


async def test_a_running_thread_sees_it_in_its_context(bq: BrokerQ) -> None:
    begun, ended = threading.Event(), threading.Event()

    @bq.job()
    def work(ctx: Context) -> None:
        begun.set()
        while not ctx.cancelled:
            ended.wait(0.005)
        raise RuntimeError("I was told to")

    handle = await work.publish()
    async with working(bq):
        await eventually(begun.is_set)
        await handle.cancel()
        assert (await handle.wait("30s")).state == State.CANCELLED


async def test_what_succeeds_all_the_same_has_succeeded(bq: BrokerQ) -> None:
    begun = asyncio.Event()

    @bq.job()
    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "too late to stop"
        return "never"

    handle = await stubborn.publish()
    async with working(bq):
        await begun.wait()
        await handle.cancel()
        assert await handle.result("30s") == "too late to stop"
    assert await handle.cancel() == CancelAnswer.TOO_LATE


async def test_a_job_that_fails_after_it_was_asked_to_end_is_not_retried(bq: BrokerQ) -> None:
    runs: list[int] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def work(ctx: Context) -> None:
        runs.append(ctx.attempt)
        begun.set()
        await gate.wait()
        raise ValueError

    handle = await work.publish()
    async with working(bq):
        await begun.wait()
        await handle.cancel()
        gate.set()
        assert (await handle.wait("30s")).state == State.CANCELLED
    assert runs == [1]


async def test_there_is_nothing_to_cancel(bq: BrokerQ) -> None:
    bq.queue("other")
    with pytest.raises(NotFoundError, match="no job"):
        await bq.handle("nobody").cancel()
    with pytest.raises(NotFoundError, match="past its retention"):
        await bq.handle("nobody").status()
